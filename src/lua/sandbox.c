/* sandbox.c -- what --sandbox takes from scripts.
 * SPDX-License-Identifier: MIT */
#include "lua/sandbox.h"

#include <lauxlib.h>
#include <stdbool.h>
#include <string.h>

/* Clears all functions of a library but these. */
static void keep_only(lua_State *L, const char *library, const char *const *names)
{
    lua_getglobal(L, library);                                 /* lib */
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {     /* lib name value */
        size_t i = 0;

        while (names[i] != NULL && strcmp(names[i], lua_tostring(L, -2)) != 0)
            i++;
        if (names[i] == NULL) {
            lua_pushvalue(L, -2);
            lua_pushnil(L);
            lua_rawset(L, -5); /* lua_next allows that a field is cleared */
        }
    }
    lua_pop(L, 1);
}

/* Clears fields of the table on top of the stack. */
static void clear(lua_State *L, const char *const *names)
{
    for (; *names != NULL; names++) {
        lua_pushnil(L);
        lua_setfield(L, -2, *names);
    }
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

static void log_failure(struct log *log, const char *path, const char *why)
{
    static const char message[] = "a module cannot be loaded";
    struct log_field fields[] = { { "error", why, strlen(why), false },
                                  { "path", path, strlen(path), false } };

    log_line(log, LOG_WARN, message, sizeof message - 1, fields, 2);
}

/* A searcher for modules in Lua, text only. Upvalues: package.searchpath, the path as it was before
 * the script ran, the log. The name is put into the path before that is split: so a name with a
 * semicolon could lead to any file. A script is told the same of a file that is not there, cannot
 * be read or is no Lua, whose text the parser's message would quote: that is for the log. */
static int search_text(lua_State *L)
{
    size_t len;
    const char *name = luaL_checklstring(L, 1, &len), *path;

    if (strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") != len ||
        *name == '.' || strstr(name, "..") != NULL) { /* a dot becomes a slash */
        lua_pushliteral(L, "the sandbox finds only modules whose names are letters, digits, '_', "
                           "'-' and '.' between them");
        return 1;
    }
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, 1);
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_call(L, 2, 2);                                         /* ... path|nil message */
    path = lua_tostring(L, -2);
    if (path != NULL && luaL_loadfilex(L, path, "t") == LUA_OK) {
        lua_pushstring(L, path);
        return 2;
    }
    if (path != NULL)
        log_failure(lua_touserdata(L, lua_upvalueindex(3)), path, lua_tostring(L, -1));
    lua_pushliteral(L, "no module in Lua of that name can be loaded (the log says why, if there is "
                       "one)");
    return 1;
}

/* Leaves `require` only package.preload and modules in Lua. */
static void limit_require(lua_State *L, struct log *log)
{
    static const char *const package[] = { "config", "loaded", "path", "preload", "searchers",
                                           NULL };

    lua_getglobal(L, "package");                               /* package */
    lua_getfield(L, -1, "searchers");                          /* package searchers */
    lua_getfield(L, -2, "searchpath");
    lua_getfield(L, -3, "path");
    lua_pushlightuserdata(L, log);
    lua_pushcclosure(L, search_text, 3);
    lua_rawseti(L, -2, 2);
    for (lua_Integer i = (lua_Integer)lua_rawlen(L, -1); i > 2; i--) {
        lua_pushnil(L); /* not in a new table: `require` holds this one */
        lua_rawseti(L, -2, i);
    }
    lua_pop(L, 2);
    keep_only(L, "package", package);
}

void sandbox_close(lua_State *L, struct log *log)
{
    static const char *const os[] = { "clock", "date", "difftime", "time", NULL };
    static const char *const globals[] = { "dofile", "loadfile", "io", "debug", NULL };
    static const char *const loaded[] = { "io", "debug", NULL };
    static const char *const string[] = { "dump", NULL };

    limit_require(L, log);
    keep_only(L, "os", os);
    lua_getglobal(L, "string");
    clear(L, string);
    lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    clear(L, loaded);
    lua_getglobal(L, "load");
    lua_pushcclosure(L, load_text, 1);
    lua_setglobal(L, "load");
    lua_pushglobaltable(L);
    clear(L, globals);
    lua_settop(L, 0);
}
