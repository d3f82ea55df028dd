/* api_lanes.h -- which records of an outbox may go now, where several are on their way at a time.
 *
 * Records of one lane go in their order, and none goes while one before it is on its way; other
 * lanes do not wait for that. Bytes stay in the outbox: of at most 16,384 records at a time their
 * places are known here.
 *
 * Exports to Lua (module pgcdc.raw): lanes(outbox, upto, together) -> lanes, of the records up to
 * that seal. Only records that have the same text in the part <together> are in one batch; a part
 * is counted from 1, the id. Methods:
 *   take(rows, bytes, part) -> a batch of records that may go: a number; nil: there is none.
 *     Records: at least one, then at most so many, whose parts have at most so many bytes in all;
 *   singles(most) -> bytes, count: so many batches at most, of one record each, which are in bytes
 *     as base/packed.h has them, but that the lane is the number of the batch; nothing: there is
 *     none;
 *   count(batch) -> how many records it has;
 *   part(batch, part, i) -> that part of its i-th record; nil: it is absent;
 *   text(batch, part, before, between, after) -> these parts of all of it as one text;
 *   divide(batch, list) -> a new batch of some of its records: their numbers, from 1, rising;
 *   done(batch): its records are left out of the outbox, and what comes after them may go; of
 *     several, if <batch> is a list;
 *   index(batch) -> the number of its first record among those of the outbox, as each() gives them;
 *   lanes(batch) -> list of its lanes, as numbers;
 *   hold(lane), free(lane): nothing of that lane may be taken; it may again;
 *   left() -> how many records are left; nil: more than can be known at a time.
 *
 * Everything here may throw.
 *
 * SPDX-License-Identifier: MIT */
#ifndef API_LANES_H
#define API_LANES_H

#include <lua.h>

/* Adds the function to the module on top of the stack. */
void api_lanes_export(lua_State *L);

#endif
