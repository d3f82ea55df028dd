/* api_direct.h -- rows that go from a chunk into the outbox of a sink, without a call of Lua for
 * each.
 *
 * Where all that a source finds goes to one sink, as it is, Lua has nothing to do with a row but to
 * hand it from one function in C to another. So it is asked once for many rows. A row that is not
 * plain, or of which something is wrong, is left to the handler: what is in the outbox is the same
 * in any case.
 *
 * Exports to Lua (module pgcdc.raw):
 *   direct(number, way or nil): the rows of the source may go that way, beside its handlers. A
 *     list:
 *       outbox, known: see put_change in api_outbox_change.h;
 *       rows, bytes: how many are put at most before `done` is called;
 *       done(n, bytes): n rows were put into the outbox, which has so many bytes;
 *       begin() -> number of the source as text; or false: these rows are for the handlers. It is
 *         called before some rows are delivered, when it is known which batch they are of.
 *
 * Everything here may throw.
 *
 * SPDX-License-Identifier: MIT */
#ifndef API_DIRECT_H
#define API_DIRECT_H

#include "capture/chunk.h"
#include "lua/api_source.h"

/* Some rows of a source are to be delivered, whose metatable is at <metatable>. If they may go this
 * way, leaves on the stack what api_direct_put needs, and returns where; else 0, and nothing. */
int api_direct_begin(lua_State *L, const struct api_source *source, int metatable);

/* Puts some rows of the chunk, from *done on, moves *done after them, and returns
 * how many they are. 0: row *done is for the handler. */
size_t api_direct_put(lua_State *L, int at, const struct chunk *chunk, size_t *done);

/* Adds the function to the module on top of the stack. */
void api_direct_export(lua_State *L);

#endif
