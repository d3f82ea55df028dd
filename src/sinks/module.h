/* module.h -- what a module, NAME.so, shows to the program: the sinks that need a library.
 *
 * The program finds it as pgcdc.native.NAME, see lua/native.h. It exports one symbol, and needs
 * none of the program but Lua's. `open` makes what Lua's `require` returns; it may throw. Nothing
 * that the library calls from elsewhere (a thread, a signal) may touch Lua. A function blocks for
 * 100 ms at most, so that a stop is heard.
 *
 *    PGCDC_MODULE("redis", OPENSSL_VERSION_TEXT, open_redis);   is written once, at the end.
 *
 * SPDX-License-Identifier: MIT */
#ifndef MODULE_H
#define MODULE_H

#include <lauxlib.h>
#include <lua.h>

#define PGCDC_MODULE_ABI 1u /* changes whenever what is below does */
#define PGCDC_MODULE_SYMBOL "pgcdc_module"

struct pgcdc_module {
    unsigned abi, lua;   /* PGCDC_MODULE_ABI and LUA_VERSION_NUM when it was compiled */
    const char *name;    /* of the sink */
    const char *version; /* of the library that it was compiled with */
    lua_CFunction open;
};

/* Defines the one symbol. <v>: a constant. */
#define PGCDC_MODULE(n, v, f) \
    __attribute__((visibility("default"))) extern const struct pgcdc_module pgcdc_module; \
    const struct pgcdc_module pgcdc_module = { PGCDC_MODULE_ABI, LUA_VERSION_NUM, n, v, f }

/* A call of a method that has begun; the newest one is in a userdata of the class. */
struct pgcdc_module_use {
    const void *client;
    const struct pgcdc_module_use *outer;
};

/* Calls a method, upvalue 2. While it runs Lua may run a finalizer, and that may close the client
 * whose memory the method reads: until it is over the client takes no other call. */
static inline int pgcdc_module_call(lua_State *L)
{
    const struct pgcdc_module_use **newest = lua_touserdata(L, lua_upvalueindex(1));
    const struct pgcdc_module_use use = { lua_touserdata(L, 1), *newest };
    int status;

    for (const struct pgcdc_module_use *u = *newest; u != NULL; u = u->outer)
        if (u->client == use.client)
            return luaL_error(L, "it is in use");
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_insert(L, 1);
    *newest = &use;
    status = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
    *newest = use.outer;
    return status == LUA_OK ? lua_gettop(L) : lua_error(L);
}

/* Makes the class <name> of userdata with these methods, which are called as above. `close` is
 * called of each that is collected. Scripts see no more of the metatable than its name. */
static inline void pgcdc_module_class(lua_State *L, const char *name, const luaL_Reg *methods,
                                      lua_CFunction close)
{
    const struct pgcdc_module_use **newest;

    luaL_newmetatable(L, name);
    lua_pushstring(L, name);
    lua_setfield(L, -2, "__metatable");
    lua_pushcfunction(L, close);
    lua_setfield(L, -2, "__gc");
    lua_newtable(L);
    newest = lua_newuserdatauv(L, sizeof *newest, 0);
    *newest = NULL;
    for (; methods->name != NULL; methods++) {
        lua_pushvalue(L, -1);
        lua_pushcfunction(L, methods->func);
        lua_pushcclosure(L, pgcdc_module_call, 2);
        lua_setfield(L, -3, methods->name);
    }
    lua_pop(L, 1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

#endif
