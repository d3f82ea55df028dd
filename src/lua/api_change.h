/* api_change.h -- changes that are made by hand, deletes that are made of changes, and their keys.
 *
 * Exports to Lua (module pgcdc.raw):
 *   change_class({database =, schema =, table =, source =, names = list, n_row =, key = list}) ->
 *     class of the changes that have these columns: the first n_row of them are the row's; key:
 *     places of those that identify a row. Their values are of any type;
 *   change_new(class, op, row, key) -> a change; row and key: tables of values by name; row may be
 *     nil;
 *   change_row(class, row) -> a row of such a change alone;
 *   is_by_hand(value): whether it is such a change, or a row of one, also after a projection;
 *   change_delete(change) -> a delete of its row, with its key and its old row;
 *   key_json(change) -> the JSON of its key;
 *   utc() -> the time as changes have it;
 *   change_fields: a list of the names of the fields that changes have.
 *
 * SPDX-License-Identifier: MIT */
#ifndef API_CHANGE_H
#define API_CHANGE_H

#include <lua.h>

/* Adds these to the module on top of the stack. */
void api_change_export(lua_State *L);

#endif
