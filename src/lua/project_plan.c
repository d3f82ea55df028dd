/* project_plan.c -- how rows of one class become rows of another.
 *
 * Registry: &box_key -> the metatable of boxed row types.
 *
 * SPDX-License-Identifier: MIT */
#include "lua/project_plan.h"

#include "lua/change.h"

#include <lauxlib.h>

static const char box_key;

static void set_names(lua_State *L, const char *name, const struct rowtype_column *columns,
                      size_t n)
{
    lua_createtable(L, (int)n, 0);
    for (size_t i = 0; i < n; i++) {
        lua_pushstring(L, columns[i].name);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_setfield(L, -2, name);
}

/* Pushes the facts that resolve() gets. */
static void push_facts(lua_State *L, const struct rowtype *s, int thing, int plain)
{
    size_t n_shown = s->n_columns - s->hides_key;
    int facts = lua_gettop(L) + 1;

    lua_createtable(L, 0, 7);                                  /* facts */
    lua_pushstring(L, s->schema);
    lua_setfield(L, -2, "schema");
    lua_pushstring(L, s->table);
    lua_setfield(L, -2, "table");
    set_names(L, "row", s->columns, s->n_row);
    set_names(L, "key_only", s->columns + s->n_row, n_shown - s->n_row);
    lua_createtable(L, 0, (int)s->n_key);
    for (size_t k = 0; k < s->n_key; k++) {
        lua_pushboolean(L, true);
        lua_setfield(L, -2, s->columns[s->key[k]].name);
    }
    lua_setfield(L, -2, "key");
    rowdata_push_side(L, thing, ROWDATA_SET);                  /* facts assigned */
    if (lua_istable(L, -1))
        lua_setfield(L, facts, "assigned");
    lua_settop(L, facts);
    if (plain > 0) {
        lua_pushvalue(L, plain);
        lua_setfield(L, -2, "plain");
    }
}

static int drop_box(lua_State *L)
{
    struct rowtype **box = lua_touserdata(L, 1);

    rowtype_unref(*box);
    *box = NULL;
    return 0;
}

/* The layout that resolve() gave. */
struct layout {
    struct rowtype_derive_column *columns; /* their names are on the stack */
    size_t n, n_row;
    bool hides_key;
};

/* Pushes the class of the rows that <layout> makes of those of the class at <class_at>. */
static void push_new_class(lua_State *L, int class_at, const struct layout *layout)
{
    const struct row_class *from = row_class_from(L, class_at);
    struct rowtype **box = lua_newuserdatauv(L, sizeof *box, 0); /* box */

    *box = NULL;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &box_key);
    lua_setmetatable(L, -2);
    *box = rowtype_derive(from->rowtype, layout->columns, layout->n, layout->n_row,
                          layout->hides_key);
    if (*box == NULL)
        luaL_error(L, "out of memory");
    change_push_class_like(L, *box, class_at);                 /* box class */
    rowtype_unref(*box);
    *box = NULL;
    lua_remove(L, -2);                                         /* class */
}

static lua_Integer integer_field(lua_State *L, int index, const char *name)
{
    lua_Integer n;

    lua_getfield(L, index, name);
    n = lua_tointeger(L, -1);
    lua_pop(L, 1);
    return n;
}

static bool boolean_field(lua_State *L, int index, const char *name)
{
    bool is;

    lua_getfield(L, index, name);
    is = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return is;
}

/* Reads column <i> of the list at <list>; pushes its name, from which that is borrowed.
 * [-0, +1] */
static struct rowtype_derive_column read_column(lua_State *L, int list, size_t i)
{
    struct rowtype_derive_column c;
    lua_Integer from;

    lua_rawgeti(L, list, (lua_Integer)i + 1);                  /* column */
    from = integer_field(L, lua_gettop(L), "from");
    c.from = from > 0 ? (size_t)from - 1 : ROWTYPE_DERIVE_NEW;
    c.is_text = boolean_field(L, lua_gettop(L), "text");
    c.is_computed = boolean_field(L, lua_gettop(L), "f");
    lua_getfield(L, -1, "name");
    lua_remove(L, -2);                                         /* name */
    c.name = lua_tostring(L, -1);
    return c;
}

/* Pushes {place, function, ...} of the answer at <answer>, whose columns are at <list>. Returns how
 * many functions there are. */
static size_t push_functions(lua_State *L, int answer, int list)
{
    size_t n;

    lua_getfield(L, answer, "order");                          /* order */
    n = (size_t)lua_rawlen(L, -1);
    lua_createtable(L, (int)n * 2, 0);                         /* order functions */
    for (size_t k = 0; k < n; k++) {
        lua_rawgeti(L, -2, (lua_Integer)k + 1);                /* order functions place */
        lua_rawgeti(L, list, lua_tointeger(L, -1));
        lua_getfield(L, -1, "f");                              /* ... place column f */
        lua_rawseti(L, -4, (lua_Integer)k * 2 + 2);
        lua_pop(L, 1);
        lua_rawseti(L, -2, (lua_Integer)k * 2 + 1);
    }
    lua_remove(L, -2);
    return n;
}

void project_plan_push(lua_State *L, int spec, int class_at, int thing, int plain)
{
    const struct rowtype *s = row_class_from(L, class_at)->rowtype;
    int answer = lua_gettop(L) + 1, list = answer + 1, plan_at = list + 2;
    struct layout layout;
    struct project_plan *plan;
    size_t n;

    lua_getfield(L, spec, "resolve");
    push_facts(L, s, thing, plain);
    lua_call(L, 1, 1);                                         /* answer */
    lua_getfield(L, answer, "columns");                        /* answer list */
    layout.n = n = (size_t)lua_rawlen(L, list);
    layout.n_row = (size_t)integer_field(L, answer, "n_row");
    layout.hides_key = s->hides_key || boolean_field(L, answer, "hides_key");
    layout.columns = lua_newuserdatauv(L, (n + 1) * sizeof *layout.columns, 0);
    plan = lua_newuserdatauv(L, sizeof *plan + (n + 1) * sizeof *plan->columns, 2);
    luaL_checkstack(L, (int)n + 20, "columns");
    for (size_t i = 0; i < n; i++) {             /* answer list columns plan name ... */
        layout.columns[i] = read_column(L, list, i);
        plan->columns[i].from = layout.columns[i].from;
        plan->columns[i].is_computed = layout.columns[i].is_computed;
    }
    plan->columns[n].from = s->hides_key ? s->n_columns - 1 : PROJECT_PLAN_HASHED;
    plan->columns[n].is_computed = false;
    plan->n = n + layout.hides_key;
    plan->n_functions = push_functions(L, answer, list);
    lua_setiuservalue(L, plan_at, PROJECT_PLAN_FUNCTIONS);
    push_new_class(L, class_at, &layout);
    lua_setiuservalue(L, plan_at, PROJECT_PLAN_CLASS);
    lua_settop(L, plan_at);
    lua_replace(L, answer);
    lua_settop(L, answer);                                     /* plan */
}

void project_plan_open(lua_State *L)
{
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, drop_box);
    lua_setfield(L, -2, "__gc");
    lua_rawsetp(L, LUA_REGISTRYINDEX, &box_key);
}
