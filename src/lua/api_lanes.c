/* api_lanes.c -- which records of an outbox may go now, where several are on their way at a time.
 * SPDX-License-Identifier: MIT
 *
 *    outbox   ... |A1|B1|A2|C1|A3|B2|C2| ...      the cursor: what is before it is known here
 *    lane A   busy (A1 is on its way)   waits: A2 -> A3
 *    lane B   free                      waits: B1 -> B2      in the heap, by the place of B1
 *    lane C   held                      waits: C1 -> C2
 *
 * A lane is in the heap if it has a record that waits, and is neither busy nor held. One that has
 * become busy or held since is passed over when it comes to the top. While a batch is made its own
 * lanes do not count as busy: so a record can follow another one of its lane in the same batch.
 *
 * Items have numbers, not pointers: NONE is no item. */
#include "lua/api_lanes.h"

#include "base/array.h"
#include "base/packed.h"
#include "base/warn.h"
#include "lua/api_outbox.h"
#include "lua/guard.h"
#include "lua/json.h"
#include "lua/ready_lane.h"
#include "lua/script.h"

#include <lauxlib.h>
#include <stdlib.h>

#define LANES "pgcdc.lanes"
#define NONE UINT32_MAX
#define MOST 16384u /* records that are known at a time */
#define FEW (MOST / 2)
#define BUCKETS 16384u

struct record {
    uint64_t place;
    uint32_t lane;
    uint32_t next; /* of its lane, of its batch, or of those that are free */
};

struct lane {
    uint64_t number;
    uint32_t first, last; /* records that wait */
    uint32_t busy;        /* records that are in batches */
    uint32_t taken_by;    /* the last take */
    uint32_t next;        /* of its bucket, or of those that are free */
    bool is_in_heap, is_held;
};

struct batch {
    uint32_t first, last, count; /* 0: the number is free */
};

struct lanes {
    uint64_t cursor, end;
    struct record *records;
    struct lane *lanes;
    struct ready_lane_heap heap;
    struct ready_lane *aside;
    struct batch *batches;
    size_t n_records, cap_records, n_lanes, cap_lanes, n_aside, cap_aside, n_batches;
    size_t cap_batches;
    uint32_t used; /* records that are not free */
    uint32_t free_record, free_lane;
    uint32_t take; /* number of the last one */
    int together;
    uint32_t buckets[BUCKETS];
};

static struct lanes *lanes_at(lua_State *L)
{
    return luaL_checkudata(L, 1, LANES);
}

/* Their outbox, which they own. It is on top of the stack then. */
static struct api_outbox *outbox_of(lua_State *L)
{
    lua_getiuservalue(L, 1, 1);
    return api_outbox_at(L, -1);
}

static int no_memory(lua_State *L)
{
    return luaL_error(L, "not enough memory");
}

static int free_lanes(lua_State *L)
{
    struct lanes *l = lanes_at(L);

    free(l->records);
    free(l->lanes);
    ready_lane_fini(&l->heap);
    free(l->aside);
    free(l->batches);
    l->records = NULL;
    l->lanes = NULL;
    l->aside = NULL;
    l->batches = NULL;
    l->n_records = l->cap_records = l->n_lanes = l->cap_lanes = 0;
    l->n_aside = l->cap_aside = l->n_batches = l->cap_batches = 0;
    l->cursor = l->end;
    return 0;
}

static int new_lanes(lua_State *L)
{
    struct api_outbox *o = api_outbox_at(L, 1);
    uint64_t end = api_outbox_end(L, o, 2);
    int together = (int)luaL_optinteger(L, 3, 0);
    struct lanes *l = lua_newuserdatauv(L, sizeof *l, 1);

    *l = (struct lanes){ .end = end, .together = together, .free_record = NONE,
                         .free_lane = NONE };
    for (size_t i = 0; i < BUCKETS; i++)
        l->buckets[i] = NONE;
    luaL_setmetatable(L, LANES);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    return 1;
}

/* ---- the heap ---- */

