/* kafka_reader.h -- a consumer of librdkafka, which reads the partitions that it is told.
 *
 * Class of the module pgcdc.native.kafka; `reader(pairs) -> reader | nil, message` makes one of
 * librdkafka's options. Its methods:
 *   fd() -> a descriptor that is readable when something has come; quiet(): not any more, until
 *     something else comes;
 *   assign({topic, partition, offset, ...}): reads these, each from that offset on (-2: from its
 *     first one; -1: what comes from now on);
 *   take(most, {name, ...}) -> a list of what has come, at most so many:
 *     {topic=, partition=, offset=, key=, value=, time= in milliseconds since 1970, and by each of
 *     the names the header that has it};
 *     {topic=, partition=, offset=, is_end=true}: that is the end, for now;
 *     {problem={name=, text=, is_fatal=}}, with topic and partition if it is of one;
 *   partitions(topic, seconds) -> how many it has; nil, name and text of what is wrong;
 *   newest(topic, partition) -> the offset after the last one, as the brokers have told it last;
 *     nil: they have not yet. Does not wait;
 *   topics(seconds) -> a list of the names of all topics; or as above;
 *   range(topic, partition, seconds) -> the first offset, and that after the last; or as above;
 *   close().
 * `partitions`, `topics` and `range` wait, for 100 ms at most.
 *
 * SPDX-License-Identifier: MIT */
#ifndef KAFKA_READER_H
#define KAFKA_READER_H

#include <lua.h>

/* Makes the class, and sets `reader` of the table on top of the stack. */
void kafka_reader_open(lua_State *L);

#endif
