/* change_row.c -- change.row: a table whose columns are decoded on demand.
 *
 * row = { [hidden] = row data }, see hidden.h. Its metamethods are closures: upvalue 1 is the row
 * class, upvalue 2 a table from the names of columns to their places.
 *
 * SPDX-License-Identifier: MIT */
#include "lua/change_row.h"

#include "lua/json.h"
#include "lua/script.h"
#include "pg/document.h"

#include <lauxlib.h>
#include <string.h>

/* Stands in the side table for nil where that was assigned to a column. (Not pgcdc.null: for a JSON
 * column that is a document, not NULL.) */
static const char nothing;

/* Pushes side table <which> of the row at <index>, made if it is not there. */
static void push_made_side(lua_State *L, int index, int which)
{
    rowdata_push_of(L, index);                                 /* data */
    rowdata_make_side(L, -1, which);                           /* data side */
    lua_remove(L, -2);
}

/* Pushes entry <name> of side table <which>; true if it is there, else it is nil. (It may be
 * &nothing: nil was assigned.) */
static bool push_from_side(lua_State *L, int index, int which, const char *name)
{
    rowdata_push_side(L, index, which);
    if (lua_isnil(L, -1))
        return false;
    lua_pushstring(L, name);
    lua_rawget(L, -2);
    lua_remove(L, -2);
    return !lua_isnil(L, -1);
}

/* As change_row_push_extra. Returns true if the script has assigned it, even if that was nil. */
static bool push_extra(lua_State *L, int index, const char *name)
{
    bool is_set = push_from_side(L, index, ROWDATA_SET, name);

    if (is_set && lua_touserdata(L, -1) == &nothing) {
        lua_pop(L, 1);
        lua_pushnil(L);
    }
    return is_set;
}

void change_row_push_extra(lua_State *L, int index, const char *name)
{
    push_extra(L, index, name);
}

bool change_row_is_null(lua_State *L, const struct rowtype_column *c)
{
    return lua_isnil(L, -1) || lua_touserdata(L, -1) == &nothing ||
           (json_null_at(L, -1) && (c->kind != TYPES_JSON || c->wants_to_json));
}

void change_row_push_column(lua_State *L, const struct row_class *class, int row, size_t i)
{
    const struct rowtype_column *column = &class->rowtype->columns[i];
    struct rowdata *d = rowdata_at(L, row, class);

    if (!d->has_side && column->kind != TYPES_JSON) {
        rowdata_push_field(L, class, d, i);
        return;
    }
    if (push_from_side(L, row, ROWDATA_SET, column->name)) {
        if (change_row_is_null(L, column)) {
            lua_pop(L, 1);
            lua_pushnil(L);
        }
        return;
    }
    lua_pop(L, 1);
    if (column->kind != TYPES_JSON) {
        rowdata_push_field(L, class, d, i);
        return;
    }
    if (push_from_side(L, row, ROWDATA_DECODED, column->name))
        return;
    lua_pop(L, 1);
    rowdata_push_field(L, class, d, i);                        /* value */
    if (lua_istable(L, -1)) { /* the script may change it, so it must stay the same one */
        push_made_side(L, row, ROWDATA_DECODED);
        lua_pushstring(L, column->name);
        lua_pushvalue(L, -3);
        lua_rawset(L, -3);
        lua_pop(L, 1);
    }
}

bool change_row_lacks(lua_State *L, const struct row_class *class, int row, size_t i)
{
    struct rowdata *d = rowdata_at(L, row, class);
    bool is_set;

    if (!rowdata_is_unknown(L, class, d, i))
        return false;
    is_set = push_from_side(L, row, ROWDATA_SET, class->rowtype->columns[i].name);
    lua_pop(L, 1);
    return !is_set;
}

void change_row_push_lacked(lua_State *L, const struct row_class *class, int row)
{
    lua_Integer n = 0;

    row = lua_absindex(L, row);
    for (size_t i = 0; rowdata_at(L, row, class)->has_unknown && i < class->rowtype->n_row; i++) {
        if (!rowdata_is_unknown(L, class, rowdata_at(L, row, class), i))
            continue;
        if (n == 0) {
            lua_createtable(L, 1, 0);
            json_push_array_metatable(L);
            lua_setmetatable(L, -2);
        }
        lua_pushstring(L, class->rowtype->columns[i].name);
        lua_rawseti(L, -2, ++n);
    }
    if (n == 0)
        lua_pushnil(L);
}

/* ---- reading and writing ---- */

/* The column's index, or -1. */
static lua_Integer column_index(lua_State *L, int name)
{
    lua_Integer i = -1;

    lua_pushvalue(L, name);
    if (lua_rawget(L, lua_upvalueindex(2)) == LUA_TNUMBER)
        i = lua_tointeger(L, -1);
    lua_pop(L, 1);
    return i;
}

