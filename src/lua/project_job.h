/* project_job.h -- one change or row for which a projection makes another.
 *
 * These functions are called by the closure that project.c makes: its upvalue 1 is the spec, its
 * upvalue 2 a table from row classes to plans.
 *
 * Everything here may throw.
 *
 * SPDX-License-Identifier: MIT */
#ifndef PROJECT_JOB_H
#define PROJECT_JOB_H

#include "lua/project_plan.h"

/* The numbers are indexes of the stack. */
struct project_job {
    int thing;   /* a change, or a row of one */
    int change;  /* which the functions get */
    int plain;   /* what the script has put in place of the change's row, or 0 */
    int plan_at; /* the plan, between the class of the old row and that of the new one */
    int values;  /* what the functions returned, by the names of the columns; 0: nothing */
    int result;  /* the new change or row */
    const struct project_plan *plan;
    const struct row_class *from, *to;
    struct rowdata *data; /* of <thing> */
};

/* Pushes a field of the spec. */
void project_job_push_spec(lua_State *L, const char *name);    /* [-0, +1] */

/* Throws "<operator>: <a><b><c>", without the place in our code in front. Does not return. */
int project_job_fail(lua_State *L, const char *a, const char *b, const char *c);

/* Fills in <plan_at>, <plan>, <from>, <to> and <data>; pushes the class of the old row, the plan
 * and the class of the new row. */
void project_job_find_plan(lua_State *L, struct project_job *j); /* [-0, +3] */

/* Calls the functions; pushes what they give, by the names of the columns, and fills in <values>.
 * Pushes nil where there are none. */
void project_job_push_values(lua_State *L, struct project_job *j); /* [-0, +1] */

#endif
