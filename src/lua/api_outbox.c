/* api_outbox.c -- what a sink has taken and its target does not have yet.
 * SPDX-License-Identifier: MIT
 *
 * A place is a number of bytes since the outbox was made, so it stays true whatever is moved or
 * dropped. From <start> to <split> the bytes are in the file, from there to <end> in memory:
 *
 *    dropped      start         in the file       split     in memory      end
 *    ...........  |record|record|record|record|   |record|record|record|
 *
 * The records are those of base/packed.h; a part that is absent is nil. Any call of Lua's API may
 * run code that changes the outbox, so after each such call bytes are found anew, by their place.
 */
#include "lua/api_outbox.h"

#include "base/array.h"
#include "base/hash.h"
#include "base/packed.h"
#include "lua/guard.h"
#include "lua/json.h"
#include "lua/script.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OUTBOX "pgcdc.outbox"
#define IN_MEMORY ((size_t)512 << 10) /* the queue before it has more: see host/host.c */
#define SPILLED ((size_t)256 << 10) /* of that, at once: so the newest, which a sink that sends
                                     * early reads next, need not be read of the file */
#define KEPT_FILE ((size_t)32 << 20) /* a larger one is closed once it is not needed */
#define MOST ((size_t)8 << 30)
#define WINDOW ((size_t)48 << 10) /* what is read of the file at once */
#define MOST_PARTS 251

struct seal {
    lua_Integer number;
    uint64_t at;
    lua_Integer rows; /* that were put before it, since the outbox was made */
};

struct api_outbox {
    uint64_t start, split, end;
    struct buf mem;
    struct buf window;    /* a part of the file, as it was read */
    uint64_t window_at;   /* its place */
    size_t dirty, dirty_end; /* bytes of the window from here to there are to be written back; 0
                              * and 0: none */
    int fd;               /* of the file, which may be of no use now; -1: there is none */
    uint64_t file_at;     /* the place of the file's first byte */
    lua_Integer put, dropped; /* records, since the outbox was made */
    lua_Integer seal_count;
    struct seal *seals;
    size_t n_seals, cap_seals;
};

struct api_outbox *api_outbox_at(lua_State *L, int index)
{
    return luaL_checkudata(L, index, OUTBOX);
}

static int new_outbox(lua_State *L)
{
    struct api_outbox *o = lua_newuserdatauv(L, sizeof *o, 0);

    *o = (struct api_outbox){ .fd = -1 };
    buf_init(&o->mem, MOST);
    buf_init(&o->window, MOST);
    luaL_setmetatable(L, OUTBOX);
    script_of(L)->has_outboxes = true;
    return 1;
}

static void close_file(struct api_outbox *o)
{
    if (o->fd >= 0)
        close(o->fd);
    o->fd = -1;
    o->dirty = o->dirty_end = 0;
    buf_fini(&o->window);
    buf_init(&o->window, MOST);
}

static int free_outbox(lua_State *L)
{
    struct api_outbox *o = api_outbox_at(L, 1);

    close_file(o);
    buf_fini(&o->mem);
    free(o->seals);
    o->seals = NULL;
    o->n_seals = o->cap_seals = 0;
    o->start = o->split = o->end;
    return 0;
}

/* ---- the file ---- */

/* How many bytes the oldest records in memory have that are SPILLED together. */
static size_t oldest(const struct api_outbox *o)
{
    struct packed_head head;
    size_t len = 0;

    while (len < o->mem.len && len < SPILLED) {
        memcpy(&head, o->mem.data + len, sizeof head);
        len += head.len;
    }
    return len;
}

/* Moves the oldest records in memory to the file. */
static void spill(lua_State *L, struct api_outbox *o)
{
    size_t done = 0, len = oldest(o);

    if (o->fd < 0)
        o->fd = script_open_unnamed(script_of(L));
    while (o->fd >= 0 && done < len) {
        ssize_t n = pwrite(o->fd, o->mem.data + done, len - done,
                           (off_t)(o->split - o->file_at + done));

        if (n > 0)
            done += (size_t)n;
        else if (n == 0 || errno != EINTR)
            break;
    }
    if (done < len)
        luaL_error(L, "cannot write a temporary file: %s", strerror(errno));
    o->split += len;
    o->mem.len -= len;
    memmove(o->mem.data, o->mem.data + len, o->mem.len);
}

