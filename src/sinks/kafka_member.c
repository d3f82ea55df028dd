/* kafka_member.c -- a member of a group of consumers, that reads nothing itself.
 * SPDX-License-Identifier: MIT
 *
 * librdkafka tells of a rebalance by a callback, in the middle of a call that takes messages. The
 * callback only notes what is wanted; librdkafka waits until rd_kafka_incremental_assign or
 * ..._unassign is called, which is done when the caller accepts. */
#include "sinks/kafka_member.h"

#include "sinks/kafka_conf.h"
#include "sinks/kafka_topic.h"
#include "sinks/module.h"

#include <librdkafka/rdkafka.h>
#include <lauxlib.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MEMBER "pgcdc.kafka_member"
#define MOST_COMMITTED 100000

struct box {
    rd_kafka_t *rk;          /* NULL: closed */
    rd_kafka_queue_t *queue; /* all that comes */
    int fd;                  /* an eventfd */
    rd_kafka_topic_partition_list_t *told; /* owned: a rebalance that is not accepted; or NULL */
    bool is_assigned;        /* <told> is: else revoked */
    bool is_new;             /* `turn` has not told it yet */
    bool leaves;
};

static struct box *box_at(lua_State *L)
{
    struct box *b = luaL_checkudata(L, 1, MEMBER);

    if (b->rk == NULL)
        luaL_error(L, "it is closed");
    return b;
}

/* ---- birth and death ---- */

static int close_member(lua_State *L)
{
    struct box *b = luaL_checkudata(L, 1, MEMBER);

    if (b->queue != NULL) {
        rd_kafka_queue_io_event_enable(b->queue, -1, NULL, 0);
        rd_kafka_queue_destroy(b->queue);
    }
    if (b->rk != NULL)
        rd_kafka_destroy_flags(b->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    if (b->told != NULL)
        rd_kafka_topic_partition_list_destroy(b->told);
    if (b->fd >= 0)
        close(b->fd);
    *b = (struct box){ .fd = -1 };
    return 0;
}

/* Called by librdkafka, see at the top. There is one rebalance at a time: it waits for our answer,
 * and what was told before is over if it does not. */
static void note_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t code,
                           rd_kafka_topic_partition_list_t *list, void *opaque)
{
    struct box *b = opaque;

    (void)rk;
    if (b->told != NULL)
        rd_kafka_topic_partition_list_destroy(b->told);
    b->told = rd_kafka_topic_partition_list_copy(list);
    b->is_assigned = code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
    b->is_new = true;
}

/* Joins the group. Returns NULL, or why it cannot. */
static const char *join(struct box *b, const char *topic)
{
    const uint64_t one = 1;
    rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
    rd_kafka_resp_err_t code;

    rd_kafka_poll_set_consumer(b->rk);
    b->queue = rd_kafka_queue_get_consumer(b->rk);
    rd_kafka_queue_io_event_enable(b->queue, b->fd, &one, sizeof one);
    rd_kafka_topic_partition_list_add(topics, topic, RD_KAFKA_PARTITION_UA);
    code = rd_kafka_subscribe(b->rk, topics);
    rd_kafka_topic_partition_list_destroy(topics);
    return code == RD_KAFKA_RESP_ERR_NO_ERROR ? NULL : rd_kafka_err2str(code);
}

static int open_member(lua_State *L)
{
    char why[512];
    const char *topic = luaL_checkstring(L, 2), *problem = NULL;
    rd_kafka_conf_t *conf;
    struct box *b;

    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 2);
    b = lua_newuserdatauv(L, sizeof *b, 0);
    *b = (struct box){ .fd = -1 };
    luaL_setmetatable(L, MEMBER);
    if ((b->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
        return luaL_error(L, "eventfd: no descriptor is left");
    conf = kafka_conf_make(L, why, sizeof why);
    if (conf != NULL) {
        rd_kafka_conf_set_opaque(conf, b);
        rd_kafka_conf_set_rebalance_cb(conf, note_rebalance);
        if ((b->rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why)) == NULL)
            rd_kafka_conf_destroy(conf);
    }
    if (b->rk != NULL && (problem = join(b, topic)) == NULL)
        return 1;
    lua_pushnil(L);
    lua_pushstring(L, problem != NULL ? problem : why);
    return 2;
}

/* ---- what comes ---- */

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

static int push_problem(lua_State *L, rd_kafka_resp_err_t code, const char *text)
{
    lua_createtable(L, 0, 1);
    lua_createtable(L, 0, 3);
    lua_pushstring(L, rd_kafka_err2name(code));
    lua_setfield(L, -2, "name");
    lua_pushstring(L, text);
    lua_setfield(L, -2, "text");
    lua_pushboolean(L, code == RD_KAFKA_RESP_ERR__FATAL);
    lua_setfield(L, -2, "is_fatal");
    lua_setfield(L, -2, "problem");
    return 1;
}

