/* change.c -- a change as Lua sees it.
 *
 * change = { [hidden] = row data, row = <row>, old = <row>, key = <key> }, see hidden.h
 *
 * The fields row, old and key are made when they are first asked for. The metamethods are closures:
 * upvalue 1 is the row class, upvalue 2 the table `shared`, which maps the names of fields to enum
 * known, and holds what enum shared lists.
 *
 * SPDX-License-Identifier: MIT */
#include "lua/change.h"

#include "base/text.h"
#include "lua/change_id.h"
#include "lua/change_key.h"
#include "lua/change_plain.h"
#include "lua/change_row.h"
#include "lua/json.h"
#include "pg/lsn.h"
#include "lua/script.h"

#include <lauxlib.h>
#include <string.h>

/* The fields that every change has, in the order of pairs and of JSON. Pairs leaves out the last
 * five, JSON the source as well. */
enum known { KNOWN_OP, KNOWN_SCHEMA, KNOWN_TABLE, KNOWN_SOURCE, KNOWN_KEY, KNOWN_ROW, KNOWN_OLD,
             KNOWN_XID, KNOWN_SEQ, KNOWN_TS, KNOWN_ID, KNOWN_DATABASE, KNOWN_CHANGED, KNOWN_LSN,
             KNOWN_COMMIT_TS, KNOWN_UNCHANGED, KNOWN_COUNT };
static const char *const known_names[KNOWN_COUNT] = {
    "op", "schema", "table", "source", "key", "row", "old", "xid", "seq", "ts", "id", "database",
    "changed", "lsn", "commit_ts", "unchanged",
};
#define KNOWN_SHOWN KNOWN_DATABASE

enum shared { SHARED_ROW_MT = 1, SHARED_KEY_MT, SHARED_CHANGE_MT, SHARED_SOURCE };

/* ---- fields ---- */

static void push_shared(lua_State *L, int which)
{
    lua_rawgeti(L, lua_upvalueindex(2), which);
}

/* Keeps the value on top of the stack as the field that was asked for. */
static void keep_field(lua_State *L)
{
    lua_pushvalue(L, 2);
    lua_pushvalue(L, -2);
    lua_rawset(L, 1);
}

/* Pushes the key, the row or the old row, and keeps it in the change: a script may change it. */
static void push_key(lua_State *L, const struct row_class *class, struct rowdata *d)
{
    change_key_push(L, class, d);
    push_shared(L, SHARED_KEY_MT);
    lua_setmetatable(L, -2);
    keep_field(L);
}

static void push_row(lua_State *L, bool is_old)
{
    push_shared(L, SHARED_ROW_MT);
    if (is_old)
        change_row_push_old(L, 1, -1);
    else
        change_row_push(L, 1, -1);
    keep_field(L);
}

static void push_id(lua_State *L, const struct row_class *class, struct rowdata *d)
{
    struct buf *b = script_scratch(L);

    change_id_put(L, class, d, b);
    json_check(L, b);
    lua_pushlstring(L, b->data, b->len);
}

static void push_known(lua_State *L, struct row_class *class, struct rowdata *d, enum known known)
{
    char lsn[LSN_TEXT], ts[CLOCK_TEXT];

    switch (known) {
    case KNOWN_OP:
        lua_pushstring(L, row_class_op_names[d->op]);
        return;
    case KNOWN_SCHEMA:
        lua_pushstring(L, class->rowtype->schema);
        return;
    case KNOWN_TABLE:
        lua_pushstring(L, class->rowtype->table);
        return;
    case KNOWN_SOURCE:
        push_shared(L, SHARED_SOURCE);
        return;
    case KNOWN_KEY:
        push_key(L, class, d);
        return;
    case KNOWN_ROW:
        if (d->is_key_only)
            break;
        push_row(L, false);
        return;
    case KNOWN_OLD:
        if (!d->has_old)
            break;
        push_row(L, true);
        return;
    case KNOWN_XID:
        if (class->rowtype->has_no_xid)
            break;
        lua_pushinteger(L, (lua_Integer)d->xid);
        return;
    case KNOWN_SEQ:
        if (d->seq == 0)
            break;
        lua_pushinteger(L, (lua_Integer)d->seq);
        return;
    case KNOWN_TS:
        lua_pushstring(L, d->ts);
        return;
    case KNOWN_ID:
        push_id(L, class, d);
        return;
    case KNOWN_DATABASE:
        lua_pushstring(L, class->rowtype->database);
        return;
    case KNOWN_CHANGED:
        change_row_push_changed(L, class, 1);
        return;
    case KNOWN_LSN:
        if (d->log.lsn == 0)
            break;
        lua_pushstring(L, lsn_write(d->log.lsn, lsn));
        return;
    case KNOWN_COMMIT_TS:
        if (d->log.lsn == 0)
            break;
        clock_write(d->log.us, ts);
        lua_pushstring(L, ts);
        return;
    case KNOWN_UNCHANGED:
        change_row_push_lacked(L, class, 1);
        return;
    case KNOWN_COUNT:
        break;
    }
    lua_pushnil(L);
}

