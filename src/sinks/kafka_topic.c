/* kafka_topic.c -- questions about topics.
 * SPDX-License-Identifier: MIT */
#include "sinks/kafka_topic.h"

#include <lauxlib.h>

#define MOST_MS 100

static int fail(lua_State *L, rd_kafka_resp_err_t code)
{
    lua_pushnil(L);
    lua_pushstring(L, rd_kafka_err2name(code));
    lua_pushstring(L, rd_kafka_err2str(code));
    return 3;
}

static int ms_at(lua_State *L, int index)
{
    int ms = (int)(luaL_checknumber(L, index) * 1000);

    return ms < 1 ? 1 : ms < MOST_MS ? ms : MOST_MS;
}

static int push_names(lua_State *L)
{
    const struct rd_kafka_metadata *facts = lua_touserdata(L, 1);

    lua_createtable(L, facts->topic_cnt, 0);
    for (int i = 0; i < facts->topic_cnt; i++) {
        lua_pushstring(L, facts->topics[i].topic);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

int kafka_topic_partitions(lua_State *L, rd_kafka_t *rk)
{
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, luaL_checkstring(L, 2), NULL);
    const struct rd_kafka_metadata *facts;
    rd_kafka_resp_err_t code;
    int n = 0;

    if (topic == NULL)
        return fail(L, rd_kafka_last_error());
    code = rd_kafka_metadata(rk, 0, topic, &facts, ms_at(L, 3));
    rd_kafka_topic_destroy(topic);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return fail(L, code);
    if (facts->topic_cnt == 1) {
        code = facts->topics[0].err;
        n = facts->topics[0].partition_cnt;
    }
    rd_kafka_metadata_destroy(facts);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return fail(L, code);
    lua_pushinteger(L, n);
    return 1;
}

int kafka_topic_names(lua_State *L, rd_kafka_t *rk)
{
    const struct rd_kafka_metadata *facts;
    rd_kafka_resp_err_t code = rd_kafka_metadata(rk, 1, NULL, &facts, ms_at(L, 2));
    int status;

    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return fail(L, code);
    lua_pushcfunction(L, push_names);
    lua_pushlightuserdata(L, (void *)facts);
    status = lua_pcall(L, 1, 1, 0);
    rd_kafka_metadata_destroy(facts);
    return status == LUA_OK ? 1 : lua_error(L);
}

int kafka_topic_range(lua_State *L, rd_kafka_t *rk)
{
    int64_t first, end;
    rd_kafka_resp_err_t code =
        rd_kafka_query_watermark_offsets(rk, luaL_checkstring(L, 2),
                                         (int32_t)luaL_checkinteger(L, 3), &first, &end,
                                         ms_at(L, 4));

    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return fail(L, code);
    lua_pushinteger(L, first);
    lua_pushinteger(L, end);
    return 2;
}
