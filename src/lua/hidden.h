/* hidden.h -- the one field of a table that scripts can neither see nor take.
 *
 * A change and its row are plain tables, and what they hold of the server's bytes is a field of
 * them: that costs less than anything else (a weak table beside them made changes half as slow
 * again). Its key is an address that scripts do not get to know: next() and what pairs() gives skip
 * it, so no script can have it from there and clear it by rawset(). Whoever has such a table on the
 * stack may therefore use what it hides.
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
