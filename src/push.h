/* push.h -- rows as Lua sees them: the change object.                 floor 4
 *
 * A change is a table that holds one hidden thing, a userdata with a copy of
 * the row's raw bytes; its fields are found on first use and decoded only
 * then. change.row is such a table too. What a script assigns is kept beside
 * the raw bytes and wins over them.
 *
 * Everything here may throw.
 *
 * SPDX-License-Identifier: MIT */
#ifndef PUSH_H
#define PUSH_H

#include "batch.h"

#include <lua.h>

/* Pushes the metatable of changes of this shape, made on first use. <ref>: where the caller
 * keeps it between batches (LUA_NOREF at birth); <source>: its name. */
void push_metatable(lua_State *L, struct shape *shape, const char *source, int *ref);

/* Pushes one change. <metatable>: the index of what push_metatable gave. */
void push_change(lua_State *L, int metatable, const struct batch *b, const struct row *row);

#endif
