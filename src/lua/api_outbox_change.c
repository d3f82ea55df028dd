/* api_outbox_change.c -- puts a change into an outbox, with its key and headers.
 * SPDX-License-Identifier: MIT */
#include "lua/api_outbox_change.h"

#include "base/hash.h"
#include "lua/api_id_counts.h"
#include "lua/change.h"
#include "lua/change_id.h"
#include "lua/change_key.h"
#include "lua/change_plain.h"
#include "lua/json.h"
#include "lua/script.h"

#include <lauxlib.h>
#include <string.h>

/* Appends a part. NULL: it is absent. */
static void add_part(struct buf *b, const char *text, size_t len)
{
    uint32_t as = text != NULL ? (uint32_t)len : PACKED_ABSENT;

    b->failed = b->failed || len >= PACKED_ABSENT / 2;
    buf_add(b, &as, sizeof as);
    buf_add(b, text, len);
}

/* Appends the length of a part whose bytes follow. Returns the place for `end_part`. */
static size_t begin_part(struct buf *b)
{
    uint32_t none = 0;

    buf_add(b, &none, sizeof none);
    return b->len;
}

static void end_part(struct buf *b, size_t begin)
{
    uint32_t len = (uint32_t)(b->len - begin);

    b->failed = b->failed || b->len - begin >= PACKED_ABSENT / 2;
    if (buf_ok(b))
        memcpy(b->data + begin - sizeof len, &len, sizeof len);
}

/* The indexes of the arguments of put_change. */
enum { OUTBOX = 1, KNOWN, SOURCE, CHANGE, COUNTS };

/* What is known of the changes of a row class is a list: their topic, then the headers of each op
 * that was learned. */
enum { KNOWN_TOPIC = 1, KNOWN_HEADERS };

