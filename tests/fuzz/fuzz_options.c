/* fuzz_options.c -- any bytes as NAME=VALUE words, see options.lua.
 * SPDX-License-Identifier: MIT
 *
 * The first byte chooses what is declared; words end with a zero byte, as they do in argv, and
 * those that main refuses are left out. */
#include "fuzz.h"

#include <lauxlib.h>
#include <string.h>

#define MOST_WORDS 200

struct job {
    const char *p;
    size_t len;
};

static int run(lua_State *L)
{
    const struct job *job = lua_touserdata(L, 1);
    const char *p = job->p + 1, *end = job->p + job->len;
    int n = 1;

    luaL_checkstack(L, MOST_WORDS + 20, "words");
    lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_getfield(L, -1, "fuzz.options");
    lua_pushinteger(L, (unsigned char)*job->p);
    while (p < end && n < MOST_WORDS) {
        const char *zero = memchr(p, '\0', (size_t)(end - p));
        size_t len = (size_t)((zero != NULL ? zero : end) - p);

        if (memchr(p, '=', len) != NULL && *p != '=') {
            lua_pushlstring(L, p, len);
            n++;
        }
        p += len + 1;
    }
    lua_call(L, n, 0);
    return 0;
}

void fuzz_options(const uint8_t *p, size_t len)
{
    struct job job = { (const char *)p, len };
    struct err e = { 0 };
    bool ok = len == 0 || script_call(fuzz_script(), run, &job, &e);

    CHECK_OF(ok, e.msg, strlen(e.msg));
}
