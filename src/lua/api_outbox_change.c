/* api_outbox_change.c -- puts a change into an outbox, with its key and headers.
 * SPDX-License-Identifier: MIT */
#include "lua/api_outbox_change.h"

#include "base/packed.h"
#include "lua/api_outbox.h"
#include "lua/change.h"
#include "lua/change_id.h"
#include "lua/change_key.h"
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

/* True if a script has given the change at index 5 another id, seq or ts. */
static bool is_altered(lua_State *L)
{
    static const char *const names[] = { "id", "seq", "ts", "op" };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        lua_pushstring(L, names[i]);
        if (lua_rawget(L, 5) != LUA_TNIL)
            return true;
        lua_pop(L, 1);
    }
    return false;
}

/* Appends the headers of the change at index 5, behind those at index 4. */
static void add_headers(lua_State *L, struct buf *b)
{
    struct row_class *class = row_class_at(L, 5);
    struct rowdata *d = rowdata_at(L, 5, class);
    size_t len, all = begin_part(b), begin;
    const char *head = luaL_checklstring(L, 4, &len);

    buf_add(b, head, len);
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

/* Appends id, source, topic, key and value, whose sources are at the indexes 2, 3 and 5. */
static void add_body(lua_State *L, struct buf *b)
{
    struct row_class *class = row_class_at(L, 5);
    struct rowdata *d = rowdata_at(L, 5, class);
    size_t len, begin = begin_part(b);
    const char *text;

    change_id_put(L, class, d, b);
    end_part(b, begin);
    text = luaL_optlstring(L, 2, NULL, &len);
    add_part(b, text, text != NULL ? len : 0);
    text = luaL_checklstring(L, 3, &len);
    add_part(b, text, len);
    begin = begin_part(b);
    change_key_put_json(L, 5, b);
    end_part(b, begin);
    begin = begin_part(b);
    json_put(L, 5, b);
    end_part(b, begin);
}

static int put_change(lua_State *L)
{
    struct packed_head head = { .parts = 7 };
    struct api_outbox *o = api_outbox_at(L, 1);
    struct buf *b;

    lua_settop(L, 5);
    luaL_argcheck(L, change_is(L, 5), 5, "a change");
    if (is_altered(L)) {
        lua_pushboolean(L, false);
        return 1;
    }
    b = script_scratch(L);
    buf_add(b, &head, sizeof head);
    add_body(L, b);
    add_headers(L, b);
    add_part(b, NULL, 0);
    json_check(L, b);
    head.len = (uint32_t)b->len;
    memcpy(b->data, &head, sizeof head);
    api_outbox_add(L, o, b);
    lua_pushboolean(L, true);
    return 1;
}

void api_outbox_change_export(lua_State *L)
{
    lua_pushcfunction(L, put_change);
    lua_setfield(L, -2, "put_change");
}
