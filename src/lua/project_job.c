/* project_job.c -- one change or row for which a projection makes another.
 * SPDX-License-Identifier: MIT */
#include "lua/project_job.h"

#include "lua/change_row.h"
#include "lua/json.h"

#include <lauxlib.h>

void project_job_push_spec(lua_State *L, const char *name)
{
    lua_getfield(L, lua_upvalueindex(1), name);
}

int project_job_fail(lua_State *L, const char *a, const char *b, const char *c)
{
    project_job_push_spec(L, "what");
    lua_pushfstring(L, "%s: %s%s%s", lua_tostring(L, -1), a, b, c);
    return lua_error(L);
}

void project_job_find_plan(lua_State *L, struct project_job *j)
{
    int class_at;

    row_class_push_of(L, j->thing);                            /* class */
    class_at = lua_gettop(L);
    j->from = row_class_from(L, class_at);
    if (j->from == NULL)
        luaL_error(L, "this is not a change, nor a part of one");
    j->data = rowdata_at(L, j->thing, j->from);
    lua_pushvalue(L, class_at);
    if (lua_rawget(L, lua_upvalueindex(2)) == LUA_TNIL) {      /* class nil */
        lua_pushvalue(L, lua_upvalueindex(1));
        lua_replace(L, -2);                                    /* class spec */
        project_plan_push(L, class_at + 1, class_at, j->thing, j->plain); /* class spec plan */
        lua_remove(L, class_at + 1);                           /* class plan */
        lua_pushvalue(L, class_at);
        lua_pushvalue(L, -2);
        lua_rawset(L, lua_upvalueindex(2));
    }
    j->plan_at = class_at + 1;
    j->plan = lua_touserdata(L, j->plan_at);
    lua_getiuservalue(L, j->plan_at, PROJECT_PLAN_CLASS);      /* class plan new */
    j->to = row_class_from(L, -1);
}

/* Pushes the value that the function of column <i> of the new row gets; nil for NULL. */
static void push_old_value(lua_State *L, const struct project_job *j, size_t i)
{
    size_t from = j->plan->columns[i].from;

    if (j->plain > 0 && i < j->to->rowtype->n_row) {
        if (lua_istable(L, j->plain)) {
            lua_pushstring(L, j->to->rowtype->columns[i].name);
            row_class_get(L, j->plain);
        } else {
            lua_pushnil(L);
        }
    } else if (from == ROWTYPE_DERIVE_NEW) {
        change_row_push_extra(L, j->thing, j->to->rowtype->columns[i].name);
    } else {
        change_row_push_column(L, j->from, j->thing, from);
    }
    if (json_null_at(L, -1)) {
        lua_pop(L, 1);
        lua_pushnil(L);
    }
}

/* True if column <i> of the new row has no value, since the change is a delete that has no row. */
static bool is_without_value(const struct project_job *j, size_t i)
{
    const struct rowtype *s = j->to->rowtype;

    if (!j->data->is_key_only || j->plain > 0)
        return false;
    for (size_t k = 0; k < s->n_key; k++)
        if (s->key[k] == i)
            return false;
    return i < s->n_row;
}

void project_job_push_values(lua_State *L, struct project_job *j)
{
    size_t n = j->plan->n_functions;

    if (n == 0) {
        lua_pushnil(L);
        return;
    }
    lua_createtable(L, 0, (int)n);                             /* values */
    j->values = lua_gettop(L);
    lua_getiuservalue(L, j->plan_at, PROJECT_PLAN_FUNCTIONS);  /* values functions */
    for (size_t k = 0; k < n; k++) {
        size_t i;

        lua_rawgeti(L, -1, (lua_Integer)k * 2 + 1);
        i = (size_t)lua_tointeger(L, -1) - 1;
        lua_pop(L, 1);
        if (is_without_value(j, i))
            continue;
        lua_rawgeti(L, -1, (lua_Integer)k * 2 + 2);            /* values functions f */
        push_old_value(L, j, i);
        lua_pushvalue(L, j->change);
        lua_call(L, 2, 1);
        lua_setfield(L, j->values, j->to->rowtype->columns[i].name);
    }
    lua_pop(L, 1);
}
