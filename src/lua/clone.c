/* clone.c -- clones of values: fresh ones that are equal, changes above all.
 * SPDX-License-Identifier: MIT */
#include "lua/clone.h"

#include "lua/change.h"
#include "lua/change_key.h"
#include "lua/change_row.h"
#include "lua/json.h"
#include "lua/json_exact.h"

#include <lauxlib.h>
#include <string.h>

#define MAX_DEPTH 1000

static void push_clone(lua_State *L, int index, int depth);

/* Replaces the values in the table on top of the stack, which no script has seen, by clones. (A
 * finalizer may change a script's table while its values are cloned. So a table is first copied
 * into a new one, and the values of that are cloned.) */
static void clone_all(lua_State *L, int depth)
{
    int table = lua_gettop(L);

    /* no script has this table */
    for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1)) {  /* table name value */
        if (!lua_istable(L, -1))
            continue;
        lua_pushvalue(L, -2);
        push_clone(L, lua_gettop(L) - 1, depth + 1);
        lua_rawset(L, table); /* lua_next allows that a field is set */
    }
}

void clone_push_fields(lua_State *L, int index)
{
    int table = lua_gettop(L) + 1;

    index = lua_absindex(L, index);
    lua_createtable(L, 0, 2);                                  /* table */
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1))    /* table name value */
        if (lua_type(L, -2) == LUA_TSTRING && !clone_is_own_row(L, index)) {
            lua_pushvalue(L, -2);
            lua_pushvalue(L, -2);
            lua_rawset(L, table);
        }
}

/* The side tables of the row data on top of the stack become clones of those of the table at
 * <from>. */
static void clone_sides(lua_State *L, int from, struct rowdata *to, int depth)
{
    for (int n = ROWDATA_SET; n <= ROWDATA_DECODED; n++) {
        rowdata_push_of(L, from);                              /* to from */
        if (lua_getiuservalue(L, -1, n) != LUA_TNIL) {
            push_clone(L, lua_gettop(L), depth + 1);           /* to from side clone */
            lua_setiuservalue(L, -4, n);
            to->has_side = true;
        }
        lua_pop(L, 2);
    }
}

bool clone_is_own_row(lua_State *L, int change)
{
    return lua_type(L, -2) == LUA_TSTRING && strcmp(lua_tostring(L, -2), "row") == 0 &&
           change_row_is_of(L, -1, change);
}

/* Pushes a clone of the change or row at <index>. */
static void clone_rowdata(lua_State *L, int index, const struct rowdata *from, int depth)
{
    struct rowdata *to;

    if (from->has_old && change_is(L, index)) { /* once it was read it is a field of the table */
        lua_getfield(L, index, "old");
        lua_pop(L, 1);
    }
    clone_push_fields(L, index);                               /* clone */
    clone_all(L, depth);
    to = rowdata_push_like(L, from, from->rowtype, from->n_columns, from->len); /* clone data */
    memcpy(to->ends, from->ends, from->n_columns * sizeof from->ends[0] + from->len);
    to->is_split = from->is_split;
    if (from->has_side)
        clone_sides(L, index, to, depth);
    rowdata_set(L, -2);                                        /* clone */
    if (lua_getmetatable(L, index))
        lua_setmetatable(L, -2);
}

static bool is_plain(lua_State *L, int index)
{
    bool is;

    if (!lua_getmetatable(L, index))
        return true;
    json_push_array_metatable(L);
    is = lua_rawequal(L, -1, -2) || change_key_is(L, index);
    lua_pop(L, 2);
    return is;
}

/* Pushes a clone of the value at <index>, which is absolute. */
static void push_clone(lua_State *L, int index, int depth)
{
    const struct rowdata *d = rowdata_find(L, index);

    if (depth > MAX_DEPTH)
        luaL_error(L, "cannot copy: tables nested too deep (is there a cycle?)");
    luaL_checkstack(L, 12, "nested tables");
    if (d != NULL) {
        clone_rowdata(L, index, d, depth);
        return;
    }
    if (!lua_istable(L, index) || !is_plain(L, index)) {
        lua_pushvalue(L, index);
        return;
    }
    lua_createtable(L, (int)lua_rawlen(L, index), 0);          /* clone */
    for (lua_pushnil(L); lua_next(L, index); ) {               /* clone name value */
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, -4);                                     /* clone name */
    }
    clone_all(L, depth);
    json_exact_carry(L, index, lua_gettop(L));
    if (lua_getmetatable(L, index))
        lua_setmetatable(L, -2);
}

void clone_push(lua_State *L, int index)
{
    push_clone(L, lua_absindex(L, index), 0);
}

void clone_values(lua_State *L)
{
    luaL_checkstack(L, 12, "fields");
    clone_all(L, 0);
}
