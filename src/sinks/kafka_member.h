/* kafka_member.h -- a member of a group of consumers, that reads nothing itself.
 *
 * Class of the module pgcdc.native.kafka; `member(pairs, topic) -> member | nil, message` makes one
 * of librdkafka's options, and joins. The group shares the partitions of <topic> among its members;
 * what is assigned stays paused, so nothing is fetched. Its methods:
 *   fd() -> a descriptor that is readable when something has come; quiet(): not any more, until
 *     something else comes;
 *   turn() -> what has come, or nil:
 *     {assigned = {partition, ...}}: these are this member's now;
 *     {revoked = {partition, ...}, is_lost =}: somebody else is to have these, once `accept` was
 *       called; lost: somebody has them already, perhaps;
 *     {problem = {name=, text=, is_fatal=}};
 *     after `assigned` and `revoked` nothing else comes until `accept` was called;
 *   accept(): what `turn` has told last is so from now on. The group waits for that. Does nothing
 *     where something else has come since, which `turn` tells next;
 *   is_lost() -> whether what is assigned may be others' already, while it is not accepted yet that
 *     it is revoked;
 *   commit({topic, partition, offset, ...}): the group notes these, for those who look at it. The
 *     answer is not waited for;
 *   partitions(topic, seconds), topics(seconds), range(topic, partition, seconds): as of
 *     kafka_reader.h;
 *   leave(): what is assigned is revoked, which `turn` tells; left() -> whether that is over;
 *   close(): at once; who has not left is missed by the group after its session timeout.
 *
 * SPDX-License-Identifier: MIT */
#ifndef KAFKA_MEMBER_H
#define KAFKA_MEMBER_H

#include <lua.h>

/* Makes the class, and sets `member` of the table on top of the stack. */
void kafka_member_open(lua_State *L);

#endif
