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

/* Pushes a form for <shape>, with metatables for changes of the source that the form at <form> is
 * of; and one of these metatables. */
enum change_part { CHANGE_PART_CHANGE, CHANGE_PART_ROW, CHANGE_PART_KEY };
void change_push_class_like(lua_State *L, struct rowtype *rowtype, int form); /* [-0, +1] */
void change_push_part_metatable(lua_State *L, int form, enum change_part part); /* [-0, +1] */

/* True if the value at <index> is a change; the key of one. */
bool change_is(lua_State *L, int index);
bool change_is_key(lua_State *L, int index);

/* Appends the key part of the id of the row with these cells, as text. */
void change_put_id_key(lua_State *L, const struct row_class *f, struct rowdata *c, struct buf *b);

/* Pushes one change. <metatable>: the index of what change_push_metatable gave. */
void change_push(lua_State *L, int metatable, const struct chunk *chunk,
                 const struct chunk_row *row);

#endif
