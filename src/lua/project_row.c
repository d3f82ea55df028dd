/* project_row.c -- a row with other columns.
 *
 * A new row has the wanted fields of the old one, as they are, and values that functions gave. What
 * the script assigned, and what a field cannot hold, goes into its side tables.
 *
 * SPDX-License-Identifier: MIT */
#include "lua/project_row.h"

#include "base/hash.h"
#include "lua/change.h"
#include "lua/change_id.h"
#include "lua/json.h"
#include "lua/project_assigned.h"
#include "lua/script.h"

#include <lauxlib.h>
#include <string.h>

#define HASH_SHOWN 32 /* hex digits of the hash that stands for the key in ids */

bool project_row_can_hold(lua_State *L, enum types_kind kind)
{
    return lua_isnil(L, -1) || json_null_at(L, -1) ||
           (kind == TYPES_TEXT && lua_type(L, -1) == LUA_TSTRING) ||
           (kind == TYPES_INT && lua_isinteger(L, -1));
}

/* Appends the value on top of the stack, which a field can hold, as text of COPY. */
static void put_field(lua_State *L, struct buf *b)
{
    size_t len;
    const char *s;

    if (lua_type(L, -1) == LUA_TNUMBER) {
        buf_printf(b, LUA_INTEGER_FMT, lua_tointeger(L, -1));
    } else if (lua_type(L, -1) == LUA_TSTRING) {
        s = lua_tolstring(L, -1, &len);
        copytext_escape(b, s, len);
    } else {
        buf_puts(b, "\\N");
    }
}

/* Appends the first digits of the hash of the key as ids show it. */
static void put_hash(lua_State *L, const struct project_job *j, struct buf *b)
{
    size_t start = b->len, len;
    char digits[HASH_TEXT];
    const char *salt;

    project_job_push_spec(L, "salt");
    salt = lua_tolstring(L, -1, &len);
    buf_add(b, salt, salt != NULL ? len : 0);
    lua_pop(L, 1);
    change_id_put_key(L, j->from, j->data, b);
    json_check(L, b);
    if (!hash_sha256(b->data + start, b->len - start, digits))
        luaL_error(L, "libcrypto gives no SHA-256");
    b->len = start;
    buf_add(b, digits, HASH_SHOWN);
}

/* True if the column is made of one whose value nobody knows. */
static bool is_unknown(lua_State *L, const struct project_job *j,
                       const struct project_plan_column *c)
{
    return c->from < PROJECT_PLAN_HASHED && rowdata_is_unknown(L, j->from, j->data, c->from);
}

static void put_column(lua_State *L, const struct project_job *j, size_t i, struct buf *b)
{
    const struct project_plan_column *c = &j->plan->columns[i];
    const struct rowtype_column *column = &j->to->rowtype->columns[i];
    struct copytext_field field;

    if (c->is_computed) {
        lua_getfield(L, j->values, column->name);
        if (lua_isnil(L, -1) && is_unknown(L, j, c))
            buf_puts(b, COPYTEXT_UNKNOWN);
        else if (project_row_can_hold(L, column->kind))
            put_field(L, b);
        else
            buf_puts(b, "\\N"); /* the value goes into the side table */
        lua_pop(L, 1);
    } else if (c->from == PROJECT_PLAN_HASHED) {
        put_hash(L, j, b);
    } else if (c->from == ROWTYPE_DERIVE_NEW) {
        buf_puts(b, "\\N");
    } else {
        field = rowdata_field(L, j->from, j->data, c->from);
        buf_add(b, field.p, field.len);
    }
}

/* Pushes the new row data. */
static struct rowdata *push_data(lua_State *L, const struct project_job *j)
{
    struct buf *b = script_scratch(L);
    size_t n = j->plan->n, start = n * sizeof(uint32_t);
    struct rowdata *d;

    /* laid out as in struct rowdata: ends, then bytes */
    if (buf_reserve(b, start) != NULL)
        b->len = start;
    json_check(L, b);
    for (size_t i = 0; i < n; i++) {
        uint32_t end;

        if (i > 0)
            buf_putc(b, '\t');
        put_column(L, j, i, b);
        json_check(L, b);
        end = (uint32_t)(b->len - start);
        memcpy(b->data + i * sizeof end, &end, sizeof end);
    }
    d = rowdata_push_like(L, j->data, j->to->rowtype, n, b->len - start);
    memcpy(d->ends, b->data, b->len);
    d->is_split = true;
    return d;
}

/* Puts the values of functions that fields cannot hold into the side table. */
static void keep_values(lua_State *L, const struct project_job *j, int data_at)
{
    for (size_t i = 0; i < j->plan->n; i++) {
        const struct rowtype_column *column = &j->to->rowtype->columns[i];

        if (!j->plan->columns[i].is_computed)
            continue;
        lua_getfield(L, j->values, column->name);
        if (project_row_can_hold(L, column->kind))
            lua_pop(L, 1);
        else
            project_assigned_set(L, data_at, ROWDATA_SET, column->name);
    }
}

void project_row_push(lua_State *L, struct project_job *j)
{
    int data_at;

    project_job_find_plan(L, j);                               /* class plan new */
    project_job_push_values(L, j);                             /* class plan new values */
    lua_createtable(L, 0, 2);                                  /* class plan new values result */
    j->result = lua_gettop(L);
    push_data(L, j);                                           /* ... result data */
    data_at = lua_gettop(L);
    project_assigned_carry(L, j, data_at);
    if (j->plan->n_functions > 0)
        keep_values(L, j, data_at);
    rowdata_set(L, j->result);
    change_push_part_metatable(L, j->plan_at + 1,
                               change_is(L, j->thing) ? CHANGE_PART_CHANGE : CHANGE_PART_ROW);
    lua_setmetatable(L, j->result);
}
