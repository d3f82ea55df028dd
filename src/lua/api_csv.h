/* api_csv.h -- rows as lines of CSV.
 *
 * Exports to Lua (module pgcdc.raw):
 *   csv_names(row) -> list of its names, in the row's order;
 *   csv_line(row, names) -> the fields of these names, as one line without a newline, and how many
 *     fields of the row have other names.
 * A row is a table with named fields; a change stands for its row, or, where it has none, for `old`
 * or `key`.
 *
 * Quotes are as in RFC 4180: NULL is an empty field, an empty text is "". A field is the text that
 * stands in the row's JSON, so that numbers keep their digits; objects and lists stay JSON.
 *
 * SPDX-License-Identifier: MIT */
#ifndef API_CSV_H
#define API_CSV_H

#include <lua.h>

/* Adds the functions to the module on top of the stack. */
void api_csv_export(lua_State *L);

#endif