/* Pushes the field at index 2 of the change at index 1. False, and pushes nothing of use, if it is
 * none that every change has. */
static bool push_field(lua_State *L)
{
    struct row_class *class = row_class_upvalue(L);

    lua_pushvalue(L, 2);
    if (!lua_isstring(L, 2) || lua_rawget(L, lua_upvalueindex(2)) != LUA_TNUMBER)
        return false;
    push_known(L, class, rowdata_at(L, 1, class), (enum known)lua_tointeger(L, -1));
    return true;
}

/* Pushes the list of the fields of the change at index 1. */
static void push_field_names(lua_State *L)
{
    lua_Integer n = KNOWN_COUNT;

    lua_createtable(L, KNOWN_COUNT, 0);                        /* list */
    for (lua_Integer i = 0; i < KNOWN_COUNT; i++) {
        lua_pushstring(L, known_names[i]);
        lua_rawseti(L, -2, i + 1);
    }
    for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1))        /* list name value */
        if (lua_type(L, -2) == LUA_TSTRING) {
            lua_pushvalue(L, -2);
            lua_rawseti(L, -4, ++n);
        }
}

static int change_index(lua_State *L)
{
    if (push_field(L))
        return 1;
    lua_settop(L, 2);
    rowdata_at(L, 1, row_class_upvalue(L));
    if (lua_type(L, 2) != LUA_TSTRING) {
        lua_pushnil(L);
        return 1;
    }
    row_class_push_method(L, 2);
    if (!lua_isnil(L, -1))
        return 1;
    push_field_names(L);
    return row_class_throw_unknown(L, 2, "field", "a change");
}

/* change:get(name): as the index, but nil for a field that is not there. */
static int change_get(lua_State *L)
{
    lua_settop(L, 2);
    rowdata_at(L, 1, row_class_upvalue(L));
    lua_pushvalue(L, 2);
    if (lua_isnil(L, 2) || lua_rawget(L, 1) == LUA_TNIL) {
        if (!push_field(L))
            lua_pushnil(L);
    }
    return 1;
}

/* The iterator of pairs(change): gives the known fields that are there, in order, then those that
 * the script added. Upvalue 1: {name, value, ...} as at the start; upvalue 2: the count. */
static int change_next(lua_State *L)
{
    lua_Integer i = lua_tointeger(L, lua_upvalueindex(2));

    lua_pushinteger(L, i + 2);
    lua_replace(L, lua_upvalueindex(2));
    lua_rawgeti(L, lua_upvalueindex(1), i + 1);
    lua_rawgeti(L, lua_upvalueindex(1), i + 2);
    return 2;
}

static bool is_known(const char *name)
{
    for (size_t i = 0; i < KNOWN_COUNT; i++)
        if (strcmp(known_names[i], name) == 0)
            return true;
    return false;
}

/* Pushes the list of the names that a script added to the change at <index>, sorted. A second list
 * keeps the names alive meanwhile: a finalizer may run in any allocation, and may remove them from
 * the change. */
