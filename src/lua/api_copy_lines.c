/* api_copy_lines.c -- the lines of a COPY, kept until they are no longer needed.
 * SPDX-License-Identifier: MIT */
#include "lua/api_copy_lines.h"

#include "lua/api_db.h"
#include "lua/guard.h"
#include "lua/json.h"
#include "lua/script.h"

#include <errno.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINES "pgcdc.lines"
#define MOST ((size_t)8 << 30)
#define IN_MEMORY ((size_t)16 << 20)
#define PIECE ((size_t)256 << 10) /* what is sent at once */

struct api_copy_lines *api_copy_lines_at(lua_State *L, int index)
{
    return luaL_checkudata(L, index, LINES);
}

static void empty(struct api_copy_lines *s)
{
    buf_clear(&s->mem);
    s->in_file = 0;
    s->count = s->changed = 0;
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}

static int new_lines(lua_State *L)
{
    struct api_copy_lines *s = lua_newuserdatauv(L, sizeof *s, 0);

    *s = (struct api_copy_lines){ .fd = -1 };
    buf_init(&s->mem, MOST);
    luaL_setmetatable(L, LINES);
    return 1;
}

static int drop_lines(lua_State *L)
{
    struct api_copy_lines *s = api_copy_lines_at(L, 1);

    empty(s);
    buf_fini(&s->mem);
    return 0;
}

static int clear_lines(lua_State *L)
{
    struct api_copy_lines *s = api_copy_lines_at(L, 1);
    bool was_big = s->mem.cap > IN_MEMORY / 4;

    empty(s);
    if (was_big) {
        buf_fini(&s->mem);
        buf_init(&s->mem, MOST);
    }
    return 0;
}

static int count_lines(lua_State *L)
{
    const struct api_copy_lines *s = api_copy_lines_at(L, 1);

    lua_pushinteger(L, s->count);
    lua_pushinteger(L, s->changed);
    return 2;
}

/* Moves what is in memory to the file. */
static void spill(lua_State *L, struct api_copy_lines *s)
{
    size_t done = 0;

    if (s->fd < 0)
        s->fd = script_open_unnamed(script_of(L));
    while (s->fd >= 0 && done < s->mem.len) {
        ssize_t n = pwrite(s->fd, s->mem.data + done, s->mem.len - done, s->in_file + (off_t)done);

        if (n > 0)
            done += (size_t)n;
        else if (n == 0 || errno != EINTR)
            break;
    }
    if (done < s->mem.len)
        luaL_error(L, "cannot write a temporary file: %s", strerror(errno));
    s->in_file += (off_t)done;
    buf_clear(&s->mem);
}

static bool send_file(lua_State *L, struct api_copy_lines *s, struct conn *conn, struct err *e)
{
    struct buf *b = script_scratch(L);
    off_t at = 0;

    while (at < s->in_file) {
        char *to;
        ssize_t n;

        buf_clear(b);
        to = buf_reserve(b, PIECE);
        json_check(L, b);
        n = pread(s->fd, to, PIECE, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_set(e, ERR_STATE, "cannot read a temporary file: %s",
                           n < 0 ? strerror(errno) : "it is too short");
        if (!conn_load_put(conn, to, (size_t)n, e))
            return false;
        at += n;
    }
    return true;
}

static int send_lines(lua_State *L)
{
    struct api_copy_lines *s = api_copy_lines_at(L, 1);
    struct conn *conn = api_db_check(L, 2);
    struct err e;

    if (!send_file(L, s, conn, &e))
        return api_db_fail(L, &e);
    for (size_t at = 0; at < s->mem.len; at += PIECE) {
        size_t n = s->mem.len - at < PIECE ? s->mem.len - at : PIECE;

        if (!conn_load_put(conn, s->mem.data + at, n, &e))
            return api_db_fail(L, &e);
    }
    lua_pushboolean(L, true);
    return 1;
}

void api_copy_lines_add(lua_State *L, struct api_copy_lines *s, const char *line, size_t len,
                        bool is_read)
{
    size_t before;

    if (s->mem.len > IN_MEMORY)
        spill(L, s);
    before = s->mem.len;
    buf_add(&s->mem, line, len);
    buf_putc(&s->mem, '\n');
    if (!buf_ok(&s->mem)) { /* drops the part of the line that fitted */
        s->mem.len = before;
        s->mem.failed = false;
        luaL_error(L, "out of memory");
    }
    s->count++;
    s->changed += is_read ? 0 : 1;
}

void api_copy_lines_export(lua_State *L)
{
    static const luaL_Reg methods[] = {
        { "count", count_lines }, { "clear", clear_lines }, { "send", send_lines }, { NULL, NULL },
    };

    luaL_newmetatable(L, LINES);
    guard_set(L, -1, LINES);
    lua_pushcfunction(L, drop_lines);
    lua_setfield(L, -2, "__gc");
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lua_pushcfunction(L, new_lines);
    lua_setfield(L, -2, "copy_lines");
}