/* Pushes the value of the name at index 2 in the row at index 1, or nil. Returns whether the row
 * has such a name. */
static bool push_value(lua_State *L)
{
    lua_Integer i = column_index(L, 2);

    if (i >= 0) {
        change_row_push_column(L, row_class_upvalue(L), 1, (size_t)i);
        return true;
    }
    lua_settop(L, 2);
    rowdata_at(L, 1, row_class_upvalue(L));
    if (lua_type(L, 2) == LUA_TSTRING)
        return push_extra(L, 1, lua_tostring(L, 2));
    lua_pushnil(L);
    return false;
}

/* Pushes the list of the names of the row at index 1. */
static void push_names(lua_State *L)
{
    const struct rowtype *s = row_class_upvalue(L)->rowtype;
    lua_Integer n = (lua_Integer)s->n_row;

    lua_createtable(L, (int)n, 0);                             /* list */
    for (size_t i = 0; i < s->n_row; i++) {
        lua_pushstring(L, s->columns[i].name);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    rowdata_push_side(L, 1, ROWDATA_SET);                      /* list side */
    for (lua_Integer k = 1; lua_istable(L, -1); k++) {
        if (lua_rawgeti(L, -1, k) == LUA_TNIL) {
            lua_pop(L, 1);
            break;
        }
        lua_rawseti(L, -3, ++n);
    }
    lua_pop(L, 1);
}

static int row_index(lua_State *L)
{
    const struct rowtype *s = row_class_upvalue(L)->rowtype;

    if (push_value(L) || lua_type(L, 2) != LUA_TSTRING)
        return 1;
    row_class_push_method(L, 2);
    if (!lua_isnil(L, -1))
        return 1;
    row_class_push_name(L, s);
    push_names(L);
    return row_class_throw_unknown(L, 2, "column", lua_tostring(L, -2));
}

/* row:get(name): as the index, but nil for a column that is not there. */
static int row_get(lua_State *L)
{
    lua_settop(L, 2);
    push_value(L);
    return 1;
}

/* Keeps the list of the names that are no columns, in the array part of the side table: the name at
 * index 2 is added to it, or removed if the value at index 3 is nil. */
static void set_extra(lua_State *L, int side)
{
    lua_Integer n = (lua_Integer)lua_rawlen(L, side), at = 0;

    for (lua_Integer i = 1; i <= n && at == 0; i++) {
        lua_rawgeti(L, side, i);
        if (lua_rawequal(L, -1, 2))
            at = i;
        lua_pop(L, 1);
    }
    if (at == 0 && !lua_isnil(L, 3)) {
        lua_pushvalue(L, 2);
        lua_rawseti(L, side, n + 1);
    } else if (at > 0 && lua_isnil(L, 3)) {
        for (; at <= n; at++) {
            lua_rawgeti(L, side, at + 1);
            lua_rawseti(L, side, at);
        }
    }
}

static int row_newindex(lua_State *L)
{
    if (lua_type(L, 2) != LUA_TSTRING)
        return luaL_error(L, "a row has columns, and a %s is not the name of one",
                          luaL_typename(L, 2));
    rowdata_at(L, 1, row_class_upvalue(L));
    push_made_side(L, 1, ROWDATA_SET);                         /* row name value side */
    if (column_index(L, 2) < 0) {
        set_extra(L, 4);
    }
    if (lua_isnil(L, 3)) {
        lua_pushlightuserdata(L, (void *)&nothing);
        lua_replace(L, 3);
    }
    lua_pushvalue(L, 2);
    lua_pushvalue(L, 3);
    lua_rawset(L, 4);
    return 0;
}

/* The iterator of pairs(row): columns in order, then what the script added. Upvalue 2: the
 * count. */
static int row_next(lua_State *L)
{
    const struct row_class *class = row_class_upvalue(L);
    lua_Integer i = lua_tointeger(L, lua_upvalueindex(2));

    rowdata_at(L, 1, class); /* a script may pass anything */
    while ((size_t)i < class->rowtype->n_row && change_row_lacks(L, class, 1, (size_t)i))
        i++;
    lua_pushinteger(L, i + 1);
    lua_replace(L, lua_upvalueindex(2));
    if ((size_t)i < class->rowtype->n_row) {
        lua_pushstring(L, class->rowtype->columns[i].name);
        change_row_push_column(L, class, 1, (size_t)i);
        return 2;
    }
    rowdata_push_side(L, 1, ROWDATA_SET);                      /* side */
    if (lua_isnil(L, -1))
        return 1;
    lua_rawgeti(L, -1, i - (lua_Integer)class->rowtype->n_row + 1); /* side name */
    if (lua_isnil(L, -1))
        return 1;
    lua_pushvalue(L, -1);
    lua_rawget(L, -3);                                         /* side name value */
    return 2;
}

static int row_pairs(lua_State *L)
{
    rowdata_at(L, 1, row_class_upvalue(L));
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, row_next, 2);
    lua_pushvalue(L, 1);
    return 2;
}