static void push_added(lua_State *L, int index)
{
    struct text_name *names;
    lua_Integer n = 0;

    lua_createtable(L, 0, 0);                                  /* held */
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1))
        if (lua_type(L, -2) == LUA_TSTRING && !is_known(lua_tostring(L, -2))) {
            lua_pushvalue(L, -2);
            lua_rawseti(L, -4, ++n);
        }
    names = lua_newuserdatauv(L, ((size_t)n + 1) * sizeof *names, 0); /* held names */
    for (lua_Integer i = 0; i < n; i++) {
        lua_rawgeti(L, -2, i + 1);
        names[i].p = lua_tolstring(L, -1, &names[i].len); /* the list keeps it */
        lua_pop(L, 1);
    }
    text_sort_names(names, (size_t)n);
    lua_createtable(L, (int)n, 0);                             /* held names list */
    for (lua_Integer i = 0; i < n; i++) {
        lua_pushlstring(L, names[i].p, names[i].len);
        lua_rawseti(L, -2, i + 1);
    }
    lua_replace(L, -3);
    lua_pop(L, 1);                                             /* list */
}

static int change_pairs(lua_State *L)
{
    lua_Integer n = 0;

    rowdata_at(L, 1, row_class_upvalue(L));
    lua_settop(L, 1);
    push_added(L, 1);                                          /* change added */
    lua_createtable(L, 20, 0);                                 /* change added list */
    for (size_t i = 0; i < KNOWN_SHOWN; i++) {
        if (lua_getfield(L, 1, known_names[i]) == LUA_TNIL) {
            lua_pop(L, 1);
            continue;
        }
        lua_rawseti(L, 3, n + 2);
        lua_pushstring(L, known_names[i]);
        lua_rawseti(L, 3, n + 1);
        n += 2;
    }
    for (lua_Integer i = 1; lua_rawgeti(L, 2, i) != LUA_TNIL; i++, n += 2) {
        lua_pushvalue(L, -1);
        lua_rawseti(L, 3, n + 1);
        lua_rawget(L, 1);
        lua_rawseti(L, 3, n + 2);
    }
    lua_pop(L, 1);
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, change_next, 2);
    return 1;
}

static void put_old(lua_State *L, const struct row_class *class, int index, struct buf *b,
                    int depth)
{
    lua_getfield(L, index, known_names[KNOWN_OLD]);
    change_row_put(L, class, lua_gettop(L), b, depth);
    lua_pop(L, 1);
}

static void put_quoted(struct buf *b, const char *plain)
{
    buf_putc(b, '"');
    buf_puts(b, plain);
    buf_putc(b, '"');
}

static void put_name(lua_State *L, struct buf *b, const char *name)
{
    if (!types_put_string(b, name, strlen(name)))
        luaL_error(L, "the name of the table is not valid UTF-8");
}

static void put_row(lua_State *L, const struct row_class *class, int index, struct buf *b,
                    int depth)
{
    if (rowdata_at(L, index, class)->is_key_only)
        buf_puts(b, "null");
    else
        change_row_put(L, class, index, b, depth);
}

/* Appends the JSON of a field that the script has not replaced. */
static void put_known(lua_State *L, int index, enum known known, struct buf *b, int depth)
{
    const struct row_class *class = row_class_at(L, index);
    struct rowdata *d = rowdata_at(L, index, class);

    switch (known) {
    case KNOWN_OP:
        put_quoted(b, row_class_op_names[d->op]);
        return;
    case KNOWN_SCHEMA:
        put_name(L, b, class->rowtype->schema);
        return;
    case KNOWN_TABLE:
        put_name(L, b, class->rowtype->table);
        return;
    case KNOWN_KEY:
        change_key_put(L, class, d, b);
        return;
    case KNOWN_ROW:
        put_row(L, class, index, b, depth);
        return;
    case KNOWN_OLD:
        put_old(L, class, index, b, depth);
        return;
    case KNOWN_XID:
        rowdata_put_xid(class, d, b);
        return;
    case KNOWN_SEQ:
        rowdata_put_seq(d, b);
        return;
    case KNOWN_TS:
        put_quoted(b, d->ts);
        return;
    case KNOWN_ID:
        change_id_put_json(L, class, d, b);
        return;
    default: /* it is not in the JSON */
        break;
    }
    buf_puts(b, "null");
}

