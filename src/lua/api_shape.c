/* api_shape.c -- what a row consists of, so that others can read its values again.
 * SPDX-License-Identifier: MIT */
#include "lua/api_shape.h"

#include "lua/change.h"
#include "lua/json.h"

#include <lauxlib.h>
#include <string.h>

static const char shapes_key; /* of a weak table in the registry: row class -> shape */

static void set_text(lua_State *L, const char *name, const char *text)
{
    lua_pushstring(L, text);
    lua_setfield(L, -2, name);
}

/* True if the type itself says that its values are arrays. */
static bool is_array(const char *type)
{
    size_t n = type != NULL ? strlen(type) : 0;

    return n > 2 && strcmp(type + n - 2, "[]") == 0;
}

/* Sets field <name> of the table on top of the stack to a list of columns: all of the row, or those
 * of the key. */
static void set_columns(lua_State *L, const struct rowtype *s, const char *name, bool is_key)
{
    size_t n = is_key ? s->n_key : s->n_row;

    lua_createtable(L, (int)n, 0);
    json_push_array_metatable(L);
    lua_setmetatable(L, -2);
    for (size_t i = 0; i < n; i++) {
        const struct rowtype_column *column = &s->columns[is_key ? s->key[i] : i];

        lua_createtable(L, 0, 2);
        set_text(L, "name", column->name);
        if (column->base_type != NULL)
            set_text(L, "type", column->base_type);
        if (column->wants_to_json && !is_array(column->base_type)) {
            lua_pushboolean(L, true);
            lua_setfield(L, -2, "json");
        }
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_setfield(L, -2, name);
}

static int shape(lua_State *L)
{
    const struct rowtype *s;

    lua_settop(L, 1);
    luaL_argcheck(L, change_is(L, 1), 1, "a change");
    s = row_class_at(L, 1)->rowtype;
    if (s->is_by_hand)
        return 0;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &shapes_key);            /* change shapes */
    row_class_push_of(L, 1);                                   /* change shapes class */
    lua_pushvalue(L, 3);
    if (lua_rawget(L, 2) != LUA_TNIL)
        return 1;
    lua_createtable(L, 0, 4);                                  /* change shapes class nil shape */
    set_text(L, "schema", s->schema);
    set_text(L, "table", s->table);
    set_columns(L, s, "columns", false);
    set_columns(L, s, "key", true);
    if (s->has_no_xid) {
        lua_pushboolean(L, false);
        lua_setfield(L, -2, "xid");
    }
    lua_pushvalue(L, 3);
    lua_pushvalue(L, -2);
    lua_rawset(L, 2);
    return 1;
}

void api_shape_export(lua_State *L)
{
    lua_createtable(L, 0, 0);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "k");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &shapes_key);
    lua_pushcfunction(L, shape);
    lua_setfield(L, -2, "shape");
}