/* ---- JSON ---- */

void change_row_put_assigned(lua_State *L, const struct row_class *class, size_t i, struct buf *b,
                             int depth)
{
    enum types_kind kind = class->rowtype->columns[i].kind;
    size_t len;
    const char *s;

    if (change_row_is_null(L, &class->rowtype->columns[i])) {
        buf_puts(b, "null");
        return;
    }
    if (lua_type(L, -1) != LUA_TSTRING) {
        json_put_nested(L, -1, b, depth);
        return;
    }
    s = lua_tolstring(L, -1, &len);
    if (kind == TYPES_NUMERIC && document_is_number(s, len)) {
        buf_add(b, s, len);
    } else if (kind == TYPES_BYTEA) {
        buf_puts(b, "\"\\\\x");
        for (size_t k = 0; k < len; k++)
            buf_printf(b, "%02x", (unsigned char)s[k]);
        buf_putc(b, '"');
    } else if (!types_put_string(b, s, len)) {
        row_class_throw_text(L, class, i);
    }
}

/* A row of which the script has assigned or decoded something. */
struct touched {
    const struct row_class *class;
    struct rowdata *d;
    int set, decoded; /* indexes of its side tables, or of nil */
};

/* Appends the JSON of the document on top of the stack, which the script decoded. False, and
 * nothing was appended, if it is not changed: then it passes as the server wrote it. */
static bool put_changed(lua_State *L, const struct touched *row, size_t i, struct buf *b,
                        int depth)
{
    size_t start = b->len, middle, end;
    bool same;

    json_put_nested(L, -1, b, depth);
    middle = b->len;
    rowdata_push_field(L, row->class, row->d, i);
    json_put(L, -1, b);
    lua_pop(L, 1);
    end = b->len;
    same = middle - start == end - middle &&
           memcmp(b->data + start, b->data + middle, end - middle) == 0;
    b->len = same ? start : middle;
    return !same;
}

static void put_touched(lua_State *L, const struct touched *row, size_t i, struct buf *b,
                        int depth)
{
    const struct rowtype_column *column = &row->class->rowtype->columns[i];
    bool is_done = false;

    if (lua_istable(L, row->set)) {
        is_done = lua_getfield(L, row->set, column->name) != LUA_TNIL;
        if (is_done)
            change_row_put_assigned(L, row->class, i, b, depth);
        lua_pop(L, 1);
    }
    if (!is_done && column->kind == TYPES_JSON && lua_istable(L, row->decoded)) {
        is_done = lua_getfield(L, row->decoded, column->name) != LUA_TNIL &&
                  put_changed(L, row, i, b, depth);
        lua_pop(L, 1);
    }
    if (!is_done)
        rowdata_put_json(L, row->class, row->d, i, b);
}

/* Appends the names that are no columns, with their values, of the side table on top of the stack.
 * <is_first>: no column was put. */
static void put_extras(lua_State *L, bool is_first, struct buf *b, int depth)
{
    for (lua_Integer k = 1; lua_istable(L, -1); k++) {
        size_t len;
        const char *name;

        if (lua_rawgeti(L, -1, k) == LUA_TNIL) {               /* side name */
            lua_pop(L, 1);
            break;
        }
        name = lua_tolstring(L, -1, &len);
        if (k > 1 || !is_first)
            buf_putc(b, ',');
        if (!types_put_string(b, name, len))
            luaL_error(L, "the name of a column that was added is not valid UTF-8");
        buf_putc(b, ':');
        lua_rawget(L, -2);                                     /* side value */
        json_put_nested(L, -1, b, depth);
        lua_pop(L, 1);
    }
}

void change_row_put(lua_State *L, const struct row_class *class, int index, struct buf *b,
                    int depth)
{
    struct rowdata *d = rowdata_at(L, index, class);
    struct touched row = { class, d, lua_gettop(L) + 2, lua_gettop(L) + 1 };
    bool is_touched = d->has_side, is_first = true;

    index = lua_absindex(L, index);
    if (is_touched) {
        rowdata_push_side(L, index, ROWDATA_DECODED);          /* decoded */
        rowdata_push_side(L, index, ROWDATA_SET);              /* decoded set */
    }
    buf_putc(b, '{');
    for (size_t i = 0; i < class->rowtype->n_row; i++) {
        if (d->has_unknown && change_row_lacks(L, class, index, i))
            continue;
        if (!is_first)
            buf_putc(b, ',');
        is_first = false;
        row_class_put_text(b, class->labels[i]);
        if (is_touched)
            put_touched(L, &row, i, b, depth);
        else
            rowdata_put_json(L, class, d, i, b);
    }
    if (is_touched) {
        put_extras(L, is_first, b, depth);
        lua_pop(L, 2);
    }
    buf_putc(b, '}');
    json_check(L, b);
}

