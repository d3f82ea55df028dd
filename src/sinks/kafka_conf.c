/* kafka_conf.c -- what librdkafka is told, out of a list of Lua's.
 * SPDX-License-Identifier: MIT */
#include "sinks/kafka_conf.h"

#include <lauxlib.h>
#include <stdio.h>

#define MOST_PAIRS 500

rd_kafka_conf_t *kafka_conf_make(lua_State *L, char *why, size_t size)
{
    rd_kafka_conf_t *conf;
    size_t n;

    luaL_checktype(L, 1, LUA_TTABLE);
    n = (size_t)lua_rawlen(L, 1);
    luaL_argcheck(L, n <= 2 * MOST_PAIRS, 1, "too many");
    snprintf(why, size, "bad options");
    conf = rd_kafka_conf_new();
    for (size_t i = 1; i + 1 <= n; i += 2) {
        const char *name, *value;

        lua_rawgeti(L, 1, (lua_Integer)i);
        lua_rawgeti(L, 1, (lua_Integer)i + 1);
        name = lua_tostring(L, -2);
        value = lua_tostring(L, -1);
        lua_pop(L, 2); /* the list keeps them */
        if (name == NULL || value == NULL ||
            rd_kafka_conf_set(conf, name, value, why, size) != RD_KAFKA_CONF_OK) {
            rd_kafka_conf_destroy(conf);
            return NULL;
        }
    }
    return conf;
}
