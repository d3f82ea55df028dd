/* project_assigned.c -- what a script assigned to a row, carried to the new row.
 * SPDX-License-Identifier: MIT */
#include "lua/project_assigned.h"

#include "lua/clone.h"

#include <lauxlib.h>
#include <string.h>

void project_assigned_set(lua_State *L, int data_at, int which, const char *name)
{
    rowdata_make_side(L, data_at, which);                      /* value side */
    lua_insert(L, -2);                                         /* side value */
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
}

/* Carries the columns that the script assigned, or decoded and perhaps changed: those of side table
 * <which>. */
static void carry_columns(lua_State *L, const struct project_job *j, int data_at, int which)
{
    int side = lua_gettop(L) + 1;

    rowdata_push_side(L, j->thing, which);                     /* side */
    for (size_t i = 0; lua_istable(L, side) && i < j->plan->n; i++) {
        const struct project_plan_column *c = &j->plan->columns[i];

        if (c->is_computed || c->from >= PROJECT_PLAN_HASHED)
            continue;
        lua_pushstring(L, j->from->rowtype->columns[c->from].name);
        if (lua_rawget(L, side) != LUA_TNIL) {
            clone_push(L, -1);
            project_assigned_set(L, data_at, which, j->to->rowtype->columns[i].name);
        }
        lua_pop(L, 1);
    }
    lua_settop(L, side - 1);
}

/* Pushes the new name for the name on top of the stack; nil if that is dropped. */
static void push_new_name(lua_State *L)
{
    project_job_push_spec(L, "names");                         /* name names */
    lua_pushvalue(L, -2);
    if (lua_rawget(L, -2) == LUA_TNIL) {                       /* name names nil */
        lua_pop(L, 1);
        project_job_push_spec(L, "keep");
        if (lua_toboolean(L, -1)) {
            lua_pop(L, 1);
            lua_pushvalue(L, -2);
        }
    }
    lua_remove(L, -2);                                         /* name new */
    if (!lua_isstring(L, -1)) {
        lua_pop(L, 1);
        lua_pushnil(L);
    }
}

/* The index of a column of the row; ROWTYPE_DERIVE_NEW if none has the name. */
static size_t find_column(const struct rowtype *s, const char *name)
{
    for (size_t i = 0; i < s->n_row; i++)
        if (strcmp(s->columns[i].name, name) == 0)
            return i;
    return ROWTYPE_DERIVE_NEW;
}

/* Carries the value at <name> + 1, which has the name at <name>, to the name at <to>. */
static void carry_extra(lua_State *L, const struct project_job *j, int data_at, int name, int to)
{
    size_t i = find_column(j->to->rowtype, lua_tostring(L, to));
    bool is_column = i != ROWTYPE_DERIVE_NEW;

    if (is_column && j->plan->columns[i].is_computed)
        return;
    rowdata_make_side(L, data_at, ROWDATA_SET);                /* side */
    lua_pushvalue(L, to);
    if (lua_rawget(L, -2) != LUA_TNIL ||
        (is_column && j->plan->columns[i].from != ROWTYPE_DERIVE_NEW))
        project_job_fail(L, "there is a column '", lua_tostring(L, to), "' already");
    lua_pop(L, 1);
    if (!is_column) {
        lua_pushvalue(L, to);
        lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
    }
    lua_pushvalue(L, to);
    clone_push(L, name + 1);
    lua_rawset(L, -3);
    lua_pop(L, 1);
}

/* Carries the names that are no columns, with their values. */
static void carry_extras(lua_State *L, const struct project_job *j, int data_at)
{
    int side = lua_gettop(L) + 1, name = side + 1;

    rowdata_push_side(L, j->thing, ROWDATA_SET);               /* side */
    for (lua_Integer k = 1; lua_istable(L, side); k++) {
        if (lua_rawgeti(L, side, k) == LUA_TNIL)               /* side name */
            break;
        lua_pushvalue(L, name);
        lua_rawget(L, side);                                   /* side name value */
        lua_pushvalue(L, name);
        push_new_name(L);                                      /* side name value name new */
        if (!lua_isnil(L, -1))
            carry_extra(L, j, data_at, name, lua_gettop(L));
        lua_settop(L, side);
    }
    lua_settop(L, side - 1);
}

void project_assigned_carry(lua_State *L, const struct project_job *j, int data_at)
{
    if (!j->data->has_side)
        return;
    carry_columns(L, j, data_at, ROWDATA_SET);
    carry_columns(L, j, data_at, ROWDATA_DECODED);
    carry_extras(L, j, data_at);
}
