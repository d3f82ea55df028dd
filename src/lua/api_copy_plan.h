/* api_copy_plan.h -- how changes of one row class become lines of a COPY.
 *
 * A plan is a userdata, the first argument of its methods, which are in api_copy.c.
 *
 * Everything here may throw.
 *
 * SPDX-License-Identifier: MIT */
#ifndef API_COPY_PLAN_H
#define API_COPY_PLAN_H

#include "lua/api_copy_lines.h"
#include "lua/row_class.h"

#include <lauxlib.h>

/* Where a field of the line comes from: a column of the change, or a name that scripts add. */
struct api_copy_plan_field {
    bool is_column;
    bool may_be_assigned; /* values of the script's are taken for the column */
    uint32_t column;
};

/* What stands after the fields: nothing, a number, or op and ts. */
enum api_copy_plan_tail {
    API_COPY_PLAN_NONE, API_COPY_PLAN_COUNT, API_COPY_PLAN_VERSION
};

struct api_copy_plan {
    struct api_copy_lines *lines; /* user values keep these three alive */
    struct row_class *class;
    const void *metatable;        /* of the changes */
    enum api_copy_plan_tail tail;
    bool is_verbatim;             /* the fields are the columns of the class as they stand */
    size_t n;
    struct api_copy_plan_field fields[];
};

/* Makes the metatable of plans, with these methods. Call it once per state. */
void api_copy_plan_open(lua_State *L, const luaL_Reg *methods);

/* copy_plan(change, lines, {fields}, tail, {known}, {assigned}) -> plan, see api_copy.h. */
int api_copy_plan_new(lua_State *L);

/* The plan at index 1; throws if there is none. Borrowed. */
struct api_copy_plan *api_copy_plan_at(lua_State *L);

/* True if the value at index 2 is a change that the plan is for. */
bool api_copy_plan_is_for(lua_State *L, const struct api_copy_plan *p);

/* Pushes the name of field <i> of the plan at index 1; the field must not be a column. */
void api_copy_plan_push_name(lua_State *L, size_t i);          /* [-0, +1] */

/* True if a row may have the name at <index>, for the plan at index 1. */
bool api_copy_plan_is_known(lua_State *L, int index);

#endif
