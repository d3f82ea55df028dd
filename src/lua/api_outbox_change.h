/* api_outbox_change.h -- puts a change into an outbox, with its key and headers.
 *
 * SPDX-License-Identifier: MIT */
#ifndef API_OUTBOX_CHANGE_H
#define API_OUTBOX_CHANGE_H

#include "base/packed.h"
#include "lua/api_outbox.h"
#include "lua/rowdata.h"

/* What goes with a change, borrowed from texts on the stack. */
struct api_outbox_change_with {
    struct packed_part source, topic, headers;
};

/* The text at <index>, borrowed. */
struct packed_part api_outbox_change_text(lua_State *L, int index);

/* Replaces the class on top of the stack by two values: topic and headers of its changes with this
 * op, as the table at <known> has them, and sets them. False if it has none: then they are of no
 * use. Throws nothing. */
bool api_outbox_change_find(lua_State *L, int known, enum op op,
                            struct api_outbox_change_with *with); /* [-1, +2] */

/* Adds the record of a change of which only the row data is there: see change_plain_put. */
void api_outbox_change_add(lua_State *L, struct api_outbox *o, const struct row_class *class,
                           struct rowdata *d, const struct api_outbox_change_with *with);

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
