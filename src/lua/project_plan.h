/* project_plan.h -- how rows of one form become rows of another.
 *
 * What a reshaper (see project.h) does with the rows of one form is decided when it meets the
 * first of them, and kept as a link: where the columns come from, and the form of the new rows.
 *
 * Everything here may throw.
 *
 * SPDX-License-Identifier: MIT */
#ifndef PROJECT_PLAN_H
#define PROJECT_PLAN_H

#include "lua/rowdata.h"

#define PROJECT_PLAN_HASHED (SIZE_MAX - 1) /* the key part of ids, to be made */

struct project_plan_column {
    size_t from; /* index into the old columns, PROJECT_PLAN_HASHED, or ROWTYPE_NEW */
    bool is_computed;
};

/* User values: the form of the new rows; {place, function, place, function, ...}, places from 1,
 * in the order in which they are called. */
enum { PROJECT_PLAN_FORM = 1, PROJECT_PLAN_FUNCTIONS };

struct project_plan {
    size_t n, n_functions;
    struct project_plan_column columns[];
};

/* Pushes a link, a userdata, for rows of the form at <form>, as resolve() of the spec at <spec>
 * wants it. <thing>: the first such row, or the change that it is of; <plain>: what the script has
 * put in the place of the change's row, or 0. */
void project_plan_push(lua_State *L, int spec, int form, int thing, int plain); /* [-0, +1] */

/* Call it once per state. */
void project_plan_open(lua_State *L);

#endif
