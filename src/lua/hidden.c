/* hidden.c -- the one field of a table that scripts can neither see nor take.
 * SPDX-License-Identifier: MIT */
#include "lua/hidden.h"

#include <lauxlib.h>

static const char hidden_key;

/* As Lua's own, but for the hidden field. */
static int next(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 2);
    while (lua_next(L, 1)) {                                   /* table key value */
        if (lua_type(L, 2) != LUA_TLIGHTUSERDATA || lua_touserdata(L, 2) != &hidden_key)
            return 2;
        lua_pop(L, 1);
    }
    lua_pushnil(L);
    return 1;
}

static int end_pairs(lua_State *L, int status, lua_KContext context)
{
    (void)L, (void)status, (void)context;
    return 3;
}

static int pairs(lua_State *L)
{
    luaL_checkany(L, 1);
    if (luaL_getmetafield(L, 1, "__pairs") == LUA_TNIL) {
        lua_pushvalue(L, lua_upvalueindex(1));
        lua_pushvalue(L, 1);
        lua_pushnil(L);
    } else {
        lua_pushvalue(L, 1);
        lua_callk(L, 1, 3, 0, end_pairs); /* it may yield */
    }
    return 3;
}

void hidden_open(lua_State *L)
{
    lua_pushcfunction(L, next);
    lua_pushvalue(L, -1);
    lua_setglobal(L, "next");
    lua_pushcclosure(L, pairs, 1);
    lua_setglobal(L, "pairs");
}

void hidden_set(lua_State *L, int index)
{
    lua_rawsetp(L, index, &hidden_key);
}

void hidden_push(lua_State *L, int index)
{
    lua_rawgetp(L, index, &hidden_key);
}
