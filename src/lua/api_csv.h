/* api_csv.h -- rows as lines of CSV.
 *
 * Exports to Lua (module pgcdc.raw), where a row is a table with named fields, or a change,
 * which stands for its row (or what there is of it):
 *   csv_names(row) -> list of its names, in the row's order;
 *   csv_line(row, names) -> the fields so named, as one line without its end, and how many of
 *     the row's fields have other names.
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
