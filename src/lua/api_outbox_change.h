/* api_outbox_change.h -- puts a change into an outbox, with its key and headers.
 *
 * SPDX-License-Identifier: MIT */
#ifndef API_OUTBOX_CHANGE_H
#define API_OUTBOX_CHANGE_H

#include <lua.h>

/* Adds to the module pgcdc.raw on top of the stack:
 *   learn_change(known, change, topic, headers): from now on these go with changes of the same row
 *     class and op. <known>: a table of the caller's, at first empty, with weak keys. The headers
 *     are packed;
 *   put_change(outbox, known, source, change, counts) -> bytes of the outbox: adds the record id,
 *     source, topic, JSON of the key, JSON of the change, headers (those that are known, id, seq,
 *     ts), nil. With <counts>, of raw.id_counts, it has a lane, as remote.lane has it; and from the
 *     second one of a change on the last part is its id, a slash and its number. Or nil: it added
 *     none, since it is no change, what goes with it is not known, or a script has given it another
 *     id, op, seq, ts, schema, table or source.
 *   put_json(outbox, nil, source, change, address, held) -> bytes of the outbox: adds the record
 *     id, source, address or nil, JSON of the change, nil, held, with its lane. Or nil, as above.
 * They may throw. */
void api_outbox_change_export(lua_State *L);

#endif
