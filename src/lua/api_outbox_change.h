/* api_outbox_change.h -- puts a change into an outbox, with its key and headers.
 *
 * SPDX-License-Identifier: MIT */
#ifndef API_OUTBOX_CHANGE_H
#define API_OUTBOX_CHANGE_H

#include <lua.h>

/* Adds to the module pgcdc.raw on top of the stack:
 *   put_change(outbox, source, topic, headers, change) -> true: adds the record id, source, topic,
 *     JSON of the key, JSON of the change, its headers (id, seq, ts) behind those that are given,
 *     nil. False: it added none, since a script has changed one of these. May throw. */
void api_outbox_change_export(lua_State *L);

#endif
