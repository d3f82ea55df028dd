/* hooks_check.c -- what the host tells and asks the Lua half with --check.
 *
 * The hooks, functions of the Lua half:
 *   checked(source, name, text or nil, message, sqlstate): see hooks_check_source;
 *   check(): see hooks_check.
 *
 * SPDX-License-Identifier: MIT */
#include "lua/hooks_check.h"

#include "lua/api_source.h"

#include <lauxlib.h>

struct found {
    size_t source;
    const char *text;
    const struct err *fault;
};

static int tell(lua_State *L)
{
    const struct found *found = lua_touserdata(L, 1);
    const struct err *fault = found->fault;
    struct script *s = script_of(L);

    lua_rawgeti(L, LUA_REGISTRYINDEX, s->hooks[SCRIPT_HOOK_CHECKED]);
    lua_pushinteger(L, (lua_Integer)found->source + 1);
    lua_pushstring(L, s->sources[found->source].name);
    lua_pushstring(L, found->text);
    lua_pushstring(L, fault != NULL ? fault->msg : NULL);
    lua_pushstring(L, fault != NULL ? fault->sqlstate : NULL);
    lua_call(L, 5, 0);
    return 0;
}

bool hooks_check_source(struct script *s, size_t source, const char *text,
                        const struct err *fault, struct err *e)
{
    struct found found = { source, text, fault };

    return script_call(s, tell, &found, e);
}

static int finish(lua_State *L)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, script_of(L)->hooks[SCRIPT_HOOK_CHECK]);
    lua_call(L, 0, 0);
    return 0;
}

bool hooks_check(struct script *s, struct err *e)
{
    return s->hooks[SCRIPT_HOOK_CHECK] == LUA_NOREF || script_call(s, finish, NULL, e);
}
