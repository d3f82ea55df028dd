/* kafka.c -- a producer of Kafka, over librdkafka. Module pgcdc.native.kafka:
 *
 *   reader(pairs): see kafka_reader.h;
 *   check(pairs) -> true | nil, message: whether librdkafka takes these options, a list of
 *     alternating names and values;
 *   open(pairs) -> client | nil, message;
 *   headers(name, value, ...) -> bytes, for `produce`; a value may be nil;
 *   token() -> a text that no other call returns;
 *   version() -> that of librdkafka, as it counts: 0x020601ff is 2.6.1.
 * Methods of a client:
 *   start(task, seconds, {topic=, group=, text=, number=, is_compact=, is_quick=}): a task, see
 *     kafka_task.h; one at a time;
 *   result() -> nil while it is at work; true, text, number, is_there; or false, problem;
 *   limit(messages, bytes): how much may be on its way, see kafka_client.h;
 *   begin(): a new batch of messages begins;
 *   produce(index, topic, key, value, headers) -> true; or false, problem. What is nil is absent;
 *   produce_chunk(bytes, at, index, length) -> at, index: the records from that byte on of a chunk
 *     of the outbox, a text or a userdata, the first of which has the number index + 1: up to the
 *     end, or to one that did not go, and then the problem with it, and where it ends. Their parts:
 *     id, source, topic, key, value, headers, whether a tombstone follows;
 *   step(seconds) -> whether reports came; outstanding() -> messages without a report;
 *   failures() -> a list of {index=, name=, text=} of messages that did not get there; failed() ->
 *     how many there are;
 *   trouble() -> the newest problem with brokers, or nil;
 *   close().
 * A problem is {name=, text=, is_fatal=, is_retriable=}. Only `step` waits.
 *
 * SPDX-License-Identifier: MIT */
#include "base/packed.h"
#include "sinks/kafka_client.h"
#include "sinks/kafka_member.h"
#include "sinks/kafka_reader.h"
#include "sinks/module.h"

#include <fcntl.h>
#include <lauxlib.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define CLIENT "pgcdc.kafka"
#define MOST_PAIRS 500
#define MOST_TOPIC 249

struct box {
    struct kafka_client *client; /* NULL: closed */
    bool is_busy;                /* with a task */
    int halves; /* what librdkafka has of the record in hand, if a tombstone follows */
};

static struct box *box_at(lua_State *L)
{
    struct box *b = luaL_checkudata(L, 1, CLIENT);

    if (b->client == NULL)
        luaL_error(L, "it is closed");
    return b;
}

/* ---- opening ---- */

/* Reads the list at index 1, whose table keeps the texts. Returns how many pairs there are. */
static size_t read_pairs(lua_State *L, const char **pairs)
{
    size_t n;

    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    n = (size_t)lua_rawlen(L, 1);
    luaL_argcheck(L, n % 2 == 0 && n / 2 <= MOST_PAIRS, 1, "pairs of a name and a value");
    for (size_t i = 0; i < n; i++) {
        if (lua_rawgeti(L, 1, (lua_Integer)i + 1) != LUA_TSTRING)
            luaL_argerror(L, 1, "text");
        pairs[i] = lua_tostring(L, -1);
        lua_pop(L, 1);
    }
    return n / 2;
}

static int check(lua_State *L)
{
    const char *pairs[2 * MOST_PAIRS];
    size_t n = read_pairs(L, pairs);
    char why[512] = "";

    if (kafka_client_check(pairs, n, why, sizeof why)) {
        lua_pushboolean(L, true);
        return 1;
    }
    lua_pushnil(L);
    lua_pushstring(L, why);
    return 2;
}

static int open_client(lua_State *L)
{
    const char *pairs[2 * MOST_PAIRS];
    size_t n = read_pairs(L, pairs);
    struct box *b = lua_newuserdatauv(L, sizeof *b, 0);
    char why[512] = "";

    *b = (struct box){ 0 };
    luaL_setmetatable(L, CLIENT);
    b->client = kafka_client_open(pairs, n, why, sizeof why);
    if (b->client != NULL)
        return 1;
    lua_pushnil(L);
    lua_pushstring(L, why);
    return 2;
}

static int close_client(lua_State *L)
{
    struct box *b = luaL_checkudata(L, 1, CLIENT);

    kafka_client_close(b->client);
    b->client = NULL;
    return 0;
}

