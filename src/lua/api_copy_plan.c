/* api_copy_plan.c -- how changes of one row class become lines of a COPY.
 * SPDX-License-Identifier: MIT */
#include "lua/api_copy_plan.h"

#include "lua/change.h"
#include "lua/guard.h"

#define CLASS "pgcdc.plan"

/* User values of a plan. FIELDS: the list that it was made of; KNOWN: the set of names. */
enum { PLAN_LINES = 1, PLAN_CLASS, PLAN_METATABLE, PLAN_FIELDS, PLAN_KNOWN };

void api_copy_plan_open(lua_State *L, const luaL_Reg *methods)
{
    luaL_newmetatable(L, CLASS);                               /* mt */
    guard_set(L, -1, CLASS);
    lua_createtable(L, 0, 2);                                  /* mt index */
    luaL_setfuncs(L, methods, 0);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

/* Reads number <i> of the list at index 3. */
static struct api_copy_plan_field read_field(lua_State *L, const struct rowtype *s, size_t i)
{
    struct api_copy_plan_field field = { 0 };

    lua_rawgeti(L, 3, (lua_Integer)i + 1);
    if (lua_isinteger(L, -1)) {
        lua_Integer column = lua_tointeger(L, -1);

        luaL_argcheck(L, column >= 1 && (size_t)column <= s->n_columns, 3, "no such column");
        lua_rawgeti(L, 6, (lua_Integer)i + 1);
        field = (struct api_copy_plan_field){ true, lua_toboolean(L, -1), (uint32_t)column - 1 };
        lua_pop(L, 1);
    } else {
        luaL_argcheck(L, lua_isstring(L, -1), 3, "a field is a number or a name");
    }
    lua_pop(L, 1);
    return field;
}

/* The plan on top of the stack keeps the value at <index>. */
static void keep(lua_State *L, int index, int which)
{
    lua_pushvalue(L, index);
    lua_setiuservalue(L, -2, which);
}

int api_copy_plan_new(lua_State *L)
{
    static const char *const tails[] = { "", "count", "version", NULL };
    struct api_copy_lines *lines = api_copy_lines_at(L, 2);
    enum api_copy_plan_tail tail = (enum api_copy_plan_tail)luaL_checkoption(L, 4, "", tails);
    struct api_copy_plan *p;
    size_t n;

    luaL_argcheck(L, change_is(L, 1), 1, "a change is needed");
    luaL_checktype(L, 3, LUA_TTABLE);
    luaL_checktype(L, 5, LUA_TTABLE);
    luaL_checktype(L, 6, LUA_TTABLE);
    lua_settop(L, 6);
    n = lua_rawlen(L, 3);
    p = lua_newuserdatauv(L, sizeof *p + n * sizeof p->fields[0], PLAN_KNOWN);
    *p = (struct api_copy_plan){ .lines = lines, .tail = tail, .n = n };
    luaL_setmetatable(L, CLASS);
    keep(L, 2, PLAN_LINES);
    p->class = row_class_at(L, 1);
    row_class_push_of(L, 1);
    lua_setiuservalue(L, -2, PLAN_CLASS);
    lua_getmetatable(L, 1);
    p->metatable = lua_topointer(L, -1);
    lua_setiuservalue(L, -2, PLAN_METATABLE);
    p->is_verbatim = n == p->class->rowtype->n_columns;
    for (size_t i = 0; i < n; i++) {
        p->fields[i] = read_field(L, p->class->rowtype, i);
        p->is_verbatim = p->is_verbatim && p->fields[i].is_column && p->fields[i].column == i;
    }
    keep(L, 3, PLAN_FIELDS);
    keep(L, 5, PLAN_KNOWN);
    return 1;
}

struct api_copy_plan *api_copy_plan_at(lua_State *L)
{
    return luaL_checkudata(L, 1, CLASS);
}

bool api_copy_plan_is_for(lua_State *L, const struct api_copy_plan *p)
{
    bool is;

    if (!lua_istable(L, 2) || !lua_getmetatable(L, 2))
        return false;
    is = lua_topointer(L, -1) == p->metatable;
    lua_pop(L, 1);
    return is;
}

void api_copy_plan_push_name(lua_State *L, size_t i)
{
    lua_getiuservalue(L, 1, PLAN_FIELDS);                      /* fields */
    lua_rawgeti(L, -1, (lua_Integer)i + 1);
    lua_remove(L, -2);                                         /* name */
}

bool api_copy_plan_is_known(lua_State *L, int index)
{
    bool is;

    index = lua_absindex(L, index);
    lua_getiuservalue(L, 1, PLAN_KNOWN);                       /* known */
    lua_pushvalue(L, index);
    is = lua_rawget(L, -2) != LUA_TNIL;
    lua_pop(L, 2);
    return is;
}
