/* change_row.h -- change.row: a table whose columns are decoded on demand.
 *
 * What a script assigns is kept in a side table of the row data and counts instead of what the
 * server sent: nil writes null, and a name that is no column is added after the columns.
 *
 * Everything here may throw.
 *
 * SPDX-License-Identifier: MIT */
#ifndef CHANGE_ROW_H
#define CHANGE_ROW_H

#include "lua/rowdata.h"

/* Pushes the metatable of rows of the class at <class_at>. */
void change_row_push_metatable(lua_State *L, int class_at);    /* [-0, +1] */

/* Pushes a row that has the data of the table at <index>; <metatable>: index of its metatable. */
void change_row_push(lua_State *L, int index, int metatable);  /* [-0, +1] */

/* The same with the data of the row before the change at <index>, which has one. */
void change_row_push_old(lua_State *L, int index, int metatable); /* [-0, +1] */

/* Pushes the list of the columns whose text from the server is not the same in the row and in the
 * old row of the change at <change>; nil if there are not two such rows. */
void change_row_push_changed(lua_State *L, const struct row_class *class, int change);

/* True if the row at <row>, or that of the change, has no column <i>: nobody knows its value, which
 * an update left as it was, and the script has assigned none. */
bool change_row_lacks(lua_State *L, const struct row_class *class, int row, size_t i);

/* Pushes the list of the columns whose value an update left as it was, and nobody knows; nil if
 * there is none. */
void change_row_push_lacked(lua_State *L, const struct row_class *class, int row); /* [-0, +1] */

/* True if the value at <index> is a row. */
bool change_row_is(lua_State *L, int index);

/* True if it is a row and has the data of the change at <change>; or that of its old row. */
bool change_row_is_of(lua_State *L, int index, int change);
bool change_row_is_old_of(lua_State *L, int index, int change);

/* Pushes the value of column <i> of the row at <index>, or of the change that has its data, whether
 * the server or the script gave it; nil for NULL. */
void change_row_push_column(lua_State *L, const struct row_class *class, int index, size_t i);

/* Pushes the value that the script assigned to a name that is no column; nil if it did not. */
void change_row_push_extra(lua_State *L, int index, const char *name);

/* Appends the JSON of the row whose data the table at <index> holds; <depth>: see json.h. */
void change_row_put(lua_State *L, const struct row_class *class, int index, struct buf *b,
                    int depth);

/* True if the value on top of the stack, which was assigned to a column, is NULL for it. */
bool change_row_is_null(lua_State *L, const struct rowtype_column *c);

/* Appends the JSON of the value on top of the stack, which was assigned to column <i>. */
void change_row_put_assigned(lua_State *L, const struct row_class *class, size_t i, struct buf *b,
                             int depth);

#endif
