/* project.c -- changes with other columns.
 *
 * The row becomes another one (see project_row.c), and the fields that the script has set in the
 * change become fields of the new change.
 *
 * A projection is a closure: upvalue 1 is its spec, upvalue 2 its plans by row class, with weak
 * keys.
 *
 * SPDX-License-Identifier: MIT */
#include "lua/project.h"

#include "lua/change.h"
#include "lua/change_key.h"
#include "lua/change_row.h"
#include "lua/clone.h"
#include "lua/project_row.h"

#include <lauxlib.h>
#include <string.h>

/* ---- fields of the change ---- */

/* Pushes a new table for the plain one at <index>; <what>: the part of the change that it is. */
static void push_new_part(lua_State *L, const struct project_job *j, int index, const char *what)
{
    project_job_push_spec(L, "part");
    lua_pushvalue(L, index);
    if (j->values > 0)
        lua_pushvalue(L, j->values);
    else
        lua_pushnil(L);
    lua_pushstring(L, what);
    lua_pushvalue(L, j->change);
    lua_call(L, 4, 1);
}

/* Returns the index of the change that the functions get for the old row at <old>: a clone, which
 * is pushed, that has it as its row. Without functions pushes nothing. */
static int change_for_old(lua_State *L, const struct project_job *j, int old)
{
    if (j->plan->n_functions == 0)
        return j->change;
    clone_push(L, j->change);
    lua_pushliteral(L, "row");
    lua_pushvalue(L, old);
    lua_rawset(L, -3);
    return lua_gettop(L);
}

/* Pushes what is made of the row of another change, or of an old row. */
static void push_other_row(lua_State *L, const struct project_job *of, int row, bool is_old)
{
    struct project_job j = { .thing = row, .change = of->change };

    if (is_old)
        j.change = change_for_old(L, of, row);
    project_row_push(L, &j);
    lua_pushvalue(L, j.result);
}

/* Pushes what is made of an old row that is a plain table. */
static void push_other_part(lua_State *L, const struct project_job *of, int index)
{
    struct project_job j = *of;

    j.change = change_for_old(L, of, index);
    j.plain = index;
    project_job_push_values(L, &j);
    push_new_part(L, &j, index, "row");
}

/* Pushes what becomes of the field <name> of the change, whose value is at <index>. */
static void push_new_field(lua_State *L, const struct project_job *j, const char *name, int index)
{
    bool is_old = strcmp(name, "old") == 0, is_row = strcmp(name, "row") == 0;

    if (!lua_istable(L, index)) {
        lua_pushvalue(L, index);
    } else if ((is_old || is_row) && change_row_is(L, index)) {
        push_other_row(L, j, index, is_old);
    } else if (is_old) {
        push_other_part(L, j, index);
    } else if (is_row) {
        push_new_part(L, j, index, "row");
    } else if (strcmp(name, "key") == 0) {
        bool is_ours = change_key_is(L, index);

        push_new_part(L, j, index, "key");
        if (is_ours) {
            change_push_part_metatable(L, j->plan_at + 1, CHANGE_PART_KEY);
            lua_setmetatable(L, -2);
        }
    } else {
        clone_push(L, index);
    }
}

/* Sets in the new change what becomes of the fields of the change. */
static void carry_fields(lua_State *L, const struct project_job *j)
{
    int top = lua_gettop(L), fields = top + 1, name = top + 2, value = top + 3;

    clone_push_fields(L, j->thing); /* a table that no script can add to meanwhile */
    for (lua_pushnil(L); lua_next(L, fields); lua_settop(L, name)) {
        push_new_field(L, j, lua_tostring(L, name), value);
        lua_pushvalue(L, name);
        lua_insert(L, -2);
        lua_rawset(L, j->result);
    }
    lua_settop(L, top);
}

/* If functions gave key columns values that a field cannot hold, makes the key a table with these
 * values, which the new change keeps. */
static void keep_key(lua_State *L, const struct project_job *j)
{
    const struct rowtype *s = j->to->rowtype;
    bool needs_table = false;

    for (size_t k = 0; k < s->n_key; k++)
        if (j->plan->columns[s->key[k]].is_computed) {
            lua_getfield(L, j->values, s->columns[s->key[k]].name);
            needs_table = needs_table || !project_row_can_hold(L, s->columns[s->key[k]].kind);
            lua_pop(L, 1);
        }
    if (!needs_table)
        return;
    lua_getfield(L, j->result, "key");                         /* key */
    for (size_t k = 0; k < s->n_key; k++)
        if (j->plan->columns[s->key[k]].is_computed) {
            lua_getfield(L, j->values, s->columns[s->key[k]].name);
            lua_setfield(L, -2, s->columns[s->key[k]].name);
        }
    lua_pop(L, 1);
}

/* The index of what the script has put in place of the change's row, 0 if it has not. */
static int find_plain_row(lua_State *L)
{
    lua_pushliteral(L, "row");
    lua_pushvalue(L, -1);
    if (lua_rawget(L, 1) != LUA_TNIL && !clone_is_own_row(L, 1))
        return lua_gettop(L);
    lua_pop(L, 2);
    return 0;
}

static int project(lua_State *L)
{
    struct project_job j = { .thing = 1, .change = 1 };

    lua_settop(L, 1);
    if (!change_is(L, 1))
        return project_job_fail(L, "takes changes, not a ", luaL_typename(L, 1), "");
    luaL_checkstack(L, 40, "a change");
    lua_getfield(L, 1, "old"); /* once it was read it is a field of the table, like others */
    lua_settop(L, 1);
    j.plain = find_plain_row(L);
    project_row_push(L, &j);
    if (j.plan->n_functions > 0)
        keep_key(L, &j);
    carry_fields(L, &j);
    lua_pushvalue(L, j.result);
    return 1;
}

static int projection(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    lua_createtable(L, 0, 1);                                  /* spec plans */
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "k");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, 2);
    lua_pushcclosure(L, project, 2);
    return 1;
}

void project_export(lua_State *L)
{
    project_plan_open(L);
    lua_pushcfunction(L, projection);
    lua_setfield(L, -2, "projection");
}
