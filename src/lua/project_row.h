/* project_row.h -- a row with other columns.
 *
 * Everything here may throw.
 *
 * SPDX-License-Identifier: MIT */
#ifndef PROJECT_ROW_H
#define PROJECT_ROW_H

#include "lua/project_job.h"

/* Makes a new change or row, with its metatable, from the one at j->thing. The caller fills in
 * thing, change and plain of <j>; the rest is filled in here, and all that it refers to stays on
 * the stack. */
void project_row_push(lua_State *L, struct project_job *j);

/* True if a column of this kind can hold the value on top of the stack as the server's text. */
bool project_row_can_hold(lua_State *L, enum types_kind kind);

#endif
