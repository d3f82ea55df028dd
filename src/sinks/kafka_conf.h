/* kafka_conf.h -- what librdkafka is told, out of a list of Lua's.
 *
 * SPDX-License-Identifier: MIT */
#ifndef KAFKA_CONF_H
#define KAFKA_CONF_H

#include <librdkafka/rdkafka.h>
#include <lua.h>

/* Makes it of the list {name, value, ...} at index 1; throws if there is no such list. Returns
 * owned, or NULL: then <why> is what is wrong with it. */
rd_kafka_conf_t *kafka_conf_make(lua_State *L, char *why, size_t size);

#endif