static bool is_part_of_record(const char *name)
{
    static const char *const names[] = { "id", "seq", "ts", "op", "schema", "table", "source" };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

/* True if a script has given the change what is in its id, topic or headers. */
static bool is_altered(lua_State *L)
{
    bool is = false;

    for (lua_pushnil(L); lua_next(L, CHANGE); lua_pop(L, 1))
        is = is || (lua_type(L, -2) == LUA_TSTRING && is_part_of_record(lua_tostring(L, -2)));
    return is;
}

/* Appends the headers, those that are known first. */
static void add_headers(lua_State *L, struct buf *b, const struct row_class *class,
                        struct rowdata *d, struct packed_part known)
{
    size_t all = begin_part(b), begin;

    buf_add(b, known.text, known.len);
    add_part(b, "id", 2);
    begin = begin_part(b);
    change_id_put(L, class, d, b);
    end_part(b, begin);
    add_part(b, "seq", 3);
    if (d->seq == 0) {
        add_part(b, NULL, 0);
    } else {
        begin = begin_part(b);
        buf_put_u64(b, d->seq);
        end_part(b, begin);
    }
    add_part(b, "ts", 2);
    add_part(b, d->ts, strlen(d->ts));
    end_part(b, all);
}

/* The lane of the change, as remote.lane in Lua has it. */
static uint64_t lane_of(lua_State *L, struct buf *b)
{
    const struct rowtype *s = row_class_at(L, CHANGE)->rowtype;
    size_t before = b->len;
    uint64_t lane;

    buf_add(b, s->schema, strlen(s->schema) + 1);
    buf_add(b, s->table, strlen(s->table) + 1);
    change_key_put_json(L, CHANGE, b);
    json_check(L, b);
    lane = hash_digest(b->data + before, b->len - before);
    b->len = before;
    return lane;
}

/* Appends the id, which is in the first part of the record, with a number behind it, if there are
 * several of that id: else nothing. */
static void add_own_id(lua_State *L, struct buf *b)
{
    const char *at = b->data + sizeof(struct packed_head);
    struct packed_part id;
    uint64_t n;
    size_t begin;

    json_check(L, b);
    packed_take(&at, b->data + b->len, &id);
    n = api_id_counts_add(L, COUNTS, id.text, id.len);
    if (n == 1) {
        add_part(b, NULL, 0);
        return;
    }
    begin = begin_part(b);
    if (buf_reserve(b, id.len) != NULL) /* which may have moved the id */
        buf_add(b, b->data + sizeof(struct packed_head) + sizeof id.len, id.len);
    buf_putc(b, '/');
    buf_put_u64(b, n);
    end_part(b, begin);
}

/* Makes the record of a change in the scratch. <change>: its index, or 0 if only its row data is
 * there. */
static struct buf *make_record(lua_State *L, const struct row_class *class, struct rowdata *d,
                               const struct api_outbox_change_with *with, int change)
{
    struct packed_head head = { .parts = 7 };
    struct buf *b = script_scratch(L);
    size_t begin;

    buf_add(b, &head, sizeof head);
    begin = begin_part(b);
    change_id_put(L, class, d, b);
    end_part(b, begin);
    add_part(b, with->source.text, with->source.len);
    add_part(b, with->topic.text, with->topic.len);
    begin = begin_part(b);
    if (change != 0)
        change_key_put_json(L, change, b);
    else
        change_key_put(L, class, d, b);
    end_part(b, begin);
    begin = begin_part(b);
    if (change != 0)
        json_put(L, change, b);
    else
        change_plain_put(L, class, d, b);
    end_part(b, begin);
    add_headers(L, b, class, d, with->headers);
    if (change == 0 || lua_isnil(L, COUNTS)) {
        add_part(b, NULL, 0);
    } else {
        add_own_id(L, b);
        head.lane = lane_of(L, b);
    }
    json_check(L, b);
    head.len = (uint32_t)b->len;
    memcpy(b->data, &head, sizeof head);
    return b;
}

struct packed_part api_outbox_change_text(lua_State *L, int index)
{
    size_t len = 0;
    const char *text = lua_tolstring(L, index, &len);

    return (struct packed_part){ text, (uint32_t)len };
}

bool api_outbox_change_find(lua_State *L, int known, enum op op,
                            struct api_outbox_change_with *with)
{
    bool is_known = lua_rawget(L, known) == LUA_TTABLE;        /* list */

    if (is_known) {
        lua_rawgeti(L, -1, KNOWN_TOPIC);
        is_known = lua_rawgeti(L, -2, KNOWN_HEADERS + (int)op) == LUA_TSTRING;
        lua_remove(L, -3);                                     /* topic headers */
    } else {
        lua_pushnil(L);
    }
    with->topic = api_outbox_change_text(L, -2);
    with->headers = api_outbox_change_text(L, -1);
    return is_known;
}

void api_outbox_change_add(lua_State *L, struct api_outbox *o, const struct row_class *class,
                           struct rowdata *d, const struct api_outbox_change_with *with)
{
    api_outbox_add(L, o, make_record(L, class, d, with, 0));
}

static int put_change(lua_State *L)
{
    struct api_outbox_change_with with;
    struct api_outbox *o = api_outbox_at(L, OUTBOX);
    const struct row_class *class;
    struct rowdata *d;

    lua_settop(L, COUNTS);
    luaL_checktype(L, KNOWN, LUA_TTABLE);
    if (!change_is(L, CHANGE))
        return 0;
    class = row_class_at(L, CHANGE);
    d = rowdata_at(L, CHANGE, class);
    row_class_push_of(L, CHANGE);
    if (!api_outbox_change_find(L, KNOWN, d->op, &with) || is_altered(L))
        return 0;
    with.source = api_outbox_change_text(L, SOURCE);
    api_outbox_add(L, o, make_record(L, class, d, &with, CHANGE));
    lua_pushinteger(L, api_outbox_bytes(o));
    return 1;
}

/* The arguments of put_json: those above, with texts in the place of the last. */
enum { ADDRESS = COUNTS, HELD };

/* Appends the text at <index>, or that it is absent. */
static void add_text(lua_State *L, struct buf *b, int index)
{
    size_t len = 0;
    const char *text = luaL_optlstring(L, index, NULL, &len);

    add_part(b, text, len);
}

static int put_json(lua_State *L)
{
    struct packed_head head = { .parts = 6 };
    struct api_outbox *o = api_outbox_at(L, OUTBOX);
    struct buf *b;
    size_t begin;

    lua_settop(L, HELD);
    if (!change_is(L, CHANGE) || is_altered(L))
        return 0;
    b = script_scratch(L);
    buf_add(b, &head, sizeof head);
    begin = begin_part(b);
    change_id_put(L, row_class_at(L, CHANGE), rowdata_at(L, CHANGE, row_class_at(L, CHANGE)), b);
    end_part(b, begin);
    add_text(L, b, SOURCE);
    add_text(L, b, ADDRESS);
    begin = begin_part(b);
    json_put(L, CHANGE, b);
    end_part(b, begin);
    add_part(b, NULL, 0);
    add_text(L, b, HELD);
    head.lane = lane_of(L, b);
    head.len = (uint32_t)b->len;
    memcpy(b->data, &head, sizeof head);
    api_outbox_add(L, o, b);
    lua_pushinteger(L, api_outbox_bytes(o));
    return 1;
}

static int learn_change(lua_State *L)
{
    lua_settop(L, 4);                                          /* known change topic headers */
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_argcheck(L, change_is(L, 2), 2, "a change");
    row_class_push_of(L, 2);                                   /* ... class */
    lua_pushvalue(L, 5);
    if (lua_rawget(L, 1) != LUA_TTABLE) {
        lua_createtable(L, KNOWN_HEADERS + OP_COUNT, 0);
        lua_pushvalue(L, 5);
        lua_pushvalue(L, -2);
        lua_rawset(L, 1);                                      /* ... class nil list */
    }
    lua_pushvalue(L, 3);
    lua_rawseti(L, -2, KNOWN_TOPIC);
    lua_pushvalue(L, 4);
    lua_rawseti(L, -2, KNOWN_HEADERS + (int)rowdata_at(L, 2, row_class_at(L, 2))->op);
    return 0;
}

void api_outbox_change_export(lua_State *L)
{
    lua_pushcfunction(L, put_change);
    lua_setfield(L, -2, "put_change");
    lua_pushcfunction(L, put_json);
    lua_setfield(L, -2, "put_json");
    lua_pushcfunction(L, learn_change);
    lua_setfield(L, -2, "learn_change");
}
