/* api_value.h -- what scripts do with values.
 *
 * Exports to Lua (module pgcdc.raw):
 *   encode(value) -> its JSON; decode(text) -> value, or nil and what is wrong with the text;
 *   null; array_metatable, of tables that are JSON arrays also when they are empty;
 *   clone(value): a fresh one that is equal to it, see clone.h; is_change(value);
 *   set_metatable_of(new, value) -> new, a plain copy of value;
 *   is_part(value): whether it is a change, or the row or the key of one;
 *   get(table, name): the field, or nil; to index a change, a row or a key without that field is an
 *     error;
 *   methods({name = function}): those of all changes, rows and keys;
 *   sha256(text): as hex digits.
 *
 * SPDX-License-Identifier: MIT */
#ifndef API_VALUE_H
#define API_VALUE_H

#include <lua.h>

/* Adds these to the module on top of the stack. */
void api_value_export(lua_State *L);

#endif
