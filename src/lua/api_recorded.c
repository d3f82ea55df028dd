/* api_recorded.c -- changes of a recording, as the script got them.
 *
 * A change is made of a chunk with one row, whose bytes are a text of Lua that is on the stack
 * meanwhile.
 *
 * SPDX-License-Identifier: MIT */
#include "lua/api_recorded.h"

#include "capture/recording.h"
#include "capture/rowtype_derive.h"
#include "lua/change.h"
#include "lua/change_row.h"
#include "lua/json.h"
#include "lua/script.h"
#include "pg/lsn.h"

#include <lauxlib.h>
#include <string.h>

#define MOST_COLUMNS 100000
#define LONGEST_ROW UINT32_MAX

/* Throws that the recording is damaged at the line in hand. */
static int damaged(lua_State *L, const char *name)
{
    return luaL_error(L, "the recording is damaged: no good '%s'", name);
}

/* Pushes a field of the table at <index> that must be text. Returns it, borrowed from there. */
static const char *push_text(lua_State *L, int index, const char *name) /* [-0, +1] */
{
    if (lua_getfield(L, index, name) != LUA_TSTRING)
        damaged(L, name);
    return lua_tostring(L, -1);
}

/* As above; NULL where there is none. */
static const char *push_optional_text(lua_State *L, int index, const char *name) /* [-0, +1] */
{
    if (lua_getfield(L, index, name) != LUA_TNIL && lua_type(L, -1) != LUA_TSTRING)
        damaged(L, name);
    return lua_tostring(L, -1);
}

/* A field of the table at <index> that must be a whole number from <least> to <most>; 0 where it is
 * absent and <least> is 0. */
static lua_Integer number_of(lua_State *L, int index, const char *name, lua_Integer least,
                             lua_Integer most)
{
    bool is_absent = lua_getfield(L, index, name) == LUA_TNIL && least == 0;
    lua_Integer n = lua_tointeger(L, -1);

    if (!is_absent && (!lua_isinteger(L, -1) || n < least || n > most))
        damaged(L, name);
    lua_pop(L, 1);
    return n;
}

static bool is_true(lua_State *L, int index, const char *name)
{
    bool value;

    lua_getfield(L, index, name);
    value = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return value;
}

/* ---- classes ---- */

static enum types_kind kind_of(lua_State *L, int index)
{
    const char *name = push_text(L, index, "kind");

    for (size_t i = 0; i < RECORDING_KINDS; i++)
        if (strcmp(name, recording_kinds[i]) == 0) {
            lua_pop(L, 1);
            return (enum types_kind)i;
        }
    return (enum types_kind)damaged(L, "kind");
}

/* Reads the column on top of the stack. Pushes the texts that it borrows. */
static void read_column(lua_State *L, struct rowtype_column *c) /* [-1, +5] */
{
    int at = lua_gettop(L);

    if (!lua_istable(L, at))
        damaged(L, "columns");
    c->kind = kind_of(L, at);
    c->number = (uint16_t)number_of(L, at, "number", 0, UINT16_MAX);
    c->wants_to_json = is_true(L, at, "to_json");
    c->has_json_cast = is_true(L, at, "json_cast");
    c->is_computed = is_true(L, at, "computed");
    c->is_nullable = is_true(L, at, "nullable");
    c->is_text = is_true(L, at, "text");
    c->is_total = is_true(L, at, "total");
    c->name = (char *)push_text(L, at, "name");
    c->type = (char *)push_text(L, at, "type");
    c->base_type = (char *)push_optional_text(L, at, "base");
    c->parts = (char *)push_optional_text(L, at, "parts");
    c->expression = (char *)push_optional_text(L, at, "expression");
    lua_remove(L, at);
}

/* Pushes a field that must be a list. Returns its length. */
static size_t push_list(lua_State *L, const char *name)        /* [-0, +1] */
{
    if (lua_getfield(L, 1, name) != LUA_TTABLE || lua_rawlen(L, -1) > MOST_COLUMNS)
        damaged(L, name);
    return lua_rawlen(L, -1);
}

/* Pushes memory that lives as long as it is on the stack. */
static void *push_memory(lua_State *L, size_t n, size_t size)  /* [-0, +1] */
{
    void *p = lua_newuserdatauv(L, (n + 1) * size, 0);

    memset(p, 0, (n + 1) * size);
    return p;
}

static void read_columns(lua_State *L, struct rowtype *like)
{
    int list;

    like->n_columns = push_list(L, "columns");
    list = lua_gettop(L);
    luaL_checkstack(L, (int)like->n_columns * 5 + 20, "columns");
    like->columns = push_memory(L, like->n_columns, sizeof *like->columns);
    for (size_t i = 0; i < like->n_columns; i++) {
        lua_rawgeti(L, list, (lua_Integer)i + 1);
        read_column(L, &like->columns[i]);
    }
    like->n_row = (size_t)number_of(L, 1, "n_row", 0, (lua_Integer)like->n_columns);
    like->hides_key = is_true(L, 1, "hides_key");
    if (like->hides_key && like->n_row == like->n_columns)
        damaged(L, "n_row");
}