/* Appends the known fields of a change of which the script replaced or added some. */
static void put_all_known(lua_State *L, const struct row_class *class, int index, struct buf *b,
                          int depth)
{
    const struct rowdata *d = rowdata_at(L, index, class);

    for (enum known known = 0; known < KNOWN_SHOWN; known++) {
        bool is_set;

        if (known == KNOWN_SOURCE)
            continue;
        lua_pushstring(L, known_names[known]);
        is_set = lua_rawget(L, index) != LUA_TNIL;
        if (known != KNOWN_OLD || is_set || d->has_old) {
            buf_puts(b, known == KNOWN_OP ? "\"" : ",\"");
            buf_puts(b, known_names[known]);
            buf_puts(b, "\":");
            if (is_set)
                json_put_nested(L, -1, b, depth);
            else
                put_known(L, index, known, b, depth);
        }
        lua_pop(L, 1);
    }
}

/* Appends the fields that the script added. */
static void put_added(lua_State *L, int index, struct buf *b, int depth)
{
    push_added(L, index);                                      /* added */
    for (lua_Integer i = 1; lua_rawgeti(L, -1, i) != LUA_TNIL; i++) {
        size_t len;
        const char *name = lua_tolstring(L, -1, &len);

        buf_putc(b, ',');
        if (!types_put_string(b, name, len))
            luaL_error(L, "the name of a field of a change is not valid UTF-8");
        buf_putc(b, ':');
        lua_rawget(L, index);
        json_put_nested(L, -1, b, depth);
        lua_pop(L, 1);
    }
    lua_pop(L, 2);
}

/* Appends a change of which the script has touched nothing but what is in its row. */
static void put_untouched(lua_State *L, const struct row_class *class, int index, struct buf *b,
                          int depth)
{
    struct rowdata *d = rowdata_at(L, index, class);

    change_plain_put_head(L, class, d, b);
    put_row(L, class, index, b, depth);
    if (d->has_old) {
        buf_puts(b, ",\"old\":");
        put_old(L, class, index, b, depth);
    }
    change_plain_put_tail(L, class, d, b);
}

/* True if the field on top of the stack, its value above its name, is the row or the old row that
 * the change would give anyway. */
static bool is_own_row(lua_State *L, int change)
{
    const char *name = lua_tostring(L, -2);

    return (strcmp(name, known_names[KNOWN_ROW]) == 0 && change_row_is_of(L, -1, change)) ||
           (strcmp(name, known_names[KNOWN_OLD]) == 0 && change_row_is_old_of(L, -1, change));
}

static void put_change(lua_State *L, int index, struct buf *b, int depth)
{
    const struct row_class *class = row_class_at(L, index);
    bool is_touched = false;

    rowdata_at(L, index, class);
    index = lua_absindex(L, index);
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1))
        is_touched = is_touched || (lua_type(L, -2) == LUA_TSTRING && !is_own_row(L, index));
    if (is_touched) {
        buf_putc(b, '{');
        put_all_known(L, class, index, b, depth);
        put_added(L, index, b, depth);
        buf_putc(b, '}');
    } else {
        put_untouched(L, class, index, b, depth);
    }
    json_check(L, b);
}

static int change_tostring(lua_State *L)
{
    struct buf *b = script_scratch(L);

    rowdata_at(L, 1, row_class_upvalue(L));
    put_change(L, 1, b, 0);
    lua_pushlstring(L, b->data, b->len);
    return 1;
}

/* ---- metatables ---- */

static const struct json_class change_class = { put_change };

/* Pushes the table `shared`, with the names of fields only. */
static void push_shared_table(lua_State *L)                    /* [-0, +1] */
{
    lua_createtable(L, SHARED_SOURCE, KNOWN_COUNT);
    for (int known = 0; known < KNOWN_COUNT; known++) {
        lua_pushinteger(L, known);
        lua_setfield(L, -2, known_names[known]);
    }
}

