/* clone.h -- fresh values that are equal to others, of changes above all.
 *
 * A change and what is in it are cloned down to the side tables; so are plain tables. Everything
 * else, such as an object of the script's own, is the same value in the clone.
 *
 * Everything here may throw.
 *
 * SPDX-License-Identifier: MIT */
#ifndef CLONE_H
#define CLONE_H

#include <lua.h>
#include <stdbool.h>

/* Pushes a clone of the value at <index>. */
void clone_push(lua_State *L, int index);                      /* [-0, +1] */

/* True if the field on top of the stack, its value above its name, is the change's row, with the
 * change's data. It need not be cloned with the change: it is made when it is asked for. */
bool clone_is_own_row(lua_State *L, int change);

#endif