/* ---- problems ---- */

static void push_name(lua_State *L, rd_kafka_resp_err_t code)
{
    lua_pushstring(L, rd_kafka_err2name(code));
}

static void push_problem(lua_State *L, const struct kafka_task_problem *p)
{
    lua_createtable(L, 0, 4);
    push_name(L, p->code);
    lua_setfield(L, -2, "name");
    lua_pushstring(L, p->text);
    lua_setfield(L, -2, "text");
    lua_pushboolean(L, p->is_fatal);
    lua_setfield(L, -2, "is_fatal");
    lua_pushboolean(L, p->is_retriable);
    lua_setfield(L, -2, "is_retriable");
}

static int trouble(lua_State *L)
{
    const struct kafka_task_problem *found = kafka_client_trouble(box_at(L)->client);
    struct kafka_task_problem p;

    if (found == NULL)
        return 0;
    p = *found;
    push_problem(L, &p);
    return 1;
}

/* ---- tasks ---- */

static int start(lua_State *L)
{
    static const char *const names[KAFKA_TASK_COUNT + 1] = {
        "connect", "create", "init", "recall", "begin", "offsets", "commit", "abort", "flush",
    };
    struct box *b;
    struct kafka_task_request r = {
        .kind = (enum kafka_task_kind)luaL_checkoption(L, 2, NULL, names),
        .ms = (int)(luaL_checknumber(L, 3) * 1000),
    };

    if (lua_isnoneornil(L, 4)) {
        lua_settop(L, 3);
        lua_newtable(L);
    }
    luaL_checktype(L, 4, LUA_TTABLE);
    lua_settop(L, 4);
    lua_getfield(L, 4, "topic");                               /* 5 */
    lua_getfield(L, 4, "group");
    lua_getfield(L, 4, "text");
    lua_getfield(L, 4, "number");
    lua_getfield(L, 4, "is_compact");
    lua_getfield(L, 4, "is_quick");
    r.topic = luaL_optstring(L, 5, NULL);
    r.group = luaL_optstring(L, 6, NULL);
    r.text = luaL_optlstring(L, 7, NULL, &r.len);
    r.number = luaL_optinteger(L, 8, 0);
    r.is_compact = lua_toboolean(L, 9);
    r.is_quick = lua_toboolean(L, 10);
    b = box_at(L);
    if (b->is_busy)
        return luaL_error(L, "there is a task already");
    if (!kafka_client_start(b->client, &r))
        return luaL_error(L, "not enough memory");
    b->is_busy = true;
    return 0;
}

static int result(lua_State *L)
{
    struct box *b = box_at(L);
    const struct kafka_task_answer *found = kafka_client_result(b->client);
    struct kafka_task_answer a;

    if (!b->is_busy || found == NULL)
        return 0;
    b->is_busy = false;
    a = *found;
    lua_pushboolean(L, a.is_ok);
    if (!a.is_ok) {
        push_problem(L, &a.problem);
        return 2;
    }
    if (a.text != NULL)
        lua_pushlstring(L, a.text, a.len);
    else
        lua_pushnil(L);
    lua_pushinteger(L, a.number);
    lua_pushboolean(L, a.is_there);
    return 4;
}

/* ---- messages ---- */

static void add_length(luaL_Buffer *to, uint32_t len)
{
    luaL_addlstring(to, (const char *)&len, sizeof len);
}

/* They are parts as base/packed.h has them. */
static int headers(lua_State *L)
{
    int n = lua_gettop(L);
    luaL_Buffer to;

    for (int i = 1; i <= n; i++)
        if (i % 2 == 1 || !lua_isnil(L, i))
            luaL_checkstring(L, i);
    luaL_buffinit(L, &to);
    for (int i = 1; i <= n; i++) {
        size_t len = 0;
        const char *text = lua_tolstring(L, i, &len);

        luaL_argcheck(L, len < PACKED_ABSENT / 2, i, "it is too long");
        add_length(&to, text != NULL ? (uint32_t)len : PACKED_ABSENT);
        luaL_addlstring(&to, text != NULL ? text : "", len);
    }
    luaL_pushresult(&to);
    return 1;
}

