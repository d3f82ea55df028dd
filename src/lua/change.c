/* change.c -- rows as Lua sees them: the change object.
 *
 * change = { [hidden] = cells, row = <row>, key = <key> }   row and key once asked for
 *
 * The metamethods are closures: upvalue 1 is the form, upvalue 2 the table
 * `shared`: names of fields -> enum what, and what enum shared lists.
 *
 * SPDX-License-Identifier: MIT */
#include "lua/change.h"

#include "lua/json.h"
#include "lua/change_row.h"
#include "lua/script.h"

#include <inttypes.h>
#include <lauxlib.h>
#include <string.h>

enum what { W_OP, W_SCHEMA, W_TABLE, W_SOURCE, W_KEY, W_ROW, W_OLD, W_XID, W_TS, W_ID, W_DATABASE,
            W_CHANGED, W_COUNT };
static const char *const what_names[] = { "op", "schema", "table", "source", "key", "row", "old",
                                          "xid", "ts", "id", "database", "changed", NULL };

/* The order of JSON, which leaves the source and the database out. */
static const enum what json_order[] = { W_OP, W_SCHEMA, W_TABLE, W_KEY, W_ROW, W_OLD, W_XID, W_TS,
                                        W_ID };

enum shared { SHARED_ROW_MT = 1, SHARED_KEY_MT, SHARED_CHANGE_MT, SHARED_SOURCE };

/* ---- JSON of what the server sent ---- */

static void put_raw_key(lua_State *L, const struct row_class *f, struct rowdata *c, struct buf *b)
{
    const struct rowtype *s = f->rowtype;

    buf_putc(b, '{');
    for (size_t k = 0; k < s->n_key; k++) {
        if (k > 0)
            buf_putc(b, ',');
        rowdata_put_text(b, f->labels[s->key[k]]);
        rowdata_put_json(L, f, c, s->key[k], b);
    }
    buf_putc(b, '}');
}

void change_put_id_key(lua_State *L, const struct row_class *f, struct rowdata *c, struct buf *b)
{
    const struct rowtype *s = f->rowtype;

    for (size_t k = 0; k < rowtype_n_id(s); k++) {
        struct field field = rowdata_field(L, f, c, rowtype_id(s, k));
        char *to;

        if (k > 0)
            buf_putc(b, ',');
        if (field_is_null(field)) {
            buf_puts(b, "null");
            continue;
        }
        to = buf_reserve(b, field.len + 3);
        json_check(L, b);
        b->len += s->columns[rowtype_id(s, k)].kind == KIND_TIMESTAMP && field.len < 64
                      ? field_timestamp(field, to) : field_unescape(field, to);
    }
}

static const char deleted[] = "/deleted"; /* behind the id of a row that is gone */

/* "schema.table/xid/key, key" without its quotes. */
static void put_id(lua_State *L, const struct row_class *f, struct rowdata *c, struct buf *b)
{
    buf_printf(b, "%s.%s/%" PRIu64 "/", f->rowtype->schema, f->rowtype->table, c->xid);
    change_put_id_key(L, f, c, b);
    if (c->is_gone)
        buf_puts(b, deleted);
}

static void put_id_json(lua_State *L, const struct row_class *f, struct rowdata *c, struct buf *b)
{
    const struct rowtype *s = f->rowtype;

    rowdata_put_text(b, f->id_head);
    buf_put_u64(b, c->xid);
    buf_putc(b, '/');
    for (size_t k = 0; k < rowtype_n_id(s); k++) {
        size_t i = rowtype_id(s, k);
        struct field field = rowdata_field(L, f, c, i);

        if (k > 0)
            buf_putc(b, ',');
        if (field_is_null(field))
            buf_puts(b, "null");
        else if (!field_put_text(b, s->columns[i].kind, field))
            rowdata_throw_utf8(L, f, i);
    }
    if (c->is_gone)
        buf_puts(b, deleted);
    buf_putc(b, '"');
}

static void put_ts(const struct rowdata *c, struct buf *b)
{
    buf_putc(b, '"');
    buf_puts(b, c->ts);
    buf_putc(b, '"');
}

/* ---- key: a plain table whose pairs and JSON keep the key's order ---- */

static int key_next(lua_State *L)
{
    const struct rowtype *s = change_row_upvalue_class(L)->rowtype;
    lua_Integer i = lua_tointeger(L, lua_upvalueindex(2));

    lua_pushinteger(L, i + 1);
    lua_replace(L, lua_upvalueindex(2));
    if ((size_t)i >= s->n_key) {
        lua_pushnil(L);
        return 1;
    }
    lua_pushstring(L, s->columns[s->key[i]].name);
    lua_pushvalue(L, -1);
    lua_rawget(L, 1);
    return 2;
}

