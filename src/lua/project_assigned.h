/* project_assigned.h -- what a script assigned to a row, carried to the new row.
 *
 * Everything here may throw.
 *
 * SPDX-License-Identifier: MIT */
#ifndef PROJECT_ASSIGNED_H
#define PROJECT_ASSIGNED_H

#include "lua/project_job.h"

/* Puts clones of what the script assigned, or decoded, into the side tables of the new row data at
 * <data_at>, under the new names. Throws if a name is taken. */
void project_assigned_carry(lua_State *L, const struct project_job *j, int data_at);

/* Sets <name> in side table <which> of the row data at <data_at> to the value on top of the stack,
 * which is popped. */
void project_assigned_set(lua_State *L, int data_at, int which, const char *name); /* [-1, +0] */

#endif
