/* api_db_rows.h -- the rows that a statement gives, as Lua tables.
 *
 * SPDX-License-Identifier: MIT */
#ifndef API_DB_ROWS_H
#define API_DB_ROWS_H

#include "pg/result.h"

#include <lua.h>

/* Pushes the list of rows, and the list of columns whose type is not known here: {name =, type =
 * oid}. Borrows <r>. May throw, so <r> must belong to something that the collector frees. */
void api_db_rows_push(lua_State *L, const struct result *r);   /* [-0, +2] */

#endif
