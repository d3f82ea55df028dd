/* hooks_feed.c -- what the host asks of the Lua half for sources that it feeds.
 *
 * The hooks, functions of the Lua half:
 *   feed(source, at or nil, mode): see hooks_feed_start;
 *   fetch() -> whether something was fed;
 *   group(stops) -> seconds until the next turn, or nil: it is over. <stops>: the program is to
 *     stop.
 *
 * SPDX-License-Identifier: MIT */
#include "lua/hooks_feed.h"

#include <lauxlib.h>
#include <math.h>

struct begun {
    size_t source;
    const char *at, *mode;
};

static int start(lua_State *L)
{
    const struct begun *b = lua_touserdata(L, 1);

    lua_rawgeti(L, LUA_REGISTRYINDEX, script_of(L)->hooks[SCRIPT_HOOK_FEED]);
    lua_pushinteger(L, (lua_Integer)b->source + 1);
    lua_pushstring(L, b->at);
    lua_pushstring(L, b->mode);
    lua_call(L, 3, 0);
    return 0;
}

bool hooks_feed_start(struct script *s, size_t source, const char *at, const char *mode,
                      struct err *e)
{
    struct begun b = { source, at, mode };

    return script_call(s, start, &b, e);
}

static int fetch(lua_State *L)
{
    bool *has_some = lua_touserdata(L, 1);

    lua_rawgeti(L, LUA_REGISTRYINDEX, script_of(L)->hooks[SCRIPT_HOOK_FETCH]);
    lua_call(L, 0, 1);
    *has_some = lua_toboolean(L, -1);
    return 0;
}

bool hooks_feed_fetch(struct script *s, bool *has_some, struct err *e)
{
    *has_some = false;
    return script_call(s, fetch, has_some, e);
}

struct turn {
    int64_t wait_ms;
    bool is_over;
};

static int turn(lua_State *L)
{
    struct turn *t = lua_touserdata(L, 1);
    struct script *s = script_of(L);

    lua_rawgeti(L, LUA_REGISTRYINDEX, s->hooks[SCRIPT_HOOK_GROUP]);
    lua_pushboolean(L, script_should_stop(s));
    lua_call(L, 1, 1);
    t->is_over = lua_isnil(L, -1);
    t->wait_ms = (int64_t)ceil(lua_tonumber(L, -1) * 1000);
    return 0;
}

bool hooks_feed_group(struct script *s, int64_t *wait_ms, bool *is_over, struct err *e)
{
    struct turn t = { 0 };
    bool ok = script_call(s, turn, &t, e);

    *wait_ms = t.wait_ms;
    *is_over = t.is_over;
    return ok;
}
