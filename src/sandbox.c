/* sandbox.c -- what --sandbox takes from scripts.                     floor 4
 * SPDX-License-Identifier: MIT */
#include "sandbox.h"

#include <lauxlib.h>
#include <stdbool.h>

static void forget(lua_State *L, const char *library, const char *const *names)
{
    lua_getglobal(L, library);                                 /* lib */
    for (; *names != NULL; names++) {
        lua_pushnil(L);
        lua_setfield(L, -2, *names);
    }
    lua_pop(L, 1);
}

/* load(chunk, name, mode, env) that takes text only. */
static int load_text(lua_State *L)
{
    bool has_env = !lua_isnone(L, 4);

    lua_settop(L, 4);
    lua_pushliteral(L, "t");
    lua_replace(L, 3);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);                                          /* load chunk name "t" env */
    if (!has_env)
        lua_pop(L, 1);
    lua_call(L, has_env ? 4 : 3, LUA_MULTRET);
    return lua_gettop(L);
}

/* A searcher for modules in Lua, text only. */
static int search_text(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1), *path;

    lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);      /* loaded */
    lua_getfield(L, -1, "package");
    lua_getfield(L, -1, "searchpath");
    lua_pushvalue(L, 1);
    lua_getfield(L, -3, "path");
    lua_call(L, 2, 2);                                         /* ... path|nil message */
    path = lua_tostring(L, -2);
    if (path == NULL)
        return 1;
    if (luaL_loadfilex(L, path, "t") != LUA_OK)
        return luaL_error(L, "error loading module '%s': %s", name, lua_tostring(L, -1));
    lua_pushstring(L, path);
    return 2;
}

void sandbox_close(lua_State *L)
{
    static const char *const os[] = { "execute", "exit", "remove", "rename", "tmpname", "getenv",
                                      "setlocale", NULL };
    static const char *const globals[] = { "dofile", "loadfile", "io", "debug", NULL };
    static const char *const package[] = { "loadlib", "cpath", NULL };
    static const char *const loaded[] = { "io", "debug", NULL };
    static const char *const string[] = { "dump", NULL };

    forget(L, "os", os);
    forget(L, "string", string);
    forget(L, "package", package);
    lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);      /* loaded */
    for (size_t i = 0; loaded[i] != NULL; i++) {
        lua_pushnil(L);
        lua_setfield(L, -2, loaded[i]);
    }
    lua_getfield(L, -1, "package");                            /* loaded package */
    lua_getfield(L, -1, "searchers");                          /* loaded package searchers */
    lua_createtable(L, 2, 0);
    lua_rawgeti(L, -2, 1);                                     /* preload */
    lua_rawseti(L, -2, 1);
    lua_pushcfunction(L, search_text);
    lua_rawseti(L, -2, 2);                                     /* ... searchers new */
    for (lua_Integer i = 1; i <= 4; i++) { /* the same table: `require` holds it */
        lua_rawgeti(L, -1, i);
        lua_rawseti(L, -3, i);
    }
    lua_settop(L, 0);
    lua_getglobal(L, "load");
    lua_pushcclosure(L, load_text, 1);
    lua_setglobal(L, "load");
    lua_pushglobaltable(L);
    for (size_t i = 0; globals[i] != NULL; i++) {
        lua_pushnil(L);
        lua_setfield(L, -2, globals[i]);
    }
    lua_settop(L, 0);
}
