/* api_value.c -- what scripts do with values.
 * SPDX-License-Identifier: MIT */
#include "lua/api_value.h"

#include "base/hash.h"
#include "lua/change.h"
#include "lua/clone.h"
#include "lua/json.h"
#include "lua/script.h"

#include <lauxlib.h>

static int encode(lua_State *L)
{
    struct buf *b = script_scratch(L);

    luaL_checkany(L, 1);
    json_put(L, 1, b);
    lua_pushlstring(L, b->data, b->len);
    return 1;
}

static int decode(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    char why[160];

    if (json_push(L, text, len, why, sizeof why))
        return 1;
    lua_pushnil(L);
    lua_pushstring(L, why);
    return 2;
}

static int clone_value(lua_State *L)
{
    luaL_checkany(L, 1);
    clone_push(L, 1);
    return 1;
}

/* set_metatable_of(new, value) -> new. That of a part of a change is for that part only. */
static int set_metatable_of(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 2);
    if (json_class_at(L, 2) == NULL && lua_getmetatable(L, 2))
        lua_setmetatable(L, 1);
    lua_settop(L, 1);
    return 1;
}

static int is_change(lua_State *L)
{
    luaL_checkany(L, 1);
    lua_pushboolean(L, change_is(L, 1));
    return 1;
}

static int is_part(lua_State *L)
{
    luaL_checkany(L, 1);
    lua_pushboolean(L, json_class_at(L, 1) != NULL);
    return 1;
}

static int get(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 2);
    row_class_get(L, 1);
    return 1;
}

static int set_methods(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    row_class_set_methods(L);
    return 0;
}

static int sha256(lua_State *L)
{
    char digits[HASH_TEXT];
    size_t len;
    const char *s = luaL_checklstring(L, 1, &len);

    if (!hash_sha256(s, len, digits))
        return luaL_error(L, "libcrypto gives no SHA-256");
    lua_pushlstring(L, digits, sizeof digits);
    return 1;
}

void api_value_export(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "encode", encode }, { "decode", decode }, { "clone", clone_value },
        { "set_metatable_of", set_metatable_of },
        { "is_change", is_change }, { "is_part", is_part }, { "get", get },
        { "methods", set_methods }, { "sha256", sha256 }, { NULL, NULL },
    };

    luaL_setfuncs(L, functions, 0);
    json_push_null(L);
    lua_setfield(L, -2, "null");
    json_push_array_metatable(L);
    lua_setfield(L, -2, "array_metatable");
}
