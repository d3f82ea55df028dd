/* api_copy_lines.c -- the lines of a COPY, kept until they are no longer needed.
 * SPDX-License-Identifier: MIT */
#include "lua/api_copy_lines.h"

#include "lua/api_db.h"
#include "lua/guard.h"
#include "lua/json.h"
#include "lua/script.h"
#include "pg/copytext.h"

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

static lua_Integer bytes_of(const struct api_copy_lines *s)
{
    return (lua_Integer)s->in_file + (lua_Integer)s->mem.len;
}

static int bytes_of_lines(lua_State *L)
{
    lua_pushinteger(L, bytes_of(api_copy_lines_at(L, 1)));
    return 1;
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

static bool send_file(lua_State *L, struct api_copy_lines *s, struct conn *conn, off_t at,
                      struct err *e)
{
    struct buf *b = script_scratch(L);

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
    lua_Integer from = luaL_optinteger(L, 3, 0);
    struct err e;

    luaL_argcheck(L, from >= 0 && from <= bytes_of(s), 3, "there are not so many bytes");
    if (!send_file(L, s, conn, (off_t)from, &e))
        return api_db_fail(L, &e);
    for (size_t at = from > s->in_file ? (size_t)(from - s->in_file) : 0; at < s->mem.len;
         at += PIECE) {
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

/* ---- some of the lines ---- */

/* One walk over all lines. */
struct walk {
    struct api_copy_lines *to; /* gets lines */
    lua_Integer n;             /* of the line in hand, from 1 */
    lua_Integer from, upto;    /* of a part */
    const lua_Integer *numbers; /* sorted, from 1 */
    size_t n_numbers, next;    /* the first of them that is not below <n> */
    bool is_read;
    void (*take)(lua_State *L, struct walk *w, const char *line, size_t len);
};

/* Takes the whole lines among these bytes. Returns how many bytes they are. */
static size_t take_lines(lua_State *L, struct walk *w, const char *p, size_t len)
{
    const char *start = p, *end, *newline;

    if (len == 0)
        return 0; /* there may be no bytes at all */
    end = p + len;
    while (p < end && (newline = memchr(p, '\n', (size_t)(end - p))) != NULL) {
        w->n++;
        while (w->next < w->n_numbers && w->numbers[w->next] < w->n)
            w->next++;
        w->take(L, w, p, (size_t)(newline - p));
        p = newline + 1;
    }
    return (size_t)(p - start);
}

/* A line is whole in the file or in memory. */
static void walk(lua_State *L, const struct api_copy_lines *s, struct walk *w)
{
    struct buf *b = script_scratch(L);

    w->is_read = s->changed == 0; /* nobody knows of a single one */
    for (off_t at = 0; at < s->in_file;) {
        char *to = buf_reserve(b, PIECE);
        ssize_t n;
        size_t taken;

        json_check(L, b);
        n = pread(s->fd, to, PIECE, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            luaL_error(L, "cannot read a temporary file: %s",
                       n < 0 ? strerror(errno) : "it is too short");
        at += n;
        b->len += (size_t)n;
        taken = take_lines(L, w, b->data, b->len);
        memmove(b->data, b->data + taken, b->len - taken);
        b->len -= taken;
    }
    take_lines(L, w, s->mem.data, s->mem.len);
}

static void take_part(lua_State *L, struct walk *w, const char *line, size_t len)
{
    if (w->n >= w->from && w->n <= w->upto)
        api_copy_lines_add(L, w->to, line, len, w->is_read);
}

static int part_of_lines(lua_State *L)
{
    const struct api_copy_lines *s = api_copy_lines_at(L, 1);
    struct walk w = { .from = luaL_checkinteger(L, 2), .upto = luaL_checkinteger(L, 3),
                      .take = take_part };

    new_lines(L);
    w.to = api_copy_lines_at(L, -1);
    walk(L, s, &w);
    return 1;
}

static bool is_left_out(const struct walk *w)
{
    return w->next < w->n_numbers && w->numbers[w->next] == w->n;
}

static void take_others(lua_State *L, struct walk *w, const char *line, size_t len)
{
    if (!is_left_out(w))
        api_copy_lines_add(L, w->to, line, len, w->is_read);
}

/* The last field counts lines of others, of which these are left out. */
static void take_recounted(lua_State *L, struct walk *w, const char *line, size_t len)
{
    const char *tab = memrchr(line, '\t', len);
    size_t digits = tab != NULL ? (size_t)(line + len - tab - 1) : 0;
    struct buf *b = &w->to->mem;
    lua_Integer count;
    size_t fewer = 0;

    api_copy_lines_add(L, w->to, line, len, w->is_read);
    if (digits == 0)
        return;
    count = strtoll(b->data + b->len - digits - 1, NULL, 10); /* a newline is after it */
    while (fewer < w->n_numbers && w->numbers[fewer] <= count)
        fewer++;
    b->len -= digits + 1;
    buf_printf(b, "%lld\n", (long long)count - (long long)fewer); /* there is room for it */
}

/* Lines of <s> at index 1, as <take> makes them by the list of numbers at index 2, replace those of
 * <s>. */
static int replace_lines(lua_State *L, void (*take)(lua_State *, struct walk *, const char *,
                                                    size_t))
{
    struct api_copy_lines *s = api_copy_lines_at(L, 1), old;
    struct walk w = { .take = take };
    lua_Integer *numbers;

    luaL_checktype(L, 2, LUA_TTABLE);
    w.n_numbers = (size_t)lua_rawlen(L, 2);
    numbers = lua_newuserdatauv(L, (w.n_numbers + 1) * sizeof *numbers, 0);
    for (size_t i = 0; i < w.n_numbers; i++) {
        lua_rawgeti(L, 2, (lua_Integer)i + 1);
        numbers[i] = luaL_checkinteger(L, -1);
        lua_pop(L, 1);
    }
    w.numbers = numbers;
    new_lines(L);
    w.to = api_copy_lines_at(L, -1);
    walk(L, s, &w);
    old = *s; /* the new ones go, and the old ones to the collector */
    *s = *w.to;
    *w.to = old;
    return 0;
}

static int leave_out(lua_State *L)
{
    return replace_lines(L, take_others);
}

static int recount(lua_State *L)
{
    return replace_lines(L, take_recounted);
}

static void push_field(lua_State *L, struct copytext_field f)
{
    luaL_Buffer b;
    char *to;

    if (copytext_is_null(f)) {
        lua_pushboolean(L, false);
        return;
    }
    to = luaL_buffinitsize(L, &b, f.len + 1);
    luaL_pushresultsize(&b, copytext_unescape(f, to));
}

/* fields(number) */
static int fields_of_line(lua_State *L)
{
    const struct api_copy_lines *s = api_copy_lines_at(L, 1);
    lua_Integer number = luaL_checkinteger(L, 2);
    struct walk w = { .from = number, .upto = number, .take = take_part };
    const struct api_copy_lines *line;
    const char *p, *end;

    new_lines(L);
    w.to = api_copy_lines_at(L, -1);
    walk(L, s, &w);
    line = w.to;
    luaL_argcheck(L, line->count == 1, 2, "there is no such line");
    lua_newtable(L);
    p = line->mem.data;
    end = p + line->mem.len - 1;
    for (lua_Integer i = 1;; i++) {
        const char *tab = memchr(p, '\t', (size_t)(end - p));
        size_t len = (size_t)((tab != NULL ? tab : end) - p);

        push_field(L, (struct copytext_field){ p, len });
        lua_rawseti(L, -2, i);
        if (tab == NULL)
            return 1;
        p = tab + 1;
    }
}

void api_copy_lines_export(lua_State *L)
{
    static const luaL_Reg methods[] = {
        { "count", count_lines }, { "bytes", bytes_of_lines }, { "clear", clear_lines },
        { "send", send_lines },
        { "part", part_of_lines }, { "leave_out", leave_out },
        { "recount", recount }, { "fields", fields_of_line }, { NULL, NULL },
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
