/* kafka_topic.h -- questions about topics.
 *
 * Methods of classes: the client is the value at index 1. They wait, for 100 ms at most, and return
 * an answer; or nil, name and text of what is wrong.
 *
 * SPDX-License-Identifier: MIT */
#ifndef KAFKA_TOPIC_H
#define KAFKA_TOPIC_H

#include <librdkafka/rdkafka.h>
#include <lua.h>

/* (topic, seconds) -> how many partitions it has. */
int kafka_topic_partitions(lua_State *L, rd_kafka_t *rk);

/* (seconds) -> a list of the names of all topics. */
int kafka_topic_names(lua_State *L, rd_kafka_t *rk);

/* (topic, partition, seconds) -> the first offset, and that after the last. */
int kafka_topic_range(lua_State *L, rd_kafka_t *rk);

#endif
