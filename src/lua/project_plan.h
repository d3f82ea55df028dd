/* project_plan.h -- how rows of one class become rows of another.
 *
 * What a projection (see project.h) does with the rows of one class is decided when it meets the
 * first of them, and kept as a plan: where the columns come from, and the class of the new rows.
 *
 * Everything here may throw.
 *
 * SPDX-License-Identifier: MIT */
#ifndef PROJECT_PLAN_H
#define PROJECT_PLAN_H

#include "capture/rowtype_derive.h"
#include "lua/rowdata.h"

#define PROJECT_PLAN_HASHED (SIZE_MAX - 1) /* a hash of the key, which ids show instead */

struct project_plan_column {
    size_t from; /* index into the old columns, PROJECT_PLAN_HASHED, or ROWTYPE_DERIVE_NEW */
    bool is_computed;
};

/* User values: the row class of the new rows; {place, function, place, function, ...}, places from
 * 1, in the order in which they are called. */
enum { PROJECT_PLAN_CLASS = 1, PROJECT_PLAN_FUNCTIONS };

struct project_plan {
    size_t n, n_functions;
    struct project_plan_column columns[];
};

/* Pushes a plan, a userdata, for rows of the class at <class_at>, as resolve() of the spec at
 * <spec> wants it. <thing>: index of the first such row, or of its change; <plain>: index of what
 * the script has put in place of the change's row, or 0. */
void project_plan_push(lua_State *L, int spec, int class_at, int thing, int plain); /* [-0, +1] */

/* Call it once per state. */
void project_plan_open(lua_State *L);

#endif