/* Returns owned, or NULL if the bytes are none of ours. */
static rd_kafka_headers_t *unpack(const char *at, size_t size)
{
    rd_kafka_headers_t *list = rd_kafka_headers_new(8);
    const char *end = at + size;

    while (at < end) {
        struct packed_part name, value;

        if (!packed_take(&at, end, &name) || name.text == NULL || !packed_take(&at, end, &value)) {
            rd_kafka_headers_destroy(list);
            return NULL;
        }
        rd_kafka_header_add(list, name.text, (ssize_t)name.len, value.text, (ssize_t)value.len);
    }
    return list;
}

static int limit(lua_State *L)
{
    lua_Integer messages = luaL_checkinteger(L, 2), bytes = luaL_checkinteger(L, 3);

    luaL_argcheck(L, messages > 0, 2, "one at least");
    luaL_argcheck(L, bytes > 0, 3, "one at least");
    kafka_client_limit(box_at(L)->client, (size_t)messages, (size_t)bytes);
    return 0;
}

static int begin(lua_State *L)
{
    struct box *b = box_at(L);

    b->halves = 0;
    kafka_client_begin(b->client);
    return 0;
}

/* As kafka_client_produce, but the headers are taken in any case. */
static rd_kafka_error_t *hand_over(struct kafka_client *c, struct kafka_client_message *m)
{
    rd_kafka_error_t *error = kafka_client_produce(c, m);

    if (error != NULL && m->headers != NULL)
        rd_kafka_headers_destroy(m->headers);
    return error;
}

/* Pushes an error as a problem, and frees it. Returns 1. */
static int push_error(lua_State *L, rd_kafka_error_t *error)
{
    struct kafka_task_problem p = { .code = rd_kafka_error_code(error),
                                      .is_fatal = rd_kafka_error_is_fatal(error) };

    snprintf(p.text, sizeof p.text, "%s", rd_kafka_error_string(error));
    rd_kafka_error_destroy(error);
    push_problem(L, &p);
    return 1;
}

static int produce(lua_State *L)
{
    struct kafka_client_message m = {
        .index = (size_t)luaL_checkinteger(L, 2), .topic = luaL_checkstring(L, 3),
    };
    size_t size;
    const char *packed = luaL_optlstring(L, 6, NULL, &size);
    rd_kafka_error_t *error;
    struct box *b = box_at(L);

    m.key = luaL_optlstring(L, 4, NULL, &m.key_len);
    m.value = luaL_optlstring(L, 5, NULL, &m.value_len);
    if (packed != NULL && (m.headers = unpack(packed, size)) == NULL)
        return luaL_argerror(L, 6, "headers");
    error = hand_over(b->client, &m);
    lua_pushboolean(L, error == NULL);
    return error == NULL ? 1 : 1 + push_error(L, error);
}

/* The parts of a record in the outbox. */
enum { ID, SOURCE, TOPIC, KEY, VALUE, HEADERS, BOTH, PARTS };

/* Hands the record at <at> over, twice if a tombstone follows. The topic needs a NUL. */
static rd_kafka_error_t *produce_record(struct box *b, const char *at, const char *end,
                                        size_t index)
{
    struct packed_part parts[PARTS];
    struct kafka_client_message m = { .index = index };
    rd_kafka_error_t *error = NULL;
    char topic[MOST_TOPIC + 1];

    for (int i = 0; i < PARTS; i++)
        if (!packed_take(&at, end, &parts[i]))
            return rd_kafka_error_new(RD_KAFKA_RESP_ERR__BAD_MSG, "the outbox is damaged");
    if (parts[TOPIC].text == NULL || parts[TOPIC].len > MOST_TOPIC)
        return rd_kafka_error_new(RD_KAFKA_RESP_ERR__BAD_MSG, "the outbox is damaged");
    memcpy(topic, parts[TOPIC].text, parts[TOPIC].len);
    topic[parts[TOPIC].len] = '\0';
    m.topic = topic;
    m.key = parts[KEY].text;
    m.key_len = parts[KEY].len;
    m.value = parts[VALUE].text;
    m.value_len = parts[VALUE].len;
    for (; error == NULL && b->halves < 1 + (parts[BOTH].text != NULL); b->halves++) {
        if (b->halves == 1)
            m.value = NULL;
        m.headers = parts[HEADERS].len > 0 ? unpack(parts[HEADERS].text, parts[HEADERS].len) : NULL;
        error = hand_over(b->client, &m);
        if (error != NULL)
            return error;
    }
    b->halves = 0;
    return NULL;
}

