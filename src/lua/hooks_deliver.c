/* hooks_deliver.c -- hands rows over to the handlers of their source.
 * SPDX-License-Identifier: MIT */
#include "lua/hooks_deliver.h"

#include "base/clock.h"
#include "capture/recording.h"
#include "lua/api_direct.h"
#include "lua/change.h"
#include "lua/hooks.h"
#include "lua/tap.h"

#include <lauxlib.h>

/* The events of changes come first, in the order of the ops. */
static enum api_source_event event_of(int op)
{
    return (enum api_source_event)(API_SOURCE_READ + op);
}

static bool has_handler(const struct api_source *source)
{
    for (int op = 0; op < OP_COUNT; op++)
        if (source->handlers[event_of(op)] != LUA_NOREF)
            return true;
    return false;
}

#define FAST 2e-5 /* seconds that a change takes, below which not each looks at the clock, */
#define EACH 8    /* but one of so many */

/* How long changes take. The clock is asked when it has ticked: so what is slow is timed one by
 * one, and of what is fast the mean of some milliseconds. */
struct pace {
    int64_t since_ns, tick_ns;
    uint64_t n; /* changes since then */
    bool is_fast;
};

static struct pace begin_pace(const struct script *s, const struct api_source *source)
{
    if (!s->is_timed)
        return (struct pace){ 0 };
    return (struct pace){ clock_mono_ns(), clock_tick_ns(), 0,
                          source->took.count > 0 && source->took.last < FAST };
}

static void add_times(struct api_source *source, struct pace *p)
{
    int64_t now = clock_mono_ns();

    if (p->n > 0)
        histogram_add(&source->took, (double)(now - p->since_ns) / 1e9 / (double)p->n, p->n);
    p->since_ns = now;
    p->n = 0;
    p->is_fast = source->took.last < FAST;
}

/* <n> changes more were delivered. */
static void count_changes(struct script *s, struct api_source *source, const struct chunk_row *rows,
                          size_t n, struct pace *p)
{
    int64_t tick;

    for (size_t i = 0; i < n; i++)
        source->delivered[rows[i].op]++;
    if (beat_is_asked(s->beat) && s->tell_tick != NULL)
        s->tell_tick(s->tell_arg);
    p->n += n;
    if (!s->is_timed || (n == 1 && p->n % EACH != 0 && p->is_fast))
        return;
    beat_turn(s->beat);
    tick = clock_tick_ns();
    if (tick == p->tick_ns)
        return;
    p->tick_ns = tick;
    add_times(source, p);
    if (s->tell_tick != NULL)
        s->tell_tick(s->tell_arg);
}

static void end_pace(const struct script *s, struct api_source *source, struct pace *p,
                     bool has_some)
{
    if (s->is_timed)
        add_times(source, p);
    if (has_some)
        source->delivered_us = clock_wall_us();
}

/* Gives row d->done to its handler, if it has one, whose metatable is at index 2, and the handlers
 * after it. False: it wants the same change later. */
static bool call_handler(lua_State *L, const struct hooks_deliver_rows *d)
{
    struct script *s = script_of(L);
    const struct chunk_row *row = &d->chunk->rows[d->done];
    int handler = 3 + (int)row->op;
    bool is_done;

    if (lua_isnil(L, handler))
        return true;
    lua_pushvalue(L, handler);
    change_push(L, 2, d->chunk, row);
    script_start_clock(s);
    lua_call(L, 1, 1);
    is_done = lua_touserdata(L, -1) != s; /* `again` */
    lua_pop(L, 1);
    return is_done;
}

static int deliver(lua_State *L)
{
    struct hooks_deliver_rows *d = lua_touserdata(L, 1);
    const struct chunk *chunk = d->chunk;
    struct script *s = script_of(L);
    struct api_source *source = &s->sources[d->source];
    size_t before = d->done;
    struct pace pace;
    int direct;

    lua_rawgeti(L, LUA_REGISTRYINDEX, s->hooks[SCRIPT_HOOK_ENTER]);
    lua_pushinteger(L, (lua_Integer)d->source + 1);
    lua_pushinteger(L, (lua_Integer)d->batch);
    lua_pushboolean(L, d->done < chunk->n_rows);
    lua_call(L, 3, 0);
    change_push_metatable(L, chunk->rowtype, source->name, &source->metatable); /* job mt */
    for (int op = 0; op < OP_COUNT; op++) /* job mt read upsert ... */
        lua_rawgeti(L, LUA_REGISTRYINDEX, source->handlers[event_of(op)]);
    pace = begin_pace(s, source);
    direct = before < chunk->n_rows ? api_direct_begin(L, source, 2) : 0;
    while (d->done < chunk->n_rows) {
        size_t n = 0;

        script_start_clock(s);
        if (direct != 0 && !source->is_tapped)
            n = api_direct_put(L, direct, chunk, &d->done);
        if (n == 0) {
            if (!call_handler(L, d))
                break;
            d->done++;
            n = 1;
        }
        count_changes(s, source, &chunk->rows[d->done - n], n, &pace);
        if (source->is_tapped)
            tap_show(L, d->source, 2, chunk, &chunk->rows[d->done - 1]);
        if (source->pauses > 0 || (d->may_stop && (s->wants_flush || script_should_stop(s))))
            break;
    }
    end_pace(s, source, &pace, d->done > before);
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->hooks[SCRIPT_HOOK_LEAVE]);
    lua_call(L, 0, 0);
    return 0;
}

/* Puts the source and the key of the change that failed in front of <e>. Returns false. */
static bool name_failure(const struct script *s, const struct hooks_deliver_rows *rows,
                         struct err *e)
{
    const char *source = s->sources[rows->source].name;
    const struct chunk *chunk = rows->chunk;
    struct buf key;

    buf_init(&key, 200);
    if (rows->done < chunk->n_rows && chunk_row_key(chunk, &chunk->rows[rows->done], &key)) {
        for (char *p = key.data; *p != '\0'; p++)
            if (*p == '\t')
                *p = ',';
        err_prefix(e, "source %s, key %s", source, key.data);
    } else {
        err_prefix(e, "source %s", source);
    }
    buf_fini(&key);
    return false;
}

/* Records the rows that were delivered since <before>, and one that failed. */
static void record(const struct script *s, const struct hooks_deliver_rows *rows, size_t before,
                   bool ok)
{
    size_t end = !ok && rows->done < rows->chunk->n_rows ? rows->done + 1 : rows->done;

    if (s->recording != NULL)
        recording_add_rows(s->recording, s->sources[rows->source].name, rows->chunk, before, end);
}

bool hooks_deliver(struct script *s, struct hooks_deliver_rows *rows, struct err *e)
{
    size_t before = rows->done;
    bool ok;

    if (rows->chunk->rowtype != NULL && !hooks_announce(s, rows->source, rows->chunk->rowtype, e))
        return false;
    if (rows->chunk->rowtype == NULL || (!has_handler(&s->sources[rows->source]) &&
                                         !s->sources[rows->source].is_tapped)) {
        for (; rows->done < rows->chunk->n_rows; rows->done++)
            s->sources[rows->source].delivered[rows->chunk->rows[rows->done].op]++;
        s->sources[rows->source].delivered_us = clock_wall_us();
        record(s, rows, before, true);
        return true;
    }
    ok = script_call(s, deliver, rows, e);
    record(s, rows, before, ok);
    return ok || name_failure(s, rows, e);
}
