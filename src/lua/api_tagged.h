/* api_tagged.h -- rows of a script's own as lines of a COPY, before the types of their columns are
 * known.
 *
 * Exports to Lua (module pgcdc.raw):
 *   copy_tagged(lines, names, row, other, ...): adds a line to <lines> (see api_copy_lines.h) with
 *     the values that the table <row> has under these names, or, where it has none, the table
 *     <other>, which may be nil. Then come <...>, texts or numbers, as they are.
 *
 * A value is NULL, or begins with a letter: "s" a text follows; "b" bytes follow, as hex digits,
 * since they are no text; "j" the JSON of anything else. A number that is whole is written as an
 * integer. sinks/postgres/own_rows.lua makes SQL of that.
 *
 * SPDX-License-Identifier: MIT */
#ifndef API_TAGGED_H
#define API_TAGGED_H

#include <lua.h>

/* Adds the function to the module on top of the stack. */
void api_tagged_export(lua_State *L);

#endif
