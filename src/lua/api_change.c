/* api_change.c -- changes that are made by hand, and deletes that are made of changes.
 *
 * All fields of the row data of those made by hand are NULL: the values are in the side table of
 * what was assigned.
 *
 * SPDX-License-Identifier: MIT */
#include "lua/api_change.h"

#include "capture/rowtype_derive.h"
#include "lua/change.h"
#include "lua/change_key.h"
#include "lua/change_row.h"
#include "lua/clone.h"
#include "lua/json.h"
#include "lua/script.h"

#include <lauxlib.h>
#include <string.h>

#define MOST_COLUMNS 100000 /* they are on the stack of Lua at once */

/* Pushes a field of the table at index 1; returns its text, borrowed from there. [-0, +1] */
static const char *push_text_field(lua_State *L, const char *name)
{
    lua_getfield(L, 1, name);
    return luaL_checkstring(L, -1);
}

static int drop_box(lua_State *L)
{
    struct rowtype **box = lua_touserdata(L, 1);

    rowtype_unref(*box);
    *box = NULL;
    return 0;
}

/* Pushes a userdata that will drop the row type that is put into it. */
static struct rowtype **push_box(lua_State *L)
{
    struct rowtype **box = lua_newuserdatauv(L, sizeof *box, 0);

    *box = NULL;
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, drop_box);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    return box;
}

static int change_class(lua_State *L)
{
    struct rowtype_derive_hand hand = { 0 };
    struct rowtype **box;
    const char **names;
    size_t *key;

    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    lua_getfield(L, 1, "names");                               /* spec names */
    lua_getfield(L, 1, "key");                                 /* spec names key */
    lua_getfield(L, 1, "n_row");
    hand.n_row = (size_t)luaL_checkinteger(L, -1);
    luaL_checktype(L, 2, LUA_TTABLE);
    luaL_checktype(L, 3, LUA_TTABLE);
    hand.database = push_text_field(L, "database");
    hand.schema = push_text_field(L, "schema");
    hand.table = push_text_field(L, "table");
    hand.n = (size_t)lua_rawlen(L, 2);
    hand.n_key = (size_t)lua_rawlen(L, 3);
    luaL_argcheck(L, hand.n < MOST_COLUMNS, 1, "too many columns");
    luaL_checkstack(L, (int)hand.n + 20, "columns");
    hand.names = names = lua_newuserdatauv(L, (hand.n + 1) * sizeof *names, 0);
    hand.key = key = lua_newuserdatauv(L, (hand.n_key + 1) * sizeof *key, 0);
    for (size_t i = 0; i < hand.n; i++) {
        lua_rawgeti(L, 2, (lua_Integer)i + 1);
        names[i] = luaL_checkstring(L, -1); /* it stays on the stack */
    }
    for (size_t k = 0; k < hand.n_key; k++) {
        lua_rawgeti(L, 3, (lua_Integer)k + 1);
        key[k] = (size_t)luaL_checkinteger(L, -1) - 1;
        luaL_argcheck(L, key[k] < hand.n, 1, "no such column");
        lua_pop(L, 1);
    }
    luaL_argcheck(L, hand.n_row <= hand.n, 1, "n_row is too large");
    box = push_box(L);
    *box = rowtype_derive_by_hand(&hand);
    if (*box == NULL)
        luaL_error(L, "out of memory");
    change_push_class(L, *box, push_text_field(L, "source"));
    return 1;
}

static struct row_class *check_class(lua_State *L)
{
    struct row_class *class = row_class_test(L, 1);

    luaL_argcheck(L, class != NULL, 1, "a class is needed");
    return class;
}

/* Pushes row data without values, for the class at index 1. */
static struct rowdata *push_data(lua_State *L, const struct row_class *class, enum op op)
{
    static const char null[] = "\\N\t";
    size_t n = class->rowtype->n_columns, size = sizeof null - 1;
    struct rowdata like = { .op = op }, *d;
    char *to;

    clock_utc(like.ts);
    d = rowdata_push_like(L, &like, class->rowtype, n, n > 0 ? n * size - 1 : 0);
    to = (char *)(d->ends + n);
    for (size_t i = 0; i < n; i++) {
        memcpy(to + i * size, null, i + 1 < n ? size : size - 1);
        d->ends[i] = (uint32_t)(i * size + size - 1);
    }
    d->is_split = true;
    return d;
}

/* Puts the values of the table at <row> into the row data on top of the stack. */
static void set_values(lua_State *L, const struct row_class *class, int row)
{
    rowdata_make_side(L, -1, ROWDATA_SET);                     /* data side */
    for (size_t i = 0; i < class->rowtype->n_row; i++) {
        lua_pushstring(L, class->rowtype->columns[i].name);
        lua_pushvalue(L, -1);
        lua_rawget(L, row);
        lua_rawset(L, -3);
    }
    lua_pop(L, 1);
}

