/* kafka_reader.c -- a consumer of librdkafka, which reads the partitions that it is told.
 * SPDX-License-Identifier: MIT
 *
 * librdkafka's threads fetch; one queue has all that comes, and writes to an eventfd when it is not
 * empty any more. */
#include "sinks/kafka_reader.h"

#include "sinks/kafka_conf.h"
#include "sinks/kafka_topic.h"
#include "sinks/module.h"

#include <librdkafka/rdkafka.h>
#include <lauxlib.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define READER "pgcdc.kafka_reader"
#define MOST_TAKEN 1000
#define MOST_NAMES 16

struct box {
    rd_kafka_t *rk;          /* NULL: closed */
    rd_kafka_queue_t *queue; /* all that comes */
    int fd;                  /* an eventfd */
};

static struct box *box_at(lua_State *L)
{
    struct box *b = luaL_checkudata(L, 1, READER);

    if (b->rk == NULL)
        luaL_error(L, "it is closed");
    return b;
}

/* ---- birth and death ---- */

static int close_reader(lua_State *L)
{
    struct box *b = luaL_checkudata(L, 1, READER);

    if (b->queue != NULL) {
        rd_kafka_queue_io_event_enable(b->queue, -1, NULL, 0);
        rd_kafka_queue_destroy(b->queue);
    }
    if (b->rk != NULL)
        rd_kafka_destroy_flags(b->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    if (b->fd >= 0)
        close(b->fd);
    *b = (struct box){ .fd = -1 };
    return 0;
}

/* Tells the queue to write to the eventfd. */
static void wake_by_fd(struct box *b)
{
    const uint64_t one = 1;

    rd_kafka_queue_io_event_enable(b->queue, b->fd, &one, sizeof one);
}

static int open_reader(lua_State *L)
{
    char why[512];
    rd_kafka_conf_t *conf;
    struct box *b;

    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    b = lua_newuserdatauv(L, sizeof *b, 0);
    *b = (struct box){ .fd = -1 };
    luaL_setmetatable(L, READER);
    if ((b->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
        return luaL_error(L, "eventfd: no descriptor is left");
    conf = kafka_conf_make(L, why, sizeof why);
    if (conf != NULL &&
        (b->rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why)) == NULL)
        rd_kafka_conf_destroy(conf);
    if (b->rk != NULL) {
        rd_kafka_poll_set_consumer(b->rk);
        b->queue = rd_kafka_queue_get_consumer(b->rk);
        wake_by_fd(b);
        return 1;
    }
    lua_pushnil(L);
    lua_pushstring(L, why);
    return 2;
}

/* ---- what is read ---- */

static int fd(lua_State *L)
{
    lua_pushinteger(L, box_at(L)->fd);
    return 1;
}

static int quiet(lua_State *L)
{
    uint64_t n;

    if (read(box_at(L)->fd, &n, sizeof n) < 0) {
        /* it was quiet */
    }
    return 0;
}

static int assign(lua_State *L)
{
    struct box *b = box_at(L);
    rd_kafka_topic_partition_list_t *list;
    rd_kafka_resp_err_t code;
    size_t n;

    luaL_checktype(L, 2, LUA_TTABLE);
    n = (size_t)lua_rawlen(L, 2) / 3;
    list = rd_kafka_topic_partition_list_new((int)n);
    for (size_t i = 0; i < n; i++) {
        const char *topic;
        lua_Integer partition, offset;

        lua_rawgeti(L, 2, (lua_Integer)(3 * i + 1));
        lua_rawgeti(L, 2, (lua_Integer)(3 * i + 2));
        lua_rawgeti(L, 2, (lua_Integer)(3 * i + 3));
        topic = lua_tostring(L, -3);
        partition = lua_tointeger(L, -2);
        offset = lua_tointeger(L, -1);
        if (topic != NULL)
            rd_kafka_topic_partition_list_add(list, topic, (int32_t)partition)->offset = offset;
        lua_pop(L, 3);
    }
    code = rd_kafka_assign(b->rk, list);
    rd_kafka_topic_partition_list_destroy(list);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return luaL_error(L, "%s", rd_kafka_err2str(code));
    return 0;
}

static void set_text(lua_State *L, const char *name, const char *text, size_t len)
{
    if (text == NULL)
        return;
    lua_pushlstring(L, text, len);
    lua_setfield(L, -2, name);
}

/* Sets what tells where a record is. */
static void set_place(lua_State *L, const rd_kafka_message_t *m)
{
    const char *topic = m->rkt != NULL ? rd_kafka_topic_name(m->rkt) : NULL;

    if (topic == NULL)
        return;
    set_text(L, "topic", topic, strlen(topic));
    lua_pushinteger(L, m->partition);
    lua_setfield(L, -2, "partition");
    lua_pushinteger(L, m->offset);
    lua_setfield(L, -2, "offset");
}

static void set_problem(lua_State *L, const rd_kafka_message_t *m)
{
    const char *name = rd_kafka_err2name(m->err), *text = rd_kafka_message_errstr(m);

    lua_createtable(L, 0, 3);
    set_text(L, "name", name, strlen(name));
    set_text(L, "text", text != NULL ? text : "", text != NULL ? strlen(text) : 0);
    lua_pushboolean(L, m->err == RD_KAFKA_RESP_ERR__FATAL);
    lua_setfield(L, -2, "is_fatal");
    lua_setfield(L, -2, "problem");
}

/* Sets the headers whose names are in the list at index 3. */
static void set_headers(lua_State *L, const rd_kafka_message_t *m)
{
    rd_kafka_headers_t *headers;

    if (rd_kafka_message_headers(m, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return;
    for (lua_Integer i = 1; i <= MOST_NAMES && lua_rawgeti(L, 3, i) == LUA_TSTRING; i++) {
        const void *value;
        size_t len;

        if (rd_kafka_header_get_last(headers, lua_tostring(L, -1), &value, &len) ==
                RD_KAFKA_RESP_ERR_NO_ERROR && value != NULL) {
            lua_pushlstring(L, value, len);
            lua_setfield(L, -3, lua_tostring(L, -2));
        }
        lua_pop(L, 1);
    }
    lua_settop(L, 5); /* reader most names list record */
}

/* When it was written, in milliseconds since 1970, if that is known. */
static void set_time(lua_State *L, const rd_kafka_message_t *m)
{
    rd_kafka_timestamp_type_t type;
    int64_t ms = rd_kafka_message_timestamp(m, &type);

    if (type == RD_KAFKA_TIMESTAMP_NOT_AVAILABLE || ms <= 0)
        return;
    lua_pushinteger(L, ms);
    lua_setfield(L, -2, "time");
}

/* Pushes what <m> is. */
static void push_record(lua_State *L, const rd_kafka_message_t *m) /* [-0, +1] */
{
    lua_createtable(L, 0, 6);
    set_place(L, m);
    if (m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        lua_pushboolean(L, true);
        lua_setfield(L, -2, "is_end");
    } else if (m->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        set_problem(L, m);
    } else {
        set_text(L, "key", m->key, m->key_len);
        set_text(L, "value", m->payload, m->len);
        set_time(L, m);
        set_headers(L, m);
    }
}

/* What was taken and is not pushed yet, so that it is freed if memory is out. */
struct taken {
    rd_kafka_message_t *messages[MOST_TAKEN];
    size_t n, pushed;
};

static int free_taken(lua_State *L)
{
    struct taken *t = lua_touserdata(L, 1);

    while (t->pushed < t->n)
        rd_kafka_message_destroy(t->messages[t->pushed++]);
    return 0;
}

static int push_taken(lua_State *L)
{
    struct taken *t = lua_touserdata(L, lua_upvalueindex(1));

    lua_createtable(L, (int)t->n, 0);
    while (t->pushed < t->n) {
        rd_kafka_message_t *m = t->messages[t->pushed];

        push_record(L, m);
        t->pushed++;
        rd_kafka_message_destroy(m);
        lua_rawseti(L, 4, (lua_Integer)t->pushed);
    }
    return 1;
}

static int take(lua_State *L)
{
    struct box *b = box_at(L);
    lua_Integer most = luaL_checkinteger(L, 2);
    struct taken *t;
    ssize_t n;
    int status;

    luaL_argcheck(L, most >= 1 && most <= MOST_TAKEN, 2, "too many");
    luaL_checktype(L, 3, LUA_TTABLE);
    lua_settop(L, 3);
    t = lua_newuserdatauv(L, sizeof *t, 0);                    /* ... taken */
    t->n = t->pushed = 0;
    lua_pushcclosure(L, push_taken, 1);
    lua_insert(L, 1);                                          /* push reader most names */
    lua_getupvalue(L, 1, 1);
    lua_insert(L, 1);                                          /* taken push ... */
    n = rd_kafka_consume_batch_queue(b->queue, 0, t->messages, (size_t)most);
    t->n = n > 0 ? (size_t)n : 0;
    status = lua_pcall(L, 3, 1, 0);
    if (status != LUA_OK) {
        lua_pushcfunction(L, free_taken);
        lua_pushvalue(L, 1);
        lua_call(L, 1, 0);
        return lua_error(L);
    }
    return 1;
}

/* ---- topics ---- */

static int partitions(lua_State *L)
{
    return kafka_topic_partitions(L, box_at(L)->rk);
}

static int topics(lua_State *L)
{
    return kafka_topic_names(L, box_at(L)->rk);
}

static int newest(lua_State *L)
{
    int64_t first, end;

    if (rd_kafka_get_watermark_offsets(box_at(L)->rk, luaL_checkstring(L, 2),
                                       (int32_t)luaL_checkinteger(L, 3), &first, &end) !=
            RD_KAFKA_RESP_ERR_NO_ERROR || end < 0)
        return 0;
    lua_pushinteger(L, end);
    return 1;
}

static int range(lua_State *L)
{
    return kafka_topic_range(L, box_at(L)->rk);
}

void kafka_reader_open(lua_State *L)
{
    static const luaL_Reg methods[] = {
        { "fd", fd }, { "quiet", quiet }, { "assign", assign }, { "take", take },
        { "partitions", partitions }, { "topics", topics }, { "range", range },
        { "newest", newest }, { "close", close_reader }, { NULL, NULL },
    };

    pgcdc_module_class(L, READER, methods, close_reader);
    lua_pushcfunction(L, open_reader);
    lua_setfield(L, -2, "reader");
}