static bool WARN_UNUSED heap_push(struct lanes *l, uint32_t lane, uint64_t place)
{
    const struct ready_lane it = { .place = place, .lane = lane };

    if (!ready_lane_push(&l->heap, it))
        return false;
    l->lanes[lane].is_in_heap = true;
    return true;
}

static struct ready_lane heap_pop(struct lanes *l)
{
    const struct ready_lane top = ready_lane_pop(&l->heap);

    l->lanes[top.lane].is_in_heap = false;
    return top;
}

/* ---- records and lanes ---- */

/* The lane of that number; makes it if it is not there. NONE: no memory. */
static uint32_t find_lane(struct lanes *l, uint64_t number)
{
    uint32_t *bucket = &l->buckets[(number ^ number >> 32) % BUCKETS], i = *bucket;

    for (; i != NONE; i = l->lanes[i].next)
        if (l->lanes[i].number == number)
            return i;
    i = l->free_lane;
    if (i != NONE) {
        l->free_lane = l->lanes[i].next;
    } else {
        if (!ARRAY_RESERVE(l->lanes, l->n_lanes, l->cap_lanes, 1))
            return NONE;
        i = (uint32_t)l->n_lanes++;
    }
    l->lanes[i] = (struct lane){ .number = number, .first = NONE, .last = NONE, .next = *bucket };
    *bucket = i;
    return i;
}

/* What has become possible for a lane: it is ready, or nobody needs it any more. */
static bool WARN_UNUSED update_lane(struct lanes *l, uint32_t i)
{
    struct lane *lane = &l->lanes[i];
    uint32_t *from = &l->buckets[(lane->number ^ lane->number >> 32) % BUCKETS];

    if (lane->busy > 0 || lane->is_held || lane->is_in_heap)
        return true;
    if (lane->first != NONE)
        return heap_push(l, i, l->records[lane->first].place);
    while (*from != i)
        from = &l->lanes[*from].next;
    *from = lane->next;
    lane->next = l->free_lane;
    l->free_lane = i;
    return true;
}

/* Adds the record at a place to what waits. */
static bool WARN_UNUSED add_record(struct lanes *l, uint64_t place, uint64_t number)
{
    uint32_t lane = find_lane(l, number), i = l->free_record;

    if (lane == NONE)
        return false;
    if (i != NONE) {
        l->free_record = l->records[i].next;
    } else {
        if (!ARRAY_RESERVE(l->records, l->n_records, l->cap_records, 1))
            return false;
        i = (uint32_t)l->n_records++;
    }
    l->records[i] = (struct record){ .place = place, .lane = lane, .next = NONE };
    if (l->lanes[lane].first == NONE)
        l->lanes[lane].first = i;
    else
        l->records[l->lanes[lane].last].next = i;
    l->lanes[lane].last = i;
    l->used++;
    return update_lane(l, lane);
}

/* Gets to know records, as many as can be known. */
static void fill(lua_State *L, struct lanes *l, struct api_outbox *o)
{
    uint64_t next, number;

    while (l->used < MOST && api_outbox_find(L, o, &l->cursor, l->end, &next, &number)) {
        if (!add_record(l, l->cursor, number))
            no_memory(L);
        l->cursor = next;
    }
}

/* ---- batches ---- */

static struct batch *batch_at(lua_State *L, struct lanes *l, int index)
{
    lua_Integer number = luaL_checkinteger(L, index);

    luaL_argcheck(L, number >= 1 && (size_t)number <= l->n_batches &&
                  l->batches[number - 1].count > 0, index, "there is no such batch");
    return &l->batches[number - 1];
}

/* The number of an empty batch, from 0. */
static size_t new_batch(lua_State *L, struct lanes *l)
{
    const struct batch none = { .first = NONE, .last = NONE };

    for (size_t i = 0; i < l->n_batches; i++)
        if (l->batches[i].count == 0) {
            l->batches[i] = none;
            return i;
        }
    if (!ARRAY_PUSH(l->batches, l->n_batches, l->cap_batches, none))
        no_memory(L);
    return l->n_batches - 1;
}

static void append(struct lanes *l, struct batch *b, uint32_t record)
{
    l->records[record].next = NONE;
    if (b->count++ == 0)
        b->first = record;
    else
        l->records[b->last].next = record;
    b->last = record;
}

