/* api_watch.c -- descriptors that scripts wait for.
 * SPDX-License-Identifier: MIT */
#include "lua/api_watch.h"

#include "base/array.h"

#include <lauxlib.h>

/* Takes the descriptor from the list. */
static void forget(lua_State *L, struct script *s, int fd)
{
    for (size_t i = 0; i < s->n_watches; i++)
        if (s->watches[i].fd == fd) {
            luaL_unref(L, LUA_REGISTRYINDEX, s->watches[i].function);
            s->watches[i] = s->watches[--s->n_watches];
            return;
        }
}

static int watch(lua_State *L)
{
    static const char *const words[] = { "r", "w", "rw", NULL };
    static const short events[] = { POLLIN, POLLOUT, POLLIN | POLLOUT };
    struct script *s = script_of(L);
    struct script_watch w = { .fd = (int)luaL_checkinteger(L, 1) };

    w.events = events[luaL_checkoption(L, 3, "r", words)];
    luaL_argcheck(L, w.fd >= 0, 1, "no descriptor");
    lua_settop(L, 2);
    if (!lua_isnil(L, 2))
        luaL_checktype(L, 2, LUA_TFUNCTION);
    forget(L, s, w.fd);
    if (lua_isnil(L, 2))
        return 0;
    w.function = luaL_ref(L, LUA_REGISTRYINDEX);
    if (!ARRAY_PUSH(s->watches, s->n_watches, s->cap_watches, w)) {
        luaL_unref(L, LUA_REGISTRYINDEX, w.function);
        return luaL_error(L, "out of memory");
    }
    return 0;
}

void api_watch_put(const struct script *s, struct pollfd *fds)
{
    for (size_t i = 0; i < s->n_watches; i++)
        fds[i] = (struct pollfd){ .fd = s->watches[i].fd, .events = s->watches[i].events };
}

void api_watch_export(lua_State *L)
{
    static const luaL_Reg functions[] = { { "watch", watch }, { NULL, NULL } };

    luaL_setfuncs(L, functions, 0);
}