static void read_key(lua_State *L, struct rowtype *like)
{
    int list;

    like->n_key = push_list(L, "key");
    list = lua_gettop(L);
    like->key = push_memory(L, like->n_key, sizeof *like->key);
    for (size_t k = 0; k < like->n_key; k++) {
        lua_Integer place = lua_rawgeti(L, list, (lua_Integer)k + 1) == LUA_TNUMBER
                                ? lua_tointeger(L, -1) : 0;

        if (place < 1 || (size_t)place > like->n_columns)
            damaged(L, "key");
        like->key[k] = (size_t)place - 1;
        lua_pop(L, 1);
    }
}

static int drop_box(lua_State *L)
{
    struct rowtype **box = lua_touserdata(L, 1);

    rowtype_unref(*box);
    *box = NULL;
    return 0;
}

static int recorded_class(lua_State *L)
{
    struct rowtype like = { .soft = SIZE_MAX }, **box;

    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    read_columns(L, &like);
    read_key(L, &like);
    like.database = (char *)push_text(L, 1, "database");
    like.schema = (char *)push_text(L, 1, "schema");
    like.table = (char *)push_text(L, 1, "table");
    like.table_id = (char *)push_optional_text(L, 1, "table_id");
    like.started = (char *)push_optional_text(L, 1, "started");
    like.numbers = (char *)push_optional_text(L, 1, "numbers");
    like.has_no_xid = is_true(L, 1, "has_no_xid");
    like.has_place = is_true(L, 1, "has_place");
    box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = NULL;
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, drop_box);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    *box = rowtype_derive_recorded(&like);
    if (*box == NULL)
        luaL_error(L, "out of memory");
    change_push_class(L, *box, push_text(L, 1, "source"));
    return 1;
}

static struct row_class *check_class(lua_State *L)
{
    struct row_class *class = row_class_test(L, 1);

    luaL_argcheck(L, class != NULL, 1, "a class is needed");
    return class;
}

/* ---- changes ---- */

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Pushes the bytes of a row: the text of one field, or the hex digits of another one; nil if there
 * is neither. */
static void push_bytes(lua_State *L, const char *name, const char *hex) /* [-0, +1] */
{
    luaL_Buffer b;
    const char *from;
    size_t len;
    char *to;

    if (push_optional_text(L, 2, name) != NULL)
        return;
    lua_pop(L, 1);
    if (push_optional_text(L, 2, hex) == NULL)
        return;
    from = lua_tolstring(L, -1, &len);
    to = luaL_buffinitsize(L, &b, len / 2 + 1);
    for (size_t i = 0; i + 1 < len; i += 2) {
        int high = hex_digit(from[i]), low = hex_digit(from[i + 1]);

        if (high < 0 || low < 0)
            damaged(L, hex);
        to[i / 2] = (char)(high * 16 + low);
    }
    luaL_pushresultsize(&b, len / 2);                          /* digits bytes */
    lua_remove(L, -2);
}

static void read_log(lua_State *L, struct chunk_log *log)
{
    const char *lsn = push_optional_text(L, 2, "lsn");

    if (lsn != NULL && !lsn_read(lsn, &log->lsn))
        damaged(L, "lsn");
    lua_pop(L, 1);
    log->us = number_of(L, 2, "us", 0, INT64_MAX);
    log->nth = (uint32_t)number_of(L, 2, "nth", 0, UINT32_MAX);
}

static void read_place(lua_State *L, struct chunk_place *place)
{
    uint32_t *const parts[] = { &place->filenode, &place->block, &place->line };

    if (lua_getfield(L, 2, "place") == LUA_TTABLE)
        for (int i = 0; i < 3; i++) {
            lua_rawgeti(L, -1, i + 1);
            *parts[i] = (uint32_t)lua_tointeger(L, -1);
            lua_pop(L, 1);
        }
    lua_pop(L, 1);
}

static void read_row(lua_State *L, struct chunk_row *row)
{
    const char *op = push_text(L, 2, "op");
    int i = 0;

    while (i < OP_COUNT && strcmp(row_class_op_names[i], op) != 0)
        i++;
    if (i == OP_COUNT)
        damaged(L, "op");
    lua_pop(L, 1);
    row->op = (enum op)i;
    row->xid = (uint64_t)number_of(L, 2, "xid", 0, INT64_MAX);
    row->is_key_only = is_true(L, 2, "key_only");
    row->has_unknown = is_true(L, 2, "unknown");
    read_log(L, &row->log);
    read_place(L, &row->place);
}

