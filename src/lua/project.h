/* project.h -- changes with other columns.
 *
 * Exports to Lua (module pgcdc.raw):
 *
 * projection(spec): a function(change) that returns a new one with other columns. <spec>:
 *    what: the operator's name, for messages
 *    names: old name -> new name, or false where it is dropped
 *    keep: true if names that are not in `names` stay
 *    salt: of the hash that stands for the key in ids
 *    resolve(facts) -> layout, called once for each row class.
 *       facts: schema, table; row (names of columns), key_only (names of key columns that are not
 *       in the row), key (set of names); assigned (what the script assigned to the row, names that
 *       are no columns as a list) and plain (what it has put in place of the row), or nil.
 *       layout:
 *          columns: a list of {name=, from=, text=, f=}. from: a place in row or, after the last of
 *             these, in key_only, counted from 1; f(value, change) gives the new value; text: true
 *             if the new column is text, whatever the old one was
 *          n_row: how many of the columns are the row's
 *          order: places of the columns that have an f, in the order in which these are called
 *          hides_key: true if ids must not show the key
 *    part(table, values, what, change) -> a new one, for a plain table that stands for the row
 *       (what: "row"), the old row ("row") or the key ("key"); values: what the functions gave, by
 *       name, or nil.
 *
 * SPDX-License-Identifier: MIT */
#ifndef PROJECT_H
#define PROJECT_H

#include <lua.h>

/* Adds the function to the module on top of the stack. */
void project_export(lua_State *L);

#endif
