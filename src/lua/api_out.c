/* api_out.c -- what a script gives a file or a process: the methods put(value) and add(text).
 * SPDX-License-Identifier: MIT */
#include "lua/api_out.h"

#include "lua/json.h"
#include "lua/script.h"

#include <lauxlib.h>

static int append(lua_State *L, api_out_room room, const char *text, size_t len)
{
    struct buf *b = room(L, len);

    buf_add(b, text, len);
    if (!buf_ok(b)) {
        b->failed = false;
        luaL_error(L, "out of memory");
    }
    return 0;
}

int api_out_put(lua_State *L, api_out_room room)
{
    struct buf *line = script_scratch(L);

    luaL_checkany(L, 2);
    json_put(L, 2, line);
    buf_putc(line, '\n');
    json_check(L, line);
    return append(L, room, line->data, line->len);
}

int api_out_add(lua_State *L, api_out_room room)
{
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);

    return append(L, room, text, len);
}