static int key_pairs(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, key_next, 2);
    lua_pushvalue(L, 1);
    return 2;
}

static void put_key(lua_State *L, int index, struct buf *b, int depth)
{
    const struct row_class *f = rowdata_class(L, index);
    const struct rowtype *s = f->rowtype;

    index = lua_absindex(L, index);
    buf_putc(b, '{');
    for (size_t k = 0; k < s->n_key; k++) {
        if (k > 0)
            buf_putc(b, ',');
        rowdata_put_text(b, f->labels[s->key[k]]);
        lua_pushstring(L, s->columns[s->key[k]].name);
        lua_rawget(L, index);
        change_row_put_assigned(L, f, s->key[k], b, depth);
        lua_pop(L, 1);
    }
    buf_putc(b, '}');
    json_check(L, b);
}

static int key_tostring(lua_State *L)
{
    struct buf *b = script_scratch(L);

    luaL_checktype(L, 1, LUA_TTABLE);
    put_key(L, 1, b, 0);
    lua_pushlstring(L, b->data, b->len);
    return 1;
}

/* ---- change ---- */

static void push_shared(lua_State *L, int which)
{
    lua_rawgeti(L, lua_upvalueindex(2), which);
}

static void push_key(lua_State *L, const struct row_class *f, struct rowdata *c)
{
    const struct rowtype *s = f->rowtype;

    lua_createtable(L, 0, (int)s->n_key);                      /* key */
    for (size_t k = 0; k < s->n_key; k++) {
        lua_pushstring(L, s->columns[s->key[k]].name);
        rowdata_push_field(L, f, c, s->key[k]);
        lua_rawset(L, -3);
    }
    push_shared(L, SHARED_KEY_MT);
    lua_setmetatable(L, -2);
}

/* Remembers the value on top of the stack as the plain field that was asked for. */
static void keep_field(lua_State *L)
{
    lua_pushvalue(L, 2);
    lua_pushvalue(L, -2);
    lua_rawset(L, 1);
}

static void push_what(lua_State *L, struct row_class *f, struct rowdata *c, enum what what)
{
    struct buf *b;

    switch (what) {
    case W_OP:
        lua_pushstring(L, rowdata_op_names[c->op]);
        return;
    case W_SCHEMA:
        lua_pushstring(L, f->rowtype->schema);
        return;
    case W_TABLE:
        lua_pushstring(L, f->rowtype->table);
        return;
    case W_SOURCE:
        push_shared(L, SHARED_SOURCE);
        return;
    case W_KEY:
        push_key(L, f, c);
        keep_field(L);
        return;
    case W_ROW:
        if (c->is_gone)
            break;
        push_shared(L, SHARED_ROW_MT);
        change_row_push(L, 1, -1);
        keep_field(L);
        return;
    case W_XID:
        if (f->rowtype->has_no_xid)
            break;
        lua_pushinteger(L, (lua_Integer)c->xid);
        return;
    case W_TS:
        lua_pushstring(L, c->ts);
        return;
    case W_ID:
        b = script_scratch(L);
        put_id(L, f, c, b);
        json_check(L, b);
        lua_pushlstring(L, b->data, b->len);
        return;
    case W_DATABASE:
        lua_pushstring(L, f->rowtype->database);
        return;
    case W_OLD:
        if (!c->has_old)
            break;
        push_shared(L, SHARED_ROW_MT);
        change_row_push_old(L, 1, -1);
        keep_field(L);
        return;
    case W_CHANGED:
        change_row_push_changed(L, f, 1);
        return;
    case W_COUNT:
        break;
    }
    lua_pushnil(L);
}

static int change_index(lua_State *L)
{
    struct row_class *f = change_row_upvalue_class(L);
    enum what what;

    lua_pushvalue(L, 2);
    if (!lua_isstring(L, 2) || lua_rawget(L, lua_upvalueindex(2)) != LUA_TNUMBER) {
        lua_pushnil(L);
        return 1;
    }
    what = (enum what)lua_tointeger(L, -1);
    push_what(L, f, rowdata_at(L, 1, f), what);
    return 1;
}

/* pairs(change): the known fields that are there, in order, then those that the script added.
 * A snapshot: {name, value, ...} in upvalue 1, the count in upvalue 2. */
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
    for (size_t i = 0; what_names[i] != NULL; i++)
        if (strcmp(what_names[i], name) == 0)
            return true;
    return false;
}