static void push_metatable(lua_State *L, int class_at, int shared) /* [-0, +1] */
{
    lua_createtable(L, 0, 8);
    json_set_class(L, -1, "pgcdc.change", &change_class);
    row_class_set(L, -1, class_at);
    row_class_set_method(L, "__index", change_index, class_at, shared);
    row_class_set_method(L, "__get", change_get, class_at, shared);
    row_class_set_method(L, "__pairs", change_pairs, class_at, shared);
    row_class_set_method(L, "__tostring", change_tostring, class_at, shared);
}

/* The class holds the metatables of its changes, rows and keys. */
void change_push_class(lua_State *L, struct rowtype *rowtype, const char *source)
{
    int class_at, shared;

    row_class_push(L, rowtype, source);                        /* class */
    class_at = lua_gettop(L);
    push_shared_table(L);                                      /* class shared */
    shared = lua_gettop(L);
    change_row_push_metatable(L, class_at);
    lua_rawseti(L, shared, SHARED_ROW_MT);
    change_key_push_metatable(L, class_at);
    lua_rawseti(L, shared, SHARED_KEY_MT);
    lua_pushstring(L, source);
    lua_rawseti(L, shared, SHARED_SOURCE);
    push_metatable(L, class_at, shared);
    lua_rawseti(L, shared, SHARED_CHANGE_MT);
    lua_setiuservalue(L, class_at, ROW_CLASS_SHARED);
}

/* Pushes a thing that the class at <class_at> shares with its changes. */
static void push_of_shared(lua_State *L, int class_at, enum shared which)
{
    lua_getiuservalue(L, class_at, ROW_CLASS_SHARED);
    lua_rawgeti(L, -1, which);
    lua_remove(L, -2);
}

void change_push_class_like(lua_State *L, struct rowtype *rowtype, int class_at)
{
    class_at = lua_absindex(L, class_at);
    push_of_shared(L, class_at, SHARED_SOURCE);                /* source */
    change_push_class(L, rowtype, lua_tostring(L, -1));           /* source class */
    lua_remove(L, -2);
}

void change_push_part_metatable(lua_State *L, int class_at, enum change_part part)
{
    static const enum shared places[] = { SHARED_CHANGE_MT, SHARED_ROW_MT, SHARED_KEY_MT };

    push_of_shared(L, class_at, places[part]);
}

void change_push_field_names(lua_State *L)
{
    lua_createtable(L, KNOWN_COUNT, 0);
    for (int known = 0; known < KNOWN_COUNT; known++) {
        lua_pushstring(L, known_names[known]);
        lua_rawseti(L, -2, known + 1);
    }
}

bool change_is(lua_State *L, int index)
{
    return json_class_at(L, index) == &change_class;
}

void change_push_metatable(lua_State *L, struct rowtype *rowtype, const char *source, int *ref)
{
    if (*ref != LUA_NOREF) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, *ref);               /* mt */
        if (row_class_of_metatable(L, -1)->rowtype == rowtype)
            return;
        lua_pop(L, 1);
    }
    change_push_class(L, rowtype, source);                        /* class */
    change_push_part_metatable(L, -1, CHANGE_PART_CHANGE);
    lua_remove(L, -2);                                         /* mt */
    luaL_unref(L, LUA_REGISTRYINDEX, *ref);
    lua_pushvalue(L, -1);
    *ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

void change_push(lua_State *L, int metatable, const struct chunk *chunk,
                 const struct chunk_row *row)
{
    lua_createtable(L, 0, 2);                                  /* change */
    rowdata_push(L, chunk, row);
    rowdata_set(L, -2);
    lua_pushvalue(L, metatable);
    lua_setmetatable(L, -2);
}

void change_push_example(lua_State *L, int metatable, const struct rowtype *rowtype)
{
    static const struct rowdata like = { .op = OP_READ };
    size_t n = rowtype->n_columns;
    struct rowdata *d;
    char *p;

    lua_createtable(L, 0, 2);                                  /* change */
    d = rowdata_push_like(L, &like, rowtype, n, 3 * n - 1);
    p = (char *)(d->ends + n);
    for (size_t i = 0; i < n; i++)
        memcpy(p + 3 * i, "\\N\t", i + 1 < n ? 3 : 2);
    rowdata_set(L, -2);
    lua_pushvalue(L, metatable);
    lua_setmetatable(L, -2);
}