static int change_new(lua_State *L)
{
    static const char *const ops[] = { "read", "upsert", "insert", "update", "delete", NULL };
    struct row_class *class = check_class(L);
    int op = luaL_checkoption(L, 2, NULL, ops);
    bool has_row = lua_istable(L, 3);
    struct rowdata *d;

    luaL_checktype(L, 4, LUA_TTABLE);
    lua_settop(L, 4);
    lua_createtable(L, 0, 4);                                  /* class op row key change */
    d = push_data(L, class, (enum op)op);
    d->is_key_only = !has_row;
    if (has_row)
        set_values(L, class, 3);
    rowdata_set(L, 5);
    lua_createtable(L, 0, (int)class->rowtype->n_key);         /* change key */
    for (size_t k = 0; k < class->rowtype->n_key; k++) {
        lua_pushstring(L, class->rowtype->columns[class->rowtype->key[k]].name);
        lua_pushvalue(L, -1);
        lua_rawget(L, 4);
        lua_rawset(L, -3);
    }
    change_push_part_metatable(L, 1, CHANGE_PART_KEY);
    lua_setmetatable(L, -2);
    lua_setfield(L, 5, "key");
    change_push_part_metatable(L, 1, CHANGE_PART_CHANGE);
    lua_setmetatable(L, 5);
    return 1;
}

static int change_row(lua_State *L)
{
    struct row_class *class = check_class(L);

    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 2);
    lua_createtable(L, 0, 1);
    push_data(L, class, OP_UPSERT);
    set_values(L, class, 2);
    rowdata_set(L, 3);
    change_push_part_metatable(L, 1, CHANGE_PART_ROW);
    lua_setmetatable(L, 3);
    return 1;
}

static int is_by_hand(lua_State *L)
{
    bool is_ours = change_is(L, 1) || change_row_is(L, 1);

    lua_pushboolean(L, is_ours && row_class_at(L, 1)->rowtype->is_by_hand);
    return 1;
}

/* ---- deletes ---- */

static bool is_in_key(const struct rowtype *s, size_t i)
{
    for (size_t k = 0; k < s->n_key; k++)
        if (s->key[k] == i)
            return true;
    return i >= s->n_row;
}

/* Pushes row data with the key of <d>, and NULL for what else is in its row. */
static void push_key_data(lua_State *L, const struct row_class *class, struct rowdata *d)
{
    static const char null[] = "\\N";
    size_t n = class->rowtype->n_columns, len = n > 0 ? n - 1 : 0, at = 0;
    struct rowdata *new;

    for (size_t i = 0; i < n; i++)
        len += is_in_key(class->rowtype, i) ? rowdata_field(L, class, d, i).len : sizeof null - 1;
    new = rowdata_push_like(L, d, class->rowtype, n, len);
    for (size_t i = 0; i < n; i++) {
        struct copytext_field f = { null, sizeof null - 1 };

        if (is_in_key(class->rowtype, i))
            f = rowdata_field(L, class, d, i);
        memcpy((char *)(new->ends + n) + at, f.p, f.len);
        at += f.len;
        new->ends[i] = (uint32_t)at;
        if (i + 1 < n)
            ((char *)(new->ends + n))[at++] = '\t';
    }
    new->is_split = new->is_key_only = true;
    new->op = OP_DELETE;
}

/* Clears a field of the table at <index>. */
static void clear(lua_State *L, int index, const char *name)
{
    lua_pushnil(L);
    lua_setfield(L, index, name);
}

static int change_delete(lua_State *L)
{
    struct row_class *class;

    luaL_argcheck(L, change_is(L, 1), 1, "a change is needed");
    lua_settop(L, 1);
    lua_getfield(L, 1, "old"); /* makes it a field of the table, which is copied */
    lua_settop(L, 1);
    row_class_push_of(L, 1);                                   /* change class */
    class = row_class_at(L, 1);
    clone_push_fields(L, 1);                                   /* change class new */
    clear(L, 3, "row");
    clear(L, 3, "op");
    clone_values(L);
    if (lua_getfield(L, 3, "id") == LUA_TSTRING) {             /* change class new id */
        lua_pushfstring(L, "%s/deleted", lua_tostring(L, -1));
        lua_setfield(L, 3, "id");
    }
    lua_settop(L, 3);
    push_key_data(L, class, rowdata_at(L, 1, class));
    rowdata_set(L, 3);
    change_push_part_metatable(L, 2, CHANGE_PART_CHANGE);
    lua_setmetatable(L, 3);
    return 1;
}

static int utc(lua_State *L)
{
    char text[CLOCK_TEXT];

    clock_utc(text);
    lua_pushstring(L, text);
    return 1;
}

/* The JSON of change.key, without making that. */
static int key_json(lua_State *L)
{
    struct buf *b;

    lua_settop(L, 1);
    luaL_argcheck(L, change_is(L, 1), 1, "a change");
    b = script_scratch(L);
    change_key_put_json(L, 1, b);
    json_check(L, b);
    lua_pushlstring(L, b->data, b->len);
    return 1;
}

void api_change_export(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "change_class", change_class }, { "change_new", change_new },
        { "change_row", change_row }, { "is_by_hand", is_by_hand },
        { "change_delete", change_delete }, { "key_json", key_json }, { "utc", utc },
        { NULL, NULL },
    };

    luaL_setfuncs(L, functions, 0);
    change_push_field_names(L);
    lua_setfield(L, -2, "change_fields");
}
