/* clone.h -- clones of values: fresh ones that are equal, changes above all.
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

/* Pushes a table with the named fields of the change or row at <index>, but for such a row. */
void clone_push_fields(lua_State *L, int index);               /* [-0, +1] */

/* Makes clones of the values in the table on top of the stack, which no script has seen. */
void clone_values(lua_State *L);

/* True if the field on top of the stack, its value above its name, is the row of the change at
 * <change>, with the change's own data. A clone of the change makes such a row when it is asked
 * for it, so the row itself need not be cloned. */
bool clone_is_own_row(lua_State *L, int change);

#endif