/* Sorts the <n> texts of the list on top of the stack; not by table.sort, which is the script's. */
static void sort_names(lua_State *L, lua_Integer n)
{
    for (lua_Integer i = 2; i <= n; i++) {
        lua_rawgeti(L, -1, i);                                 /* list name */
        for (lua_Integer k = i; k > 1; k--) {
            lua_rawgeti(L, -2, k - 1);                         /* list name before */
            if (!lua_compare(L, -2, -1, LUA_OPLT)) {
                lua_pop(L, 1);
                break;
            }
            lua_rawseti(L, -3, k);                             /* list name */
            lua_pushvalue(L, -1);
            lua_rawseti(L, -3, k - 1);
        }
        lua_pop(L, 1);
    }
}

/* Pushes the list of the names that a script added to the change at <index>, sorted. */
static void push_added(lua_State *L, int index)
{
    lua_Integer n = 0;

    lua_createtable(L, 0, 0);                                  /* list */
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1))
        if (lua_type(L, -2) == LUA_TSTRING && !is_known(lua_tostring(L, -2))) {
            lua_pushvalue(L, -2);
            lua_rawseti(L, -4, ++n);
        }
    sort_names(L, n);
}

static int change_pairs(lua_State *L)
{
    lua_Integer n = 0;

    rowdata_at(L, 1, change_row_upvalue_class(L));
    lua_settop(L, 1);
    push_added(L, 1);                                          /* change added */
    lua_createtable(L, 20, 0);                                 /* change added list */
    for (size_t i = 0; i < W_DATABASE; i++) {
        if (lua_getfield(L, 1, what_names[i]) == LUA_TNIL) {
            lua_pop(L, 1);
            continue;
        }
        lua_rawseti(L, 3, n + 2);
        lua_pushstring(L, what_names[i]);
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

static void put_old(lua_State *L, const struct row_class *f, int index, struct buf *b, int depth)
{
    lua_getfield(L, index, what_names[W_OLD]);
    change_row_put(L, f, lua_gettop(L), b, depth);
    lua_pop(L, 1);
}

/* The JSON of one field that the script has not replaced. */
static void put_what(lua_State *L, const struct row_class *f, int index, enum what what,
                     struct buf *b, int depth)
{
    struct rowdata *c = rowdata_at(L, index, f);

    switch (what) {
    case W_KEY:
        put_raw_key(L, f, c, b);
        return;
    case W_ROW:
        if (c->is_gone)
            break;
        change_row_put(L, f, index, b, depth);
        return;
    case W_OLD:
        put_old(L, f, index, b, depth);
        return;
    case W_XID:
        rowdata_put_xid(f, c, b);
        return;
    case W_TS:
        put_ts(c, b);
        return;
    case W_ID:
        put_id_json(L, f, c, b);
        return;
    case W_OP:
        buf_putc(b, '"');
        buf_puts(b, rowdata_op_names[c->op]);
        buf_putc(b, '"');
        return;
    case W_SCHEMA:
    case W_TABLE:
        if (!types_put_string(b, what == W_SCHEMA ? f->rowtype->schema : f->rowtype->table,
                              strlen(what == W_SCHEMA ? f->rowtype->schema : f->rowtype->table)))
            luaL_error(L, "the name of the table is not valid UTF-8");
        return;
    case W_SOURCE:
    case W_DATABASE:
    case W_CHANGED:
    case W_COUNT:
        break;
    }
    buf_puts(b, "null");
}

/* A change of which the script replaced or added fields. */
static void put_touched(lua_State *L, const struct row_class *f, int index, struct buf *b,
                        int depth)
{
    const struct rowdata *c = rowdata_at(L, index, f);
    bool first = true;

    buf_putc(b, '{');
    for (size_t i = 0; i < sizeof json_order / sizeof *json_order; i++) {
        enum what what = json_order[i];
        bool is_set;

        lua_pushstring(L, what_names[what]);
        is_set = lua_rawget(L, index) != LUA_TNIL;
        if (what != W_OLD || is_set || c->has_old) {
            buf_puts(b, first ? "\"" : ",\"");
            buf_puts(b, what_names[what]);
            buf_puts(b, "\":");
            first = false;
            if (is_set)
                json_put_nested(L, -1, b, depth);
            else
                put_what(L, f, index, what, b, depth);
        }
        lua_pop(L, 1);
    }
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
    buf_putc(b, '}');
}

/* True if the field on top of the stack, its value above its name, is nothing but the row, or the
 * one before, that the change would give anyway. */
static bool is_own_row(lua_State *L, int change)
{
    const char *name = lua_tostring(L, -2);

    return (strcmp(name, what_names[W_ROW]) == 0 && change_row_is_of(L, -1, change)) ||
           (strcmp(name, what_names[W_OLD]) == 0 && change_row_is_old_of(L, -1, change));
}

static void put_change(lua_State *L, int index, struct buf *b, int depth)
{
    const struct row_class *f = rowdata_class(L, index);
    struct rowdata *c = rowdata_at(L, index, f);
    bool is_touched = false;

    index = lua_absindex(L, index);
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1))
        is_touched = is_touched || (lua_type(L, -2) == LUA_TSTRING && !is_own_row(L, index));
    if (is_touched) {
        put_touched(L, f, index, b, depth);
    } else {
        rowdata_put_text(b, f->heads[c->op]);
        put_raw_key(L, f, c, b);
        buf_puts(b, ",\"row\":");
        put_what(L, f, index, W_ROW, b, depth);
        if (c->has_old) {
            buf_puts(b, ",\"old\":");
            put_old(L, f, index, b, depth);
        }
        buf_puts(b, ",\"xid\":");
        rowdata_put_xid(f, c, b);
        buf_puts(b, ",\"ts\":");
        put_ts(c, b);
        buf_puts(b, ",\"id\":");
        put_id_json(L, f, c, b);
        buf_putc(b, '}');
    }
    json_check(L, b);
}