static void put_class(lua_State *L, int index, struct buf *b, int depth)
{
    change_row_put(L, row_class_at(L, index), index, b, depth);
}

static int row_tostring(lua_State *L)
{
    struct buf *b = script_scratch(L);

    change_row_put(L, row_class_upvalue(L), 1, b, 0);
    lua_pushlstring(L, b->data, b->len);
    return 1;
}

/* ---- rows and their metatable ---- */

static const struct json_class row_class = { put_class };

bool change_row_is(lua_State *L, int index)
{
    return json_class_at(L, index) == &row_class;
}

bool change_row_is_of(lua_State *L, int index, int change)
{
    const struct rowdata *d = rowdata_find(L, index);

    return d != NULL && change_row_is(L, index) && rowdata_find(L, change) == d;
}

void change_row_push_metatable(lua_State *L, int class_at)
{
    const struct row_class *class = row_class_from(L, class_at);
    int names;

    class_at = lua_absindex(L, class_at);
    lua_createtable(L, 0, (int)class->rowtype->n_row);         /* names */
    names = lua_gettop(L);
    for (size_t i = 0; i < class->rowtype->n_row; i++) {
        lua_pushinteger(L, (lua_Integer)i);
        lua_setfield(L, names, class->rowtype->columns[i].name);
    }
    lua_createtable(L, 0, 8);                                  /* names mt */
    row_class_set_method(L, "__index", row_index, class_at, names);
    row_class_set_method(L, "__get", row_get, class_at, names);
    row_class_set_method(L, "__newindex", row_newindex, class_at, names);
    row_class_set_method(L, "__pairs", row_pairs, class_at, names);
    row_class_set_method(L, "__tostring", row_tostring, class_at, names);
    json_set_class(L, -1, "pgcdc.row", &row_class);
    row_class_set(L, -1, class_at);
    lua_remove(L, names);                                      /* mt */
}

void change_row_push_old(lua_State *L, int index, int metatable)
{
    metatable = lua_absindex(L, metatable);
    index = lua_absindex(L, index);
    lua_createtable(L, 0, 1);                                  /* row */
    rowdata_push_of(L, index);
    lua_getiuservalue(L, -1, ROWDATA_OLD);
    lua_remove(L, -2);                                         /* row data */
    rowdata_set(L, -2);
    lua_pushvalue(L, metatable);
    lua_setmetatable(L, -2);
}

bool change_row_is_old_of(lua_State *L, int index, int change)
{
    const struct rowdata *d = rowdata_find(L, change), *own = rowdata_find(L, index);
    bool is;

    if (d == NULL || !d->has_old || !change_row_is(L, index))
        return false;
    rowdata_push_of(L, change);                                /* data */
    lua_getiuservalue(L, -1, ROWDATA_OLD);                     /* data old */
    is = lua_touserdata(L, -1) == own;
    lua_pop(L, 2);
    return is;
}

void change_row_push_changed(lua_State *L, const struct row_class *class, int change)
{
    struct rowdata *d = rowdata_at(L, change, class), *old = NULL;
    lua_Integer n = 0;

    lua_getfield(L, change, "old");                            /* old */
    if (change_row_is(L, -1) && row_class_at(L, -1)->rowtype == class->rowtype)
        old = rowdata_at(L, -1, class);
    if (old == NULL || d->is_key_only) {
        lua_pop(L, 1);
        lua_pushnil(L);
        return;
    }
    lua_createtable(L, 4, 0);                                  /* old list */
    json_push_array_metatable(L);
    lua_setmetatable(L, -2);
    for (size_t i = 0; i < class->rowtype->n_row; i++) {
        struct copytext_field a = rowdata_field(L, class, d, i);
        struct copytext_field b = rowdata_field(L, class, old, i);

        if ((a.len == b.len && memcmp(a.p, b.p, a.len) == 0) || copytext_is_unknown(a))
            continue;
        lua_pushstring(L, class->rowtype->columns[i].name);
        lua_rawseti(L, -2, ++n);
    }
    lua_remove(L, -2);                                         /* list */
}

void change_row_push(lua_State *L, int index, int metatable)
{
    index = lua_absindex(L, index);
    metatable = lua_absindex(L, metatable);
    lua_createtable(L, 0, 1);
    rowdata_push_of(L, index);
    rowdata_set(L, -2);
    lua_pushvalue(L, metatable);
    lua_setmetatable(L, -2);
}