/* Writes what was changed in the window. */
static void write_window(lua_State *L, struct api_outbox *o)
{
    while (o->dirty < o->dirty_end) {
        ssize_t n = pwrite(o->fd, o->window.data + o->dirty, o->dirty_end - o->dirty,
                           (off_t)(o->window_at - o->file_at + o->dirty));

        if (n > 0)
            o->dirty += (size_t)n;
        else if (n == 0 || errno != EINTR)
            luaL_error(L, "cannot write a temporary file: %s", strerror(errno));
    }
    o->dirty = o->dirty_end = 0;
}

/* Makes the window hold <len> bytes at that place of the file. */
static void read_window(lua_State *L, struct api_outbox *o, uint64_t at, size_t len)
{
    size_t want = len > WINDOW ? len : WINDOW;

    if (at >= o->window_at && at - o->window_at <= o->window.len &&
        o->window.len - (at - o->window_at) >= len)
        return;
    if (want > o->split - at)
        want = (size_t)(o->split - at);
    write_window(L, o);
    buf_clear(&o->window);
    o->window_at = at;
    if (buf_reserve(&o->window, want) == NULL)
        luaL_error(L, "not enough memory");
    while (o->window.len < want) {
        ssize_t n = pread(o->fd, o->window.data + o->window.len, want - o->window.len,
                          (off_t)(at - o->file_at + o->window.len));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            luaL_error(L, "cannot read a temporary file: %s",
                       n < 0 ? strerror(errno) : "it is too short");
        o->window.len += (size_t)n;
    }
}

/* <len> bytes at a place, borrowed until the next call into Lua. */
static const char *bytes_at(lua_State *L, struct api_outbox *o, uint64_t at, size_t len)
{
    if (at < o->start || at > o->end || len > o->end - at)
        luaL_error(L, "the outbox was emptied while it was read");
    if (at >= o->split)
        return o->mem.data + (at - o->split);
    read_window(L, o, at, len);
    return o->window.data + (at - o->window_at);
}

/* ---- putting ---- */

/* The lane at <index>. */
static uint64_t check_lane(lua_State *L, int index)
{
    size_t len;
    const char *text;

    if (lua_isnoneornil(L, index))
        return 0;
    if (lua_type(L, index) == LUA_TNUMBER)
        return (uint64_t)luaL_checkinteger(L, index);
    text = luaL_checklstring(L, index, &len);
    return hash_digest(text, len);
}

static int put(lua_State *L)
{
    struct api_outbox *o = api_outbox_at(L, 1);
    struct packed_head head = { .parts = (uint32_t)lua_gettop(L) - 2, .lane = check_lane(L, 2) };
    struct buf *b;

    if (lua_gettop(L) < 3)
        lua_settop(L, 3);
    head.parts = (uint32_t)lua_gettop(L) - 2;
    luaL_argcheck(L, head.parts <= MOST_PARTS, 3, "too many parts");
    b = script_scratch(L);
    buf_add(b, &head, sizeof head);
    for (int i = 3; i <= lua_gettop(L); i++) {
        size_t len = 0;
        const char *text = luaL_optlstring(L, i, NULL, &len);
        uint32_t as = text != NULL ? (uint32_t)len : PACKED_ABSENT;

        b->failed = b->failed || len >= PACKED_ABSENT / 2;
        buf_add(b, &as, sizeof as);
        buf_add(b, text, len);
    }
    json_check(L, b);
    head.len = (uint32_t)b->len;
    memcpy(b->data, &head, sizeof head);
    api_outbox_add(L, o, b);
    return 0;
}

void api_outbox_add(lua_State *L, struct api_outbox *o, const struct buf *record)
{
    if (o->mem.len > IN_MEMORY)
        spill(L, o);
    if (record->len < PACKED_ABSENT / 2)
        buf_add(&o->mem, record->data, record->len);
    if (record->len >= PACKED_ABSENT / 2 || !buf_ok(&o->mem)) {
        o->mem.failed = false;
        luaL_error(L, "not enough memory");
    }
    o->end += record->len;
    o->put++;
}

