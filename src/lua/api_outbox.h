/* api_outbox.h -- what a sink has taken and its target does not have yet.
 *
 * Records wait here until a flush has moved them to the target, and are dropped then; a flush that
 * fails finds them again. They are kept in memory up to a limit, then in a file without a name.
 *
 * Exports to Lua (module pgcdc.raw): outbox() -> outbox. Methods:
 *   put(lane, id, ...): adds a record. Lane: a number, or text, whose hash counts: what is in one
 *     lane must stay in order; nil: 0. Id: text, or nil. The rest, 250 at most, are texts or nil;
 *   put_change(source, topic, headers, change) -> true: adds the record id, source, topic, JSON of
 *     the key, JSON of the change, its headers (id, seq, ts) behind those that are given, nil.
 *     False: it added none, since a script has changed one of these;
 *   seal() -> number of the seal: each() and drop() can end there, after the newest record;
 *   each(upto) -> an iterator over (lane, id, ...), the oldest first, to the seal of that number;
 *     nil: to the end. What is put meanwhile may come too; after a drop it goes on with what is
 *     left;
 *   chunk(place, upto) -> bytes, place: some records as base/packed.h has them, from that place on
 *     (nil: the oldest), and where the next ones begin; nothing where there are none;
 *   rows(upto), bytes(upto) -> how many there are, up to the seal;
 *   drop(upto): forgets them, and the seals up to that one;
 *   leave_out(list): each() passes over these from now on, and chunk() has them marked: numbers of
 *     records as each() gives them, from 1, rising. They count in rows and bytes until they are
 *     dropped.
 * hash(text) -> number, as a lane has it.
 *
 * Everything here may throw.
 *
 * SPDX-License-Identifier: MIT */
#ifndef API_OUTBOX_H
#define API_OUTBOX_H

#include <lua.h>

/* Adds the functions to the module on top of the stack. */
void api_outbox_export(lua_State *L);

#endif
