/* change.h -- rows as Lua sees them: the change object.
 *
 * A change is a table that holds one hidden thing, a userdata with a copy of
 * the row's raw bytes; its fields are found on first use and decoded only
 * then. change.row is such a table too. What a script assigns is kept beside
 * the raw bytes and wins over them.
 *
 * Everything here may throw.
 *
 * SPDX-License-Identifier: MIT */
#ifndef CHANGE_H
#define CHANGE_H

#include "lua/rowdata.h"

/* Pushes the metatable of changes of this shape, made on first use. <ref>: where the caller
 * keeps it between batches (LUA_NOREF at birth); <source>: its name. */
void change_push_metatable(lua_State *L, struct rowtype *rowtype, const char *source, int *ref);

/* Pushes a row class for <rowtype>, with metatables for changes of the source that the row class
 * at <class_at> is of; and one of these metatables. */
enum change_part { CHANGE_PART_CHANGE, CHANGE_PART_ROW, CHANGE_PART_KEY };
void change_push_class_like(lua_State *L, struct rowtype *rowtype, int class_at); /* [-0, +1] */
void change_push_part_metatable(lua_State *L, int class_at, enum change_part part); /* [-0, +1] */

/* True if the value at <index> is a change. */
bool change_is(lua_State *L, int index);

/* Pushes one change. <metatable>: the index of what change_push_metatable gave. */
void change_push(lua_State *L, int metatable, const struct chunk *chunk,
                 const struct chunk_row *row);

#endif
