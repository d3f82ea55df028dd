/* change.h -- a change as Lua sees it.
 *
 * A change is a table that holds one hidden thing, the row data: a userdata with the raw bytes of
 * the row. Its fields are decoded when they are first asked for. change.row is such a table too
 * (see change_row.h). A field that a script assigns to a change is a plain field of the table.
 *
 * Everything here may throw.
 *
 * SPDX-License-Identifier: MIT */
#ifndef CHANGE_H
#define CHANGE_H

#include "lua/rowdata.h"

/* Pushes the metatable of changes of this row type. *ref: the caller's registry reference to the
 * metatable that it got last, LUA_NOREF at first; if that is of another row type, a new one is made
 * and *ref replaced. <source>: the source's name. */
void change_push_metatable(lua_State *L, struct rowtype *rowtype, const char *source, int *ref);

/* Pushes a new row class for <rowtype>, with metatables for changes of the source of that name. */
void change_push_class(lua_State *L, struct rowtype *rowtype, const char *source); /* [-0, +1] */

/* Pushes a new row class for <rowtype>, with metatables for changes of the same source as those of
 * the class at <class_at>. */
void change_push_class_like(lua_State *L, struct rowtype *rowtype, int class_at); /* [-0, +1] */

/* Pushes one of the metatables of the class at <class_at>. */
enum change_part { CHANGE_PART_CHANGE, CHANGE_PART_ROW, CHANGE_PART_KEY };
void change_push_part_metatable(lua_State *L, int class_at, enum change_part part); /* [-0, +1] */

/* Pushes a list of the names of the fields that changes have. */
void change_push_field_names(lua_State *L); /* [-0, +1] */

/* True if the value at <index> is a change. */
bool change_is(lua_State *L, int index);

/* Pushes the change for a row of a chunk, which may be freed afterwards. <metatable>: index of what
 * change_push_metatable pushed. */
void change_push(lua_State *L, int metatable, const struct chunk *chunk,
                 const struct chunk_row *row);

/* Pushes a change of op "read" whose columns are all NULL: it shows which ones there are. */
void change_push_example(lua_State *L, int metatable, const struct rowtype *rowtype);

#endif