static int seal(lua_State *L)
{
    struct api_outbox *o = api_outbox_at(L, 1);
    struct seal s = { .number = o->seal_count + 1, .at = o->end, .rows = o->put };

    if (!ARRAY_PUSH(o->seals, o->n_seals, o->cap_seals, s))
        return luaL_error(L, "not enough memory");
    o->seal_count++;
    lua_pushinteger(L, s.number);
    return 1;
}

/* The seal whose number is at <index>; nil: one at the end. A seal that was dropped already counts
 * as one at the start. */
static struct seal check_seal(lua_State *L, const struct api_outbox *o, int index)
{
    lua_Integer number;

    if (lua_isnoneornil(L, index))
        return (struct seal){ .number = o->seal_count, .at = o->end, .rows = o->put };
    number = luaL_checkinteger(L, index);
    luaL_argcheck(L, number >= 0 && number <= o->seal_count, index, "there is no such seal");
    for (size_t i = 0; i < o->n_seals; i++)
        if (o->seals[i].number == number)
            return o->seals[i];
    return (struct seal){ .number = number, .at = o->start, .rows = o->dropped };
}

/* ---- reading ---- */

/* Moves *at to the next record, from the one at *at on, that is not left out. False if there is
 * none before <end>. */
static bool find_record(lua_State *L, struct api_outbox *o, uint64_t *at, uint64_t end,
                        struct packed_head *head)
{
    *at = *at < o->start ? o->start : *at;
    for (; *at < end && *at < o->end; *at += head->len) {
        memcpy(head, bytes_at(L, o, *at, sizeof *head), sizeof *head);
        if (!(head->parts & PACKED_LEFT_OUT))
            return true;
    }
    return false;
}

/* Pushes the parts of a record, of which the first is at that place. */
static void push_parts(lua_State *L, struct api_outbox *o, uint64_t at, uint32_t parts)
{
    luaL_checkstack(L, (int)parts, "too many parts");
    for (uint32_t i = 0; i < parts; i++) {
        uint32_t len;

        memcpy(&len, bytes_at(L, o, at, sizeof len), sizeof len);
        at += sizeof len;
        if (len == PACKED_ABSENT) {
            lua_pushnil(L);
        } else {
            lua_pushlstring(L, bytes_at(L, o, at, len), len);
            at += len;
        }
    }
}

/* The iterator. Upvalues: the outbox, where it goes on, where it ends. */
static int next_record(lua_State *L)
{
    struct api_outbox *o = api_outbox_at(L, lua_upvalueindex(1));
    uint64_t at = (uint64_t)lua_tointeger(L, lua_upvalueindex(2));
    uint64_t end = (uint64_t)lua_tointeger(L, lua_upvalueindex(3));
    struct packed_head head;

    if (!find_record(L, o, &at, end, &head))
        return 0;
    bytes_at(L, o, at, head.len); /* all of it is at hand now */
    lua_pushinteger(L, (lua_Integer)(at + head.len));
    lua_replace(L, lua_upvalueindex(2));
    lua_settop(L, 0);
    lua_pushinteger(L, (lua_Integer)head.lane);
    push_parts(L, o, at + sizeof head, head.parts);
    return (int)head.parts + 1;
}

static int each(lua_State *L)
{
    struct api_outbox *o = api_outbox_at(L, 1);
    struct seal to = check_seal(L, o, 2);

    lua_settop(L, 1);
    lua_pushinteger(L, (lua_Integer)o->start);
    lua_pushinteger(L, (lua_Integer)to.at);
    lua_pushcclosure(L, next_record, 3);
    return 1;
}

/* The bytes of records from the place at index 2 on, up to a seal: one at least, and no more than a
 * window; then the place behind them. Nothing if there are none. */
