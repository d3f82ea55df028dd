/* change_key.c -- change.key: a plain table whose pairs and JSON keep the order of the key.
 * SPDX-License-Identifier: MIT */
#include "lua/change_key.h"

#include "lua/change_row.h"
#include "lua/json.h"
#include "lua/script.h"

#include <lauxlib.h>

void change_key_put(lua_State *L, const struct row_class *class, struct rowdata *d, struct buf *b)
{
    const struct rowtype *s = class->rowtype;

    buf_putc(b, '{');
    for (size_t k = 0; k < s->n_key; k++) {
        if (k > 0)
            buf_putc(b, ',');
        row_class_put_text(b, class->labels[s->key[k]]);
        rowdata_put_json(L, class, d, s->key[k], b);
    }
    buf_putc(b, '}');
}

void change_key_push(lua_State *L, const struct row_class *class, struct rowdata *d)
{
    const struct rowtype *s = class->rowtype;

    lua_createtable(L, 0, (int)s->n_key);                      /* key */
    for (size_t k = 0; k < s->n_key; k++) {
        lua_pushstring(L, s->columns[s->key[k]].name);
        rowdata_push_field(L, class, d, s->key[k]);
        lua_rawset(L, -3);
    }
}

void change_key_put_json(lua_State *L, int index, struct buf *b)
{
    index = lua_absindex(L, index);
    lua_pushliteral(L, "key");
    if (lua_rawget(L, index) != LUA_TNIL) { /* it was made, and perhaps changed */
        json_put(L, lua_gettop(L), b);
    } else {
        struct row_class *class = row_class_at(L, index);

        change_key_put(L, class, rowdata_at(L, index, class), b);
    }
    lua_pop(L, 1);
}

/* ---- metamethods: closures whose upvalue 1 is the class ---- */

/* The iterator of pairs(key). Upvalue 2: the count. */
static int key_next(lua_State *L)
{
    const struct rowtype *s = row_class_upvalue(L)->rowtype;
    lua_Integer i = lua_tointeger(L, lua_upvalueindex(2));

    luaL_checktype(L, 1, LUA_TTABLE); /* a script may pass anything */
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

/* key[name] of a name that has no value: nil for a key column, which is NULL. */
static int key_index(lua_State *L)
{
    const struct rowtype *s = row_class_upvalue(L)->rowtype;

    lua_settop(L, 2);
    if (lua_type(L, 2) != LUA_TSTRING) {
        lua_pushnil(L);
        return 1;
    }
    lua_createtable(L, (int)s->n_key, 0);                      /* key name list */
    for (size_t k = 0; k < s->n_key; k++) {
        lua_pushstring(L, s->columns[s->key[k]].name);
        if (lua_rawequal(L, -1, 2)) {
            lua_pushnil(L);
            return 1;
        }
        lua_rawseti(L, -2, (lua_Integer)k + 1);
    }
    row_class_push_method(L, 2);
    if (!lua_isnil(L, -1))
        return 1;
    lua_pop(L, 1);
    lua_pushliteral(L, "the key of ");
    row_class_push_name(L, s);
    lua_concat(L, 2);
    lua_insert(L, -2);
    return row_class_throw_unknown(L, 2, "column", lua_tostring(L, -2));
}

/* key:get(name): nil for a name that is not there. */
static int key_get(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 2);
    lua_rawget(L, 1);
    return 1;
}

static void put_key(lua_State *L, int index, struct buf *b, int depth)
{
    const struct row_class *class = row_class_at(L, index);
    const struct rowtype *s = class->rowtype;

    index = lua_absindex(L, index);
    buf_putc(b, '{');
    for (size_t k = 0; k < s->n_key; k++) {
        if (k > 0)
            buf_putc(b, ',');
        row_class_put_text(b, class->labels[s->key[k]]);
        lua_pushstring(L, s->columns[s->key[k]].name);
        lua_rawget(L, index);
        change_row_put_assigned(L, class, s->key[k], b, depth);
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

/* ---- metatable ---- */

static const struct json_class key_class = { put_key };

bool change_key_is(lua_State *L, int index)
{
    return json_class_at(L, index) == &key_class;
}

void change_key_push_metatable(lua_State *L, int class_at)
{
    class_at = lua_absindex(L, class_at);
    lua_createtable(L, 0, 8);                                  /* mt */
    json_set_class(L, -1, "pgcdc.key", &key_class);
    row_class_set(L, -1, class_at);
    row_class_set_method(L, "__index", key_index, class_at, 0);
    row_class_set_method(L, "__get", key_get, class_at, 0);
    row_class_set_method(L, "__pairs", key_pairs, class_at, 0);
    row_class_set_method(L, "__tostring", key_tostring, class_at, 0);
}