static int push_rebalance(lua_State *L, struct box *b)
{
    lua_createtable(L, 0, 2);
    lua_createtable(L, b->told->cnt, 0);
    for (int i = 0; i < b->told->cnt; i++) {
        lua_pushinteger(L, b->told->elems[i].partition);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, b->is_assigned ? "assigned" : "revoked");
    lua_pushboolean(L, rd_kafka_assignment_lost(b->rk));
    lua_setfield(L, -2, "is_lost");
    b->is_new = false;
    return 1;
}

static int turn(lua_State *L)
{
    struct box *b = box_at(L);
    rd_kafka_message_t *m = NULL;
    char text[512];

    while (!b->is_new && rd_kafka_consume_batch_queue(b->queue, 0, &m, 1) == 1) {
        rd_kafka_resp_err_t code = m->err;

        snprintf(text, sizeof text, "%s", code != RD_KAFKA_RESP_ERR_NO_ERROR
                                              ? rd_kafka_message_errstr(m) : "");
        rd_kafka_message_destroy(m); /* a record: it was on its way when its partition was paused */
        if (code != RD_KAFKA_RESP_ERR_NO_ERROR && code != RD_KAFKA_RESP_ERR__PARTITION_EOF)
            return push_problem(L, code, text);
    }
    return b->is_new ? push_rebalance(L, b) : 0;
}

static int is_lost(lua_State *L)
{
    lua_pushboolean(L, rd_kafka_assignment_lost(box_at(L)->rk));
    return 1;
}

/* ---- what is answered ---- */

static int accept_told(lua_State *L)
{
    struct box *b = box_at(L);
    rd_kafka_topic_partition_list_t *list = b->told;
    rd_kafka_error_t *error;

    if (list == NULL || b->is_new) /* another one has come meanwhile, in the place of that */
        return 0;
    for (int i = 0; i < list->cnt; i++)
        list->elems[i].offset = RD_KAFKA_OFFSET_END;
    error = b->is_assigned ? rd_kafka_incremental_assign(b->rk, list)
                           : rd_kafka_incremental_unassign(b->rk, list);
    if (b->is_assigned && error == NULL)
        rd_kafka_pause_partitions(b->rk, list);
    b->told = NULL;
    rd_kafka_topic_partition_list_destroy(list);
    if (error != NULL) { /* it was lost meanwhile: then nothing of it is ours */
        rd_kafka_error_destroy(error);
        rd_kafka_assign(b->rk, NULL);
    }
    return 0;
}

static int commit(lua_State *L)
{
    struct box *b = box_at(L);
    rd_kafka_topic_partition_list_t *list;
    size_t n;

    luaL_checktype(L, 2, LUA_TTABLE);
    n = (size_t)lua_rawlen(L, 2) / 3;
    luaL_argcheck(L, n <= MOST_COMMITTED, 2, "too many");
    list = rd_kafka_topic_partition_list_new((int)n);
    for (size_t i = 0; i < n; i++) {
        const char *topic;

        lua_rawgeti(L, 2, (lua_Integer)(3 * i + 1));
        lua_rawgeti(L, 2, (lua_Integer)(3 * i + 2));
        lua_rawgeti(L, 2, (lua_Integer)(3 * i + 3));
        topic = lua_tostring(L, -3);
        if (topic != NULL)
            rd_kafka_topic_partition_list_add(list, topic, (int32_t)lua_tointeger(L, -2))
                ->offset = lua_tointeger(L, -1);
        lua_pop(L, 3);
    }
    if (n > 0)
        rd_kafka_commit(b->rk, list, 1); /* what fails is noted with what comes next */
    rd_kafka_topic_partition_list_destroy(list);
    return 0;
}

static int leave(lua_State *L)
{
    struct box *b = box_at(L);
    rd_kafka_error_t *error;

    if (b->leaves)
        return 0;
    b->leaves = true;
    if ((error = rd_kafka_consumer_close_queue(b->rk, b->queue)) != NULL)
        rd_kafka_error_destroy(error); /* it has left */
    return 0;
}

static int left(lua_State *L)
{
    lua_pushboolean(L, rd_kafka_consumer_closed(box_at(L)->rk));
    return 1;
}

static int partitions(lua_State *L)
{
    return kafka_topic_partitions(L, box_at(L)->rk);
}

static int topics(lua_State *L)
{
    return kafka_topic_names(L, box_at(L)->rk);
}

static int range(lua_State *L)
{
    return kafka_topic_range(L, box_at(L)->rk);
}

void kafka_member_open(lua_State *L)
{
    static const luaL_Reg methods[] = {
        { "fd", fd }, { "quiet", quiet }, { "turn", turn }, { "accept", accept_told },
        { "is_lost", is_lost }, { "commit", commit }, { "partitions", partitions },
        { "topics", topics }, { "range", range }, { "leave", leave }, { "left", left },
        { "close", close_member }, { NULL, NULL },
    };

    pgcdc_module_class(L, MEMBER, methods, close_member);
    lua_pushcfunction(L, open_member);
    lua_setfield(L, -2, "member");
}