static int chunk(lua_State *L)
{
    struct api_outbox *o = api_outbox_at(L, 1);
    struct seal to = check_seal(L, o, 3);
    uint64_t from = (uint64_t)luaL_optinteger(L, 2, (lua_Integer)o->start), at;
    struct packed_head head;

    if (from < o->start)
        from = o->start;
    for (at = from; at < to.at && at < o->end; at += head.len) {
        memcpy(&head, bytes_at(L, o, at, sizeof head), sizeof head);
        if (at > from && (at + head.len - from > WINDOW || (from < o->split && at >= o->split)))
            break;
    }
    if (at == from)
        return 0;
    if (lua_isuserdata(L, 4) && lua_rawlen(L, 4) >= at - from) {
        memcpy(lua_touserdata(L, 4), bytes_at(L, o, from, (size_t)(at - from)),
               (size_t)(at - from));
        lua_pushvalue(L, 4);
    } else {
        lua_pushlstring(L, bytes_at(L, o, from, (size_t)(at - from)), (size_t)(at - from));
    }
    lua_pushinteger(L, (lua_Integer)at);
    lua_pushinteger(L, (lua_Integer)(at - from));
    return 3;
}

static int room(lua_State *L)
{
    lua_newuserdatauv(L, WINDOW, 0);
    return 1;
}

uint64_t api_outbox_end(lua_State *L, struct api_outbox *o, int index)
{
    return check_seal(L, o, index).at;
}

bool api_outbox_find(lua_State *L, struct api_outbox *o, uint64_t *at, uint64_t end,
                     uint64_t *next, uint64_t *lane)
{
    struct packed_head head;

    if (!find_record(L, o, at, end, &head))
        return false;
    *next = *at + head.len;
    *lane = head.lane;
    return true;
}

const char *api_outbox_record(lua_State *L, struct api_outbox *o, uint64_t place, size_t *len)
{
    struct packed_head head;

    memcpy(&head, bytes_at(L, o, place, sizeof head), sizeof head);
    *len = head.len;
    return bytes_at(L, o, place, head.len);
}

const char *api_outbox_part(lua_State *L, struct api_outbox *o, uint64_t place, int part,
                            size_t *len)
{
    struct packed_head head;
    uint32_t part_len;
    uint64_t at = place + sizeof head;

    memcpy(&head, bytes_at(L, o, place, sizeof head), sizeof head);
    bytes_at(L, o, place, head.len); /* all of it is at hand now */
    for (uint32_t i = 1; i <= (head.parts & ~PACKED_LEFT_OUT); i++) {
        memcpy(&part_len, bytes_at(L, o, at, sizeof part_len), sizeof part_len);
        at += sizeof part_len;
        if (i == (uint32_t)part) {
            *len = part_len != PACKED_ABSENT ? part_len : 0;
            return part_len != PACKED_ABSENT ? bytes_at(L, o, at, part_len) : NULL;
        }
        at += part_len != PACKED_ABSENT ? part_len : 0;
    }
    *len = 0;
    return NULL;
}

static int distinct(lua_State *L)
{
    struct api_outbox *o = api_outbox_at(L, 1);
    int part = (int)luaL_checkinteger(L, 2);
    uint64_t at = o->start;
    struct packed_head head;
    lua_Integer n = 0;

    lua_settop(L, 2);
    lua_newtable(L);
    lua_pushnil(L); /* the last one */
    for (; find_record(L, o, &at, o->end, &head); at += head.len) {
        size_t len, last_len = 0;
        const char *text = api_outbox_part(L, o, at, part, &len);
        const char *last = lua_tolstring(L, 4, &last_len);

        if (text == NULL || (last != NULL && len == last_len && memcmp(text, last, len) == 0))
            continue;
        lua_pushlstring(L, text, len);
        lua_replace(L, 4);
        lua_pushvalue(L, 4);
        lua_rawseti(L, 3, ++n);
    }
    lua_settop(L, 3);
    return 1;
}

static int rows(lua_State *L)
{
    const struct api_outbox *o = api_outbox_at(L, 1);

    lua_pushinteger(L, check_seal(L, o, 2).rows - o->dropped);
    return 1;
}

lua_Integer api_outbox_bytes(const struct api_outbox *o)
{
    return (lua_Integer)(o->end - o->start);
}

static int bytes(lua_State *L)
{
    const struct api_outbox *o = api_outbox_at(L, 1);

    lua_pushinteger(L, (lua_Integer)(check_seal(L, o, 2).at - o->start));
    return 1;
}

/* ---- dropping ---- */