/* Moves the first record that waits in a lane to the batch. */
static bool WARN_UNUSED move_first(struct lanes *l, size_t batch, uint32_t i)
{
    struct lane *lane = &l->lanes[i];
    uint32_t record = lane->first;

    lane->first = l->records[record].next;
    lane->busy++;
    lane->taken_by = l->take;
    append(l, &l->batches[batch], record);
    return lane->first == NONE || heap_push(l, i, l->records[lane->first].place);
}

/* Pushes what the records of a batch have in common, of the record at a place; nil: it is absent,
 * or nothing is asked for. */
static void push_common(lua_State *L, const struct lanes *l, struct api_outbox *o, uint64_t place)
{
    size_t len;
    const char *text = NULL;

    if (l->together > 0)
        text = api_outbox_part(L, o, place, l->together, &len);
    if (text != NULL)
        lua_pushlstring(L, text, len);
    else
        lua_pushnil(L);
}

/* Whether the record at a place has in common what is on top of the stack. */
static bool is_together(lua_State *L, const struct lanes *l, struct api_outbox *o, uint64_t place)
{
    size_t len, other_len;
    const char *text = lua_tolstring(L, -1, &len), *other;

    if (l->together == 0)
        return true;
    other = api_outbox_part(L, o, place, l->together, &other_len);
    return (text == NULL) == (other == NULL) &&
           (text == NULL || (len == other_len && memcmp(text, other, len) == 0));
}

/* Adds records to the batch, whose lanes come out of the heap. Leaves what they have in common on
 * the stack. */
static void collect(lua_State *L, struct lanes *l, struct api_outbox *o, size_t batch,
                    const lua_Integer limits[3])
{
    lua_Integer bytes = 0, looks = 4 * limits[0] + 64;
    bool is_full = false;

    l->n_aside = 0;
    while (l->heap.n > 0 && l->batches[batch].count < limits[0] && !is_full && looks-- > 0) {
        const struct ready_lane top = heap_pop(l);
        const struct lane *lane = &l->lanes[top.lane];
        size_t len;

        if (lane->is_held || (lane->busy > 0 && lane->taken_by != l->take))
            continue; /* it comes back when it is free */
        api_outbox_part(L, o, top.place, (int)limits[2], &len);
        bytes += (lua_Integer)len;
        is_full = l->batches[batch].count > 0 && bytes > limits[1];
        if (l->batches[batch].count == 0)
            push_common(L, l, o, top.place);
        if (is_full || !is_together(L, l, o, top.place)) {
            bytes -= (lua_Integer)len;
            if (!ARRAY_PUSH(l->aside, l->n_aside, l->cap_aside, top))
                no_memory(L);
        } else if (!move_first(l, batch, top.lane)) {
            no_memory(L);
        }
    }
    for (size_t i = 0; i < l->n_aside; i++)
        if (!heap_push(l, l->aside[i].lane, l->aside[i].place))
            no_memory(L);
}

static int take(lua_State *L)
{
    struct lanes *l = lanes_at(L);
    const lua_Integer limits[3] = { luaL_checkinteger(L, 2), luaL_checkinteger(L, 3),
                                    luaL_checkinteger(L, 4) };
    struct api_outbox *o = outbox_of(L);
    size_t batch = new_batch(L, l);

    l->take++;
    if (l->used <= FEW) /* not each time: the outbox has to read another place of its file */
        fill(L, l, o);
    collect(L, l, o, batch, limits);
    if (l->batches[batch].count == 0) { /* no lane that was known is free */
        fill(L, l, o);
        collect(L, l, o, batch, limits);
    }
    if (l->batches[batch].count == 0)
        return 0;
    lua_pushinteger(L, (lua_Integer)batch + 1);
    return 1;
}

