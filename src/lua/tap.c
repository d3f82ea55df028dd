/* tap.c -- shows changes that were delivered to a user who wants to see them.
 * SPDX-License-Identifier: MIT */
#include "lua/tap.h"

#include "lua/change.h"
#include "lua/json.h"

#include <lauxlib.h>

struct tap_job {
    size_t source;
    const struct chunk *chunk;
    const struct chunk_row *row;
};

static int show(lua_State *L)                                  /* job metatable */
{
    const struct tap_job *job = lua_touserdata(L, 1);
    struct script *s = script_of(L);
    struct buf *b;

    change_push(L, 2, job->chunk, job->row);
    b = script_scratch(L);
    json_put(L, -1, b);
    json_check(L, b);
    buf_putc(b, '\n');
    if (buf_ok(b))
        s->tell_tap(s->tap_arg, job->source, b->data, b->len);
    return 0;
}

void tap_show(lua_State *L, size_t source, int metatable, const struct chunk *chunk,
              const struct chunk_row *row)
{
    struct tap_job job = { source, chunk, row };

    lua_pushcfunction(L, show);
    lua_pushlightuserdata(L, &job);
    lua_pushvalue(L, metatable);
    if (lua_pcall(L, 2, 0, 0) != LUA_OK)
        lua_pop(L, 1);
}
