/* api_terminal.c -- what scripts write on standard output.
 * SPDX-License-Identifier: MIT */
#include "lua/api_terminal.h"

#include "lua/json.h"
#include "lua/script.h"

#include <errno.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* print() as Lua has it, but without a flush at each line: the host flushes before it saves a
 * position and before it sleeps. */
static int print(lua_State *L)
{
    struct buf *b;
    int n = lua_gettop(L);

    for (int i = 1; i <= n; i++) {
        if (json_class_at(L, i) != NULL) { /* a change, a row or a key: no Lua string is needed */
            b = script_scratch(L);
            json_put(L, i, b);
        } else {
            size_t len;
            const char *s = luaL_tolstring(L, i, &len);

            b = script_scratch(L);
            buf_add(b, s, len);
            lua_pop(L, 1);
        }
        buf_putc(b, i < n ? '\t' : '\n');
        json_check(L, b);
        beat_serve(script_of(L)->beat, true); /* its reader may be slow */
        fwrite(b->data, 1, b->len, stdout);
        beat_serve(script_of(L)->beat, false);
    }
    if (n == 0)
        fputc('\n', stdout);
    return 0;
}

/* NO_COLOR: see no-color.org. */
static int wants_colours(lua_State *L)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

    lua_pushboolean(L, isatty((int)luaL_checkinteger(L, 1)) && (no == NULL || *no == '\0') &&
                    (term == NULL || strcmp(term, "dumb") != 0));
    return 1;
}

static int answer(lua_State *L)
{
    struct script *s = script_of(L);
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);

    if (fwrite(text, 1, len, stdout) == len && fflush(stdout) == 0)
        err_set(&s->cause, ERR_STOPPED, "answered");
    else
        err_set(&s->cause, ERR_OUTPUT, "standard output cannot be written: %s", strerror(errno));
    return luaL_error(L, "answered");
}

void api_terminal_export(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "answer", answer }, { "wants_colours", wants_colours }, { NULL, NULL },
    };

    lua_register(L, "print", print);
    luaL_setfuncs(L, functions, 0);
}