static int singles(lua_State *L)
{
    struct lanes *l = lanes_at(L);
    lua_Integer limits[3] = { 1, LUA_MAXINTEGER, 1 }, most = luaL_checkinteger(L, 2), n;
    struct buf *b = script_scratch(L);
    struct api_outbox *o;

    lua_settop(L, 2);
    o = outbox_of(L);
    if (l->used <= FEW)
        fill(L, l, o);
    for (n = 0; n < most; n++) {
        size_t batch = new_batch(L, l), len, at = b->len;
        struct packed_head head;
        const char *record;

        l->take++;
        collect(L, l, o, batch, limits);
        if (n == 0 && l->batches[batch].count == 0) { /* no lane that was known is free */
            fill(L, l, o);
            collect(L, l, o, batch, limits);
        }
        if (l->batches[batch].count == 0)
            break;
        record = api_outbox_record(L, o, l->records[l->batches[batch].first].place, &len);
        buf_add(b, record, len);
        json_check(L, b);
        memcpy(&head, b->data + at, sizeof head);
        head.lane = batch + 1;
        memcpy(b->data + at, &head, sizeof head);
        lua_settop(L, 3);
    }
    if (n == 0)
        return 0;
    lua_pushlstring(L, b->data, b->len);
    lua_pushinteger(L, n);
    return 2;
}

static int count(lua_State *L)
{
    lua_pushinteger(L, batch_at(L, lanes_at(L), 2)->count);
    return 1;
}

static int part(lua_State *L)
{
    const struct lanes *l = lanes_at(L);
    const struct batch *b = batch_at(L, lanes_at(L), 2);
    int number = (int)luaL_checkinteger(L, 3);
    lua_Integer i = luaL_checkinteger(L, 4);
    uint32_t record = b->first;
    const char *text;
    size_t len;

    luaL_argcheck(L, i >= 1 && i <= b->count, 4, "there is no such record");
    while (--i > 0)
        record = l->records[record].next;
    text = api_outbox_part(L, outbox_of(L), l->records[record].place, number, &len);
    if (text != NULL)
        lua_pushlstring(L, text, len);
    else
        lua_pushnil(L);
    return 1;
}

static int text_of(lua_State *L)
{
    struct lanes *l = lanes_at(L);
    const struct batch *b = batch_at(L, l, 2);
    int number = (int)luaL_checkinteger(L, 3);
    size_t ends[3];
    const char *const texts[3] = { luaL_optlstring(L, 4, "", &ends[0]),
                                   luaL_optlstring(L, 5, "", &ends[1]),
                                   luaL_optlstring(L, 6, "", &ends[2]) };
    struct api_outbox *o = outbox_of(L);
    size_t len, all = ends[0] + ends[1] * (b->count - 1) + ends[2], at = ends[0];
    uint32_t i;
    luaL_Buffer to;
    char *p;

    for (i = b->first; i != NONE; i = l->records[i].next) {
        api_outbox_part(L, o, l->records[i].place, number, &len);
        all += len;
    }
    p = luaL_buffinitsize(L, &to, all); /* may run Lua; the numbers below are checked again */
    memcpy(p, texts[0], ends[0]);
    for (i = batch_at(L, l, 2)->first; i != NONE; i = l->records[i].next) {
        const char *text = api_outbox_part(L, o, l->records[i].place, number, &len);
        size_t more = l->records[i].next != NONE ? ends[1] : 0;

        if (len > all - at || more + ends[2] > all - at - len)
            return luaL_error(L, "the batch has changed while it was read");
        if (len > 0)
            memcpy(p + at, text, len);
        memcpy(p + at + len, texts[1], more);
        at += len + more;
    }
    memcpy(p + at, texts[2], ends[2]);
    luaL_pushresultsize(&to, at + ends[2]);
    return 1;
}

static int divide(lua_State *L)
{
    struct lanes *l = lanes_at(L);
    size_t from = (size_t)(batch_at(L, l, 2) - l->batches), to = new_batch(L, l);
    struct batch old = l->batches[from];
    uint32_t i = old.first;
    lua_Integer wanted, k = 1;

    luaL_checktype(L, 3, LUA_TTABLE);
    l->batches[from] = (struct batch){ .first = NONE, .last = NONE };
    for (lua_Integer number = 1; number <= old.count; number++) {
        uint32_t next = l->records[i].next;

        lua_rawgeti(L, 3, k);
        wanted = lua_tointeger(L, -1);
        lua_pop(L, 1);
        k += wanted == number;
        append(l, &l->batches[wanted == number ? to : from], i);
        i = next;
    }
    luaL_argcheck(L, l->batches[to].count > 0 && l->batches[from].count > 0, 3,
                  "both batches must have records");
    lua_pushinteger(L, (lua_Integer)to + 1);
    return 1;
}