/* Gives back the room of what was dropped. */
static void release(struct api_outbox *o)
{
    if (o->start < o->split) {
#ifdef FALLOC_FL_PUNCH_HOLE
        int done = fallocate(o->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                             (off_t)(o->start - o->file_at));

        (void)done; /* where the file system cannot, the room is given back later */
#endif
        return;
    }
    if (o->split - o->file_at > KEPT_FILE)
        close_file(o);
    if (o->start == o->end && o->mem.cap > IN_MEMORY / 4) {
        buf_fini(&o->mem);
        buf_init(&o->mem, MOST);
    } else if (o->start > o->split) {
        size_t dropped = (size_t)(o->start - o->split);

        memmove(o->mem.data, o->mem.data + dropped, o->mem.len - dropped);
        o->mem.len -= dropped;
    }
    o->split = o->file_at = o->start; /* what is in the file is overwritten; */
    o->dirty = o->dirty_end = 0;      /* no place is used again, so a window of it is never met */
}

static int drop(lua_State *L)
{
    struct api_outbox *o = api_outbox_at(L, 1);
    struct seal to = check_seal(L, o, 2);
    size_t n = 0;

    while (n < o->n_seals && o->seals[n].number <= to.number)
        n++;
    if (n > 0)
        memmove(o->seals, o->seals + n, (o->n_seals - n) * sizeof *o->seals);
    o->n_seals -= n;
    o->start = to.at;
    o->dropped = to.rows;
    release(o);
    return 0;
}

/* Sets PACKED_LEFT_OUT in the head of the record at that place. Of one in the file the window is
 * written back later: many records of it are left out, and a write for each would take longer than
 * all else that is done with them. */
static void set_left_out(lua_State *L, struct api_outbox *o, uint64_t at, struct packed_head head)
{
    size_t offset;

    head.parts |= PACKED_LEFT_OUT;
    bytes_at(L, o, at, sizeof head); /* it is at hand now */
    if (at >= o->split) {
        memcpy(o->mem.data + (at - o->split), &head, sizeof head);
        return;
    }
    offset = (size_t)(at - o->window_at);
    memcpy(o->window.data + offset, &head, sizeof head);
    if (o->dirty_end == 0 || offset < o->dirty)
        o->dirty = offset;
    if (offset + sizeof head > o->dirty_end)
        o->dirty_end = offset + sizeof head;
}

void api_outbox_leave_out(lua_State *L, struct api_outbox *o, uint64_t place)
{
    struct packed_head head;

    memcpy(&head, bytes_at(L, o, place, sizeof head), sizeof head);
    set_left_out(L, o, place, head);
}

static int leave_out(lua_State *L)
{
    struct api_outbox *o = api_outbox_at(L, 1);
    struct packed_head head;
    uint64_t at = o->start;
    lua_Integer number = 0;

    luaL_checktype(L, 2, LUA_TTABLE);
    for (lua_Integer i = 1, n = (lua_Integer)lua_rawlen(L, 2); i <= n; i++) {
        lua_Integer wanted;

        lua_rawgeti(L, 2, i);
        wanted = lua_tointeger(L, -1);
        lua_pop(L, 1);
        for (; number < wanted && find_record(L, o, &at, o->end, &head); at += head.len)
            if (++number == wanted)
                set_left_out(L, o, at, head);
    }
    return 0;
}

static int hash(lua_State *L)
{
    lua_settop(L, 1);
    lua_pushinteger(L, (lua_Integer)check_lane(L, 1));
    return 1;
}

void api_outbox_export(lua_State *L)
{
    static const luaL_Reg methods[] = {
        { "put", put }, { "seal", seal }, { "each", each },
        { "chunk", chunk }, { "rows", rows }, { "bytes", bytes }, { "drop", drop },
        { "leave_out", leave_out }, { "distinct", distinct }, { NULL, NULL },
    };

    luaL_newmetatable(L, OUTBOX);
    guard_set(L, -1, OUTBOX);
    lua_pushcfunction(L, free_outbox);
    lua_setfield(L, -2, "__gc");
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lua_pushcfunction(L, new_outbox);
    lua_setfield(L, -2, "outbox");
    lua_pushcfunction(L, hash);
    lua_setfield(L, -2, "hash");
    lua_pushcfunction(L, room);
    lua_setfield(L, -2, "outbox_room");
}
