/* hidden.h -- the one field of a table that scripts can neither see nor take.
 *
 * A change and its row are plain tables, and their row data is one of the fields, since that is the
 * quickest way (with a weak table beside them instead, a change took one and a half times as long).
 * The field's key is an address that no script gets to know: next(), and the iterator of pairs(),
 * skip it, so a script cannot clear it by rawset(). So C code that has such a table on the stack
 * may use what it hides.
 *
 * Everything here may throw.
 *
 * SPDX-License-Identifier: MIT */
#ifndef HIDDEN_H
#define HIDDEN_H

#include <lua.h>

/* Replaces the globals next and pairs. Call it once per state, before any code sees them. */
void hidden_open(lua_State *L);

/* The table at <index> hides the value on top of the stack, which is popped. */
void hidden_set(lua_State *L, int index);                      /* [-1, +0] */

/* Pushes what the table at <index> hides, or nil. */
void hidden_push(lua_State *L, int index);                     /* [-0, +1] */

#endif