/* The records of a batch are where they were to go. */
static void end_batch(lua_State *L, struct lanes *l, struct api_outbox *o, struct batch *b)
{
    uint32_t i = b->first, next;

    for (; i != NONE; i = next) {
        uint32_t lane = l->records[i].lane;

        api_outbox_leave_out(L, o, l->records[i].place);
        next = l->records[i].next;
        l->records[i].next = l->free_record;
        l->free_record = i;
        l->used--;
        l->lanes[lane].busy--;
        if (!update_lane(l, lane))
            no_memory(L);
    }
    *b = (struct batch){ .first = NONE, .last = NONE };
}

static int done(lua_State *L)
{
    struct lanes *l = lanes_at(L);
    bool is_list = lua_type(L, 2) == LUA_TTABLE;
    lua_Integer n = is_list ? (lua_Integer)lua_rawlen(L, 2) : 1;

    lua_settop(L, 2);
    outbox_of(L);
    for (lua_Integer i = 1; i <= n; i++, lua_settop(L, 3)) {
        if (is_list)
            lua_rawgeti(L, 2, i);
        end_batch(L, l, api_outbox_at(L, 3), batch_at(L, l, is_list ? 4 : 2));
    }
    return 0;
}

static int index_of(lua_State *L)
{
    const struct lanes *l = lanes_at(L);
    uint64_t place = l->records[batch_at(L, lanes_at(L), 2)->first].place, at = 0, next, number;
    struct api_outbox *o = outbox_of(L);
    lua_Integer n = 1;

    while (api_outbox_find(L, o, &at, place, &next, &number)) {
        at = next;
        n++;
    }
    lua_pushinteger(L, n);
    return 1;
}

static int lanes_of(lua_State *L)
{
    const struct lanes *l = lanes_at(L);
    uint32_t i = batch_at(L, lanes_at(L), 2)->first;
    lua_Integer n = 0;

    lua_newtable(L);
    for (; i != NONE; i = l->records[i].next) {
        lua_pushinteger(L, (lua_Integer)l->lanes[l->records[i].lane].number);
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

static int set_held(lua_State *L, bool is_held)
{
    struct lanes *l = lanes_at(L);
    uint32_t i = find_lane(l, (uint64_t)luaL_checkinteger(L, 2));

    if (i == NONE)
        return no_memory(L);
    l->lanes[i].is_held = is_held;
    if (!update_lane(l, i))
        return no_memory(L);
    return 0;
}

static int hold(lua_State *L)
{
    return set_held(L, true);
}

static int set_free(lua_State *L)
{
    return set_held(L, false);
}

static int left(lua_State *L)
{
    struct lanes *l = lanes_at(L);
    struct api_outbox *o = outbox_of(L);
    uint64_t next, number;

    fill(L, l, o);
    if (l->used > 0 && api_outbox_find(L, o, &l->cursor, l->end, &next, &number))
        return 0;
    lua_pushinteger(L, l->used);
    return 1;
}

void api_lanes_export(lua_State *L)
{
    static const luaL_Reg methods[] = {
        { "take", take }, { "singles", singles }, { "count", count }, { "part", part },
        { "text", text_of }, { "divide", divide }, { "done", done }, { "index", index_of },
        { "lanes", lanes_of }, { "hold", hold }, { "free", set_free }, { "left", left },
        { NULL, NULL },
    };

    luaL_newmetatable(L, LANES);
    guard_set(L, -1, LANES);
    lua_pushcfunction(L, free_lanes);
    lua_setfield(L, -2, "__gc");
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lua_pushcfunction(L, new_lanes);
    lua_setfield(L, -2, "lanes");
}
