/* command.c -- commands of users that are the Lua half's: lua/pgcdc/delivery/control.lua.
 * SPDX-License-Identifier: MIT */
#include "lua/command.h"

#include <lauxlib.h>

static void add_text(lua_State *L, int index, struct buf *to)
{
    size_t len;
    const char *text = lua_tolstring(L, index, &len);

    if (text != NULL)
        buf_add(to, text, len);
}

static int run(lua_State *L)
{
    struct command *c = lua_touserdata(L, 1);

    lua_rawgeti(L, LUA_REGISTRYINDEX, script_of(L)->hooks[SCRIPT_HOOK_CONTROL]);
    lua_pushstring(L, c->name);
    if (c->source == COMMAND_ALL)
        lua_pushnil(L);
    else
        lua_pushinteger(L, (lua_Integer)c->source + 1);
    lua_createtable(L, 0, (int)c->n_words);
    for (size_t i = 0; i < c->n_words; i++) {
        lua_pushstring(L, c->values[i]); /* nil for NULL */
        lua_setfield(L, -2, c->words[i]);
    }
    lua_call(L, 3, 3);                                         /* ok, text, JSON or nil */
    c->is_ok = lua_toboolean(L, -3);
    add_text(L, -2, &c->text);
    add_text(L, -1, &c->json);
    return 0;
}

bool command_run(struct script *s, struct command *c, struct err *e)
{
    return script_call(s, run, c, e);
}
