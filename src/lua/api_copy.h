/* api_copy.h -- changes as the lines of a COPY.
 *
 * Exports to Lua (module pgcdc.raw):
 *   copy_columns(change) -> list of {name =, type =, base_type =, parts =, kind =, wants_json =,
 *     has_json_cast =, is_computed =, in_row =, key =, number =, expression =, former =,
 *     former_expression =}; key: the place of the column in the key, from 1, or nil; the
 *     others as in struct rowtype_column, as are the fields `table_id`, `started`,
 *     `numbers` and `dropped` (a list) of the list in struct rowtype. No result for a value that is
 *     neither a change nor a row;
 *   copy_added(change) -> {name = value} of what a script added to its row; what the script put in
 *     the place of the row, if it did;
 *   copy_assigned(change) -> list of the numbers of the columns of its row to which a script gave
 *     values, by assigning, inside of a document, or with another table as the row;
 *   copy_plan(change, lines, {fields}, tail, {known = true}, {[i] = true}) -> plan: how changes of
 *     one row class become lines. Fields are numbers of columns (of copy_columns) or names of
 *     columns that a script adds. The tail stands after the fields: nothing, "count" (the number
 *     given to add_delete) or "version" (op and ts). `known`: the names that a row may have; a row
 *     with another name is refused, so that no value is lost silently. The last list: the places of
 *     fields to whose columns a script may have given values. Methods:
 *       add(change) -> true, or false if the change is of another row class, is a delete, or has a
 *         row with a name that is not known, or with a value of the script's where the plan has
 *         none;
 *       add_delete(change, count): adds a line with the values of the key and of `old`, and
 *         NULL for all other fields.
 *
 * A value that the script has not touched passes as the server wrote it. If a method throws, it has
 * added nothing.
 *
 * SPDX-License-Identifier: MIT */
#ifndef API_COPY_H
#define API_COPY_H

#include "lua/rowdata.h"

/* Pushes the value that a script gave column <i> of the row at <row>, whose data is <d>. Returns
 * false if the column is as the server sent it; what was pushed then must not be used. */
bool api_copy_push_touched(lua_State *L, const struct row_class *class, int row, struct rowdata *d,
                           size_t i);

/* Adds the functions to the module on top of the stack. */
void api_copy_export(lua_State *L);

#endif
