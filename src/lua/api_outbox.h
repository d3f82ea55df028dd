/* api_outbox.h -- what a sink has taken and its target does not have yet.
 *
 * Records wait here until a flush has moved them to the target, and are dropped then; a flush that
 * fails finds them again. They are kept in memory up to a limit, then in a file without a name.
 *
 * Exports to Lua (module pgcdc.raw): outbox() -> outbox. Methods:
 *   put(lane, id, ...): adds a record. Lane: a number, or text, whose hash counts: what is in one
 *     lane must stay in order; nil: 0. Id: text, or nil. The rest, 250 at most, are texts or nil;
 *   seal() -> number of the seal: each() and drop() can end there, after the newest record;
 *   each(upto) -> an iterator over (lane, id, ...), the oldest first, to the seal of that number;
 *     nil: to the end. What is put meanwhile may come too; after a drop it goes on with what is
 *     left;
 *   chunk(place, upto, room) -> bytes, place, length: some records as base/packed.h has them, from
 *     that place on (nil: the oldest), and where the next ones begin; nothing where there are none.
 *     The bytes are in the room, if that is given and they fit, else they are a text;
 *   rows(upto), bytes(upto) -> how many there are, up to the seal;
 *   distinct(part) -> list of what that part (the id is the first) is in the records that are not
 *     left out: each text once, if equal ones come one after the other;
 *   drop(upto): forgets them, and the seals up to that one;
 *   leave_out(list): each() passes over these from now on, and chunk() has them marked: numbers of
 *     records as each() gives them, from 1, rising. They count in rows and bytes until they are
 *     dropped.
 * hash(text) -> number, as a lane has it. outbox_room() -> a userdata that nearly all chunks fit
 *   into: it is filled anew by each, so that they leave no garbage.
 *
 * Everything here may throw.
 *
 * SPDX-License-Identifier: MIT */
#ifndef API_OUTBOX_H
#define API_OUTBOX_H

#include "base/buf.h"

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* For api_lanes, which picks records in another order than that in which they came. A place is a
 * number that stays that of its record until it is dropped. */
struct api_outbox;

/* The outbox at <index>, borrowed. */
struct api_outbox *api_outbox_at(lua_State *L, int index);
/* The place after the last record before the seal whose number is at <index>; nil: after all. */
uint64_t api_outbox_end(lua_State *L, struct api_outbox *o, int index);
/* Finds the record at *at, or the next one that is not left out; sets *at to its place, *next to
 * the one after it, *lane. False if there is none before <end>. */
bool api_outbox_find(lua_State *L, struct api_outbox *o, uint64_t *at, uint64_t end,
                     uint64_t *next, uint64_t *lane);
/* The bytes of a record's part, the id being the first; borrowed until the next call into Lua or
 * with this outbox. NULL: it is nil. */
const char *api_outbox_part(lua_State *L, struct api_outbox *o, uint64_t place, int part,
                            size_t *len);
/* All bytes of the record at that place; borrowed likewise. */
const char *api_outbox_record(lua_State *L, struct api_outbox *o, uint64_t place, size_t *len);
/* The record at that place is left out from now on. */
void api_outbox_leave_out(lua_State *L, struct api_outbox *o, uint64_t place);

/* Adds a record as base/packed.h has it, whose bytes are in <record>, no part of the outbox. */
void api_outbox_add(lua_State *L, struct api_outbox *o, const struct buf *record);
/* How many bytes it has. */
lua_Integer api_outbox_bytes(const struct api_outbox *o);

/* Adds the functions to the module on top of the stack. */
void api_outbox_export(lua_State *L);

#endif