static int change_tostring(lua_State *L)
{
    struct buf *b = script_scratch(L);

    rowdata_at(L, 1, change_row_upvalue_class(L));
    put_change(L, 1, b, 0);
    lua_pushlstring(L, b->data, b->len);
    return 1;
}

/* ---- metatables ---- */

static const struct json_class change_class = { put_change }, key_class = { put_key };

static void push_class(lua_State *L, const char *name, const struct json_class *class, int form)
{
    lua_createtable(L, 0, 8);
    json_set_class(L, -1, name, class);
    rowdata_set_class(L, -1, form);
}

/* Pushes a form, and keeps with it the metatables of what is made of it. */
static void push_form(lua_State *L, struct rowtype *rowtype, const char *source)
{
    int form, shared;

    rowdata_push_class(L, rowtype);
    form = lua_gettop(L);
    lua_createtable(L, SHARED_SOURCE, W_COUNT);
    shared = lua_gettop(L);
    for (int w = 0; w < W_COUNT; w++) {
        lua_pushinteger(L, w);
        lua_setfield(L, shared, what_names[w]);
    }
    change_row_push_metatable(L, form);
    lua_rawseti(L, shared, SHARED_ROW_MT);
    push_class(L, "pgcdc.key", &key_class, form);
    change_row_set_method(L, "__pairs", key_pairs, form, shared);
    change_row_set_method(L, "__tostring", key_tostring, form, shared);
    lua_rawseti(L, shared, SHARED_KEY_MT);
    lua_pushstring(L, source);
    lua_rawseti(L, shared, SHARED_SOURCE);
    push_class(L, "pgcdc.change", &change_class, form);
    change_row_set_method(L, "__index", change_index, form, shared);
    change_row_set_method(L, "__pairs", change_pairs, form, shared);
    change_row_set_method(L, "__tostring", change_tostring, form, shared);
    lua_rawseti(L, shared, SHARED_CHANGE_MT);
    lua_setiuservalue(L, form, ROW_CLASS_SHARED);
}

static void push_of_shared(lua_State *L, int form, enum shared which)
{
    lua_getiuservalue(L, form, ROW_CLASS_SHARED);
    lua_rawgeti(L, -1, which);
    lua_remove(L, -2);
}

void change_push_class_like(lua_State *L, struct rowtype *rowtype, int form)
{
    form = lua_absindex(L, form);
    push_of_shared(L, form, SHARED_SOURCE);                    /* source */
    push_form(L, rowtype, lua_tostring(L, -1));                  /* source form */
    lua_remove(L, -2);
}

void change_push_part_metatable(lua_State *L, int form, enum change_part part)
{
    static const enum shared places[] = { SHARED_CHANGE_MT, SHARED_ROW_MT, SHARED_KEY_MT };

    push_of_shared(L, form, places[part]);
}

bool change_is(lua_State *L, int index)
{
    return json_class_at(L, index) == &change_class;
}

bool change_is_key(lua_State *L, int index)
{
    return json_class_at(L, index) == &key_class;
}

void change_push_metatable(lua_State *L, struct rowtype *rowtype, const char *source, int *ref)
{
    if (*ref != LUA_NOREF) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, *ref);               /* mt */
        if (rowdata_metatable_class(L, -1)->rowtype == rowtype)
            return;
        lua_pop(L, 1);
    }
    push_form(L, rowtype, source);                               /* form */
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