static int recorded_change(lua_State *L)
{
    struct row_class *class = check_class(L);
    struct chunk_row row = { 0 };
    struct chunk_side side = { 0 };
    struct chunk chunk = { .rowtype = class->rowtype, .rows = &row, .n_rows = 1, .sides = &side };
    size_t row_len, old_len = 0;

    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 2);
    change_push_part_metatable(L, 1, CHANGE_PART_CHANGE);      /* class spec mt */
    read_row(L, &row);
    chunk.seq = (uint64_t)number_of(L, 2, "seq", 0, INT64_MAX);
    lua_getfield(L, 2, "ts");
    if (lua_type(L, -1) != LUA_TSTRING || lua_rawlen(L, -1) >= sizeof chunk.ts)
        damaged(L, "ts");
    memcpy(chunk.ts, lua_tostring(L, -1), lua_rawlen(L, -1) + 1);
    push_bytes(L, "row", "row_hex");
    if (lua_tolstring(L, -1, &row_len) == NULL)
        damaged(L, "row");
    push_bytes(L, "old", "old_hex");
    if (lua_tolstring(L, -1, &old_len) == NULL) {
        lua_pop(L, 1);
        lua_pushliteral(L, "");
    }
    if (row_len > LONGEST_ROW || old_len > LONGEST_ROW)
        damaged(L, "row");
    row.len = (uint32_t)row_len;
    side.old_start = row_len;
    side.old_len = (uint32_t)old_len;
    lua_concat(L, 2);                                          /* ... bytes */
    chunk.bytes = (char *)lua_tostring(L, -1);
    chunk.n_bytes = row_len + old_len;
    change_push(L, 3, &chunk, &row);
    return 1;
}

/* True if a script has put another row, or another value of it, into the change at index 1. */
static bool is_changed(lua_State *L, const struct rowdata *d)
{
    bool is_changed = false;

    lua_pushliteral(L, "row");
    if (lua_rawget(L, 1) != LUA_TNIL)
        is_changed = !change_row_is_of(L, -1, 1);
    lua_pop(L, 1);
    lua_pushliteral(L, "old");
    if (lua_rawget(L, 1) != LUA_TNIL)
        is_changed = is_changed || !change_row_is_old_of(L, -1, 1);
    lua_pop(L, 1);
    if (!d->has_side)
        return is_changed;
    rowdata_push_side(L, 1, ROWDATA_SET);
    if (lua_istable(L, -1)) {
        lua_pushnil(L);
        if (lua_next(L, -2) != 0) {
            is_changed = true;
            lua_pop(L, 2);
        }
    }
    lua_pop(L, 1);
    return is_changed;
}

/* Pushes the bytes of row data, and behind them those of the old row, which *side tells. */
static char *push_row_bytes(lua_State *L, struct rowdata *d, struct chunk_side *side) /* [-0, +1] */
{
    const struct rowdata *old = NULL;
    size_t old_len = 0;
    char *to;

    if (d->has_old) {
        rowdata_push_side(L, 1, ROWDATA_OLD);                  /* old */
        old = lua_touserdata(L, -1);
        old_len = old->len;
    } else {
        lua_pushnil(L);
    }
    to = lua_newuserdatauv(L, d->len + old_len + 1, 0);        /* old bytes */
    memcpy(to, d->ends + d->n_columns, d->len);
    if (old != NULL)
        memcpy(to + d->len, old->ends + old->n_columns, old->len);
    lua_remove(L, -2);
    side->old_start = d->len;
    side->old_len = (uint32_t)old_len;
    return to;
}

static int recorded_text(lua_State *L)
{
    struct row_class *class;
    struct chunk_side side = { 0 };
    struct chunk_row row = { 0 };
    struct chunk chunk = { .rows = &row, .n_rows = 1, .sides = &side };
    struct rowdata *d;
    struct buf *b;

    lua_settop(L, 1);
    luaL_argcheck(L, change_is(L, 1), 1, "a change");
    class = row_class_at(L, 1);
    d = rowdata_at(L, 1, class);
    if (class->rowtype->is_by_hand || is_changed(L, d))
        return 0;
    lua_pushliteral(L, "source");
    row_class_get(L, 1);                                       /* change source */
    chunk.rowtype = class->rowtype;
    chunk.bytes = push_row_bytes(L, d, &side);                 /* change source bytes */
    chunk.seq = d->seq;
    memcpy(chunk.ts, d->ts, sizeof chunk.ts);
    row = (struct chunk_row){ .len = d->len, .op = d->op, .is_key_only = d->is_key_only,
                              .has_unknown = d->has_unknown, .place = d->place, .xid = d->xid,
                              .log = d->log };
    b = script_scratch(L);
    recording_put_class(b, 1, lua_tostring(L, 2), class->rowtype);
    json_check(L, b);
    lua_pushlstring(L, b->data, b->len);
    b = script_scratch(L);
    recording_put_row(b, 1, &chunk, 0);
    json_check(L, b);
    lua_pushlstring(L, b->data, b->len);
    return 2;
}

static int recorded_example(lua_State *L)
{
    struct row_class *class = check_class(L);

    lua_settop(L, 1);
    change_push_part_metatable(L, 1, CHANGE_PART_CHANGE);
    change_push_example(L, 2, class->rowtype);
    return 1;
}

void api_recorded_export(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "recorded_class", recorded_class }, { "recorded_change", recorded_change },
        { "recorded_text", recorded_text },
        { "recorded_example", recorded_example }, { NULL, NULL },
    };

    luaL_setfuncs(L, functions, 0);
}
