/* clone.h -- copies of values, of changes above all.
 *
 * A change and what is in it are copied through and through, down to the side tables; so are
 * plain tables. Everything else, such as an object of the script's own, is the same afterwards.
 *
 * Everything here may throw.
 *
 * SPDX-License-Identifier: MIT */
#ifndef CLONE_H
#define CLONE_H

#include <lua.h>
#include <stdbool.h>

/* Pushes a copy of the value at <index>. */
void clone_push(lua_State *L, int index);                       /* [-0, +1] */

/* True if the field on top of the stack, its value above its name, is the change's row, with the
 * change's cells. It need not be copied with the change: one is made when it is asked for. */
bool clone_is_own_row(lua_State *L, int change);

#endif
