/* guard.c -- metatables that scripts cannot change.
 * SPDX-License-Identifier: MIT */
#include "lua/guard.h"

#include "lua/script.h"

#include <lauxlib.h>

void guard_set(lua_State *L, int index, const char *name)
{
    if (!script_of(L)->o.is_sandboxed)
        return;
    index = lua_absindex(L, index);
    lua_newuserdatauv(L, 0, 0);                                /* shown */
    lua_createtable(L, 0, 3);                                  /* shown mt */
    lua_pushstring(L, name);
    lua_setfield(L, -2, "__name");
    lua_createtable(L, 0, 1);                                  /* shown mt fields */
    lua_pushstring(L, name);
    lua_setfield(L, -2, "__name");
    lua_setfield(L, -2, "__index");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);                                   /* shown */
    lua_pushliteral(L, "__metatable");
    lua_insert(L, -2);
    lua_rawset(L, index);
}

static int get_metatable(lua_State *L)
{
    luaL_checkany(L, 1);
    if (!lua_getmetatable(L, 1))
        lua_pushnil(L);
    return 1;
}

/* True if the table at <index> is that of the script's globals, whose metatable is not guarded. */
static bool is_globals(lua_State *L, int index)
{
    bool is;

    lua_pushglobaltable(L);
    is = lua_rawequal(L, index, -1);
    lua_pop(L, 1);
    return is;
}

static int set_metatable(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_argexpected(L, lua_isnil(L, 2) || lua_istable(L, 2), 2, "nil or table");
    lua_settop(L, 2);
    if (lua_istable(L, 2) && !is_globals(L, 1)) {
        lua_pushliteral(L, "__metatable");
        if (lua_rawget(L, 2) == LUA_TNIL) {
            lua_pushliteral(L, "__name");
            guard_set(L, 2, lua_rawget(L, 2) == LUA_TSTRING ? lua_tostring(L, -1) : "pgcdc");
        }
        lua_settop(L, 2);
    }
    lua_setmetatable(L, 1);
    return 1;
}

void guard_put_functions(lua_State *L)
{
    lua_pushcfunction(L, get_metatable);
    lua_setfield(L, -2, "getmetatable");
    lua_pushcfunction(L, set_metatable);
    lua_setfield(L, -2, "setmetatable");
}

void guard_keep_methods(lua_State *L)
{
    lua_pushliteral(L, "");
    lua_getmetatable(L, -1);                                   /* "" mt */
    guard_set(L, -1, "string");
    lua_createtable(L, 0, 20);                                 /* "" mt methods */
    lua_getglobal(L, "string");                                /* "" mt methods string */
    for (lua_pushnil(L); lua_next(L, -2); ) {                  /* ... string name function */
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, -5);
    }
    lua_createtable(L, 0, 1);                                  /* ... string more */
    lua_insert(L, -2);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);                                   /* "" mt methods */
    lua_setfield(L, -2, "__index");
    lua_pop(L, 2);
}