static int produce_chunk(lua_State *L)
{
    size_t len, at, index = (size_t)luaL_checkinteger(L, 4);
    const char *bytes = lua_isuserdata(L, 2) ? lua_touserdata(L, 2) : luaL_checkstring(L, 2);
    struct box *b = box_at(L);
    rd_kafka_error_t *error = NULL;
    struct packed_head head;

    at = (size_t)luaL_checkinteger(L, 3);
    luaL_argcheck(L, (size_t)luaL_checkinteger(L, 5) <= lua_rawlen(L, 2), 5, "within the chunk");
    len = (size_t)lua_tointeger(L, 5);
    luaL_argcheck(L, at <= len, 3, "within the chunk");
    for (; packed_read(bytes + at, bytes + len, &head); at += head.len) {
        if (head.parts & PACKED_LEFT_OUT)
            continue;
        error = produce_record(b, bytes + at + sizeof head, bytes + at + head.len, index + 1);
        if (error != NULL)
            break;
        index++;
    }
    lua_pushinteger(L, (lua_Integer)at);
    lua_pushinteger(L, (lua_Integer)index);
    if (error == NULL)
        return 2;
    if (rd_kafka_error_code(error) != RD_KAFKA_RESP_ERR__QUEUE_FULL)
        b->halves = 0;
    push_error(L, error);
    lua_pushinteger(L, (lua_Integer)(at + head.len));
    return 4;
}

static int step(lua_State *L)
{
    int ms = (int)(luaL_checknumber(L, 2) * 1000);

    lua_pushboolean(L, kafka_client_step(box_at(L)->client, ms < 100 ? ms : 100));
    return 1;
}

static int outstanding(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)kafka_client_outstanding(box_at(L)->client));
    return 1;
}

static int failed(lua_State *L)
{
    size_t n;

    kafka_client_failures(box_at(L)->client, &n);
    lua_pushinteger(L, (lua_Integer)n);
    return 1;
}

static int failures(lua_State *L)
{
    size_t n;

    kafka_client_failures(box_at(L)->client, &n);
    lua_settop(L, 1);
    lua_createtable(L, (int)n, 0);
    for (size_t i = 0; i < n; i++) {
        struct kafka_client_failure f = kafka_client_failures(box_at(L)->client, &n)[i];

        lua_createtable(L, 0, 3);
        lua_pushinteger(L, (lua_Integer)f.index);
        lua_setfield(L, -2, "index");
        push_name(L, f.code);
        lua_setfield(L, -2, "name");
        lua_pushstring(L, rd_kafka_err2str(f.code));
        lua_setfield(L, -2, "text");
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

/* ---- the module ---- */

static int token(lua_State *L)
{
    unsigned char bytes[8];
    char text[2 * sizeof bytes + 1];
    int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, bytes, sizeof bytes) : -1;

    if (fd >= 0)
        close(fd);
    if (n != sizeof bytes)
        return luaL_error(L, "cannot read /dev/urandom");
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    lua_pushstring(L, text);
    return 1;
}

static int version(lua_State *L)
{
    lua_pushinteger(L, rd_kafka_version());
    return 1;
}

static int open_kafka(lua_State *L)
{
    static const luaL_Reg methods[] = {
        { "start", start }, { "result", result }, { "begin", begin }, { "produce", produce },
        { "produce_chunk", produce_chunk }, { "limit", limit },
        { "step", step }, { "outstanding", outstanding }, { "failures", failures },
        { "failed", failed },
        { "trouble", trouble }, { "close", close_client }, { NULL, NULL },
    };
    static const luaL_Reg functions[] = {
        { "check", check }, { "open", open_client }, { "headers", headers }, { "token", token },
        { "version", version },
        { NULL, NULL },
    };

    pgcdc_module_class(L, CLIENT, methods, close_client);
    luaL_newlib(L, functions);
    kafka_reader_open(L);
    kafka_member_open(L);
    return 1;
}

static char library[64];

__attribute__((constructor)) static void name_library(void)
{
    snprintf(library, sizeof library, "librdkafka %s", rd_kafka_version_str());
}

PGCDC_MODULE("kafka", library, open_kafka);
