/* api_shape.h -- what a row consists of, so that others can read its values again.
 *
 * SPDX-License-Identifier: MIT */
#ifndef API_SHAPE_H
#define API_SHAPE_H

#include <lua.h>

/* Adds to the table of `pgcdc.raw` on top of the stack:
 *   shape(change)   {schema =, table =, columns = {{name =, type =, json = true or nil}, ...} in
 *                   the order of the row, key = likewise, in the order of the key, xid = false
 *                   where rows have none}, always the same table for changes
 *                   whose rows are alike; nil for a change made by hand. Types are as
 *                   format_type() writes them, of a domain what it is over; a column that a script
 *                   has made has none. With `json` values are JSON, though the type is none of
 *                   json, jsonb and arrays */
void api_shape_export(lua_State *L);

#endif
