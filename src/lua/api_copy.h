/* api_copy.h -- changes as the lines of a COPY.
 *
 * Exports to Lua (module pgcdc.raw):
 *   copy_columns(change) -> list of {name =, type =, kind =, wants_json =, in_row =, key =}, key:
 *     its place in the key; nothing for what is no change;
 *   copy_added(change) -> {name = value} of what a script added to its row, or put in its place;
 *   copy_plan(change, lines, {fields}, tail, {known = true}) -> plan: how changes of one row class
 *     become lines. Fields are numbers of columns (of copy_columns) or names of columns that a
 *     script adds. The tail stands after the fields: nothing, "count" (the number given to
 *     add_delete) or "version" (op and ts). `known`: names that a row may have; others are not lost
 *     silently. Methods:
 *       add(change) -> true, or false if the change is of another row class, is a delete, or has a
 *         row with a name that is not known;
 *       add_delete(change, count): writes what the key and `old` tell, else NULL.
 *
 * What a script has not touched passes as the server wrote it. A line is there as a whole or, if
 * something is thrown, not at all.
 *
 * SPDX-License-Identifier: MIT */
#ifndef API_COPY_H
#define API_COPY_H

#include <lua.h>

/* Adds the functions to the module on top of the stack. */
void api_copy_export(lua_State *L);

#endif
