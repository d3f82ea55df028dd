/* project.c -- changes with other columns.
 *
 * A new row is the wanted fields of the old one, copied as they are, with what functions gave
 * among them, and what the script assigned beside them.
 *
 * A reshaper is a closure: upvalue 1 is its spec, upvalue 2 its plans by row class, with weak keys.
 *
 * SPDX-License-Identifier: MIT */
#include "lua/project.h"

#include "lua/clone.h"
#include "base/hash.h"
#include "lua/json.h"
#include "lua/project_plan.h"
#include "lua/change.h"
#include "lua/change_id.h"
#include "lua/change_key.h"
#include "lua/change_row.h"
#include "lua/script.h"

#include <lauxlib.h>
#include <string.h>

#define HASH_SHOWN 32 /* hex digits of the hash that stands for the key in ids */

/* What is being projected; the numbers are places on the stack. */
struct job {
    int thing;                                                 /* a change, or another row of one */
    int change;                                                /* for the functions */
    int plain;        /* what the script has put in the place of the change's row, or 0 */
    int plan_at, values, result;
    const struct project_plan *plan;
    const struct row_class *from, *to;
    struct rowdata *data;
};

static void push_spec(lua_State *L, const char *name)
{
    lua_getfield(L, lua_upvalueindex(1), name);
}

/* Throws "<operator>: <a><b><c>", without a line of ours in front. */
static int fail(lua_State *L, const char *a, const char *b, const char *c)
{
    push_spec(L, "what");
    lua_pushfstring(L, "%s: %s%s%s", lua_tostring(L, -1), a, b, c);
    return lua_error(L);
}

/* Fills in the plan and both row classes; pushes the plan, the new row class behind it. */
static void find_plan(lua_State *L, struct job *j)
{
    int class_at;

    row_class_push_of(L, j->thing);                            /* class */
    class_at = lua_gettop(L);
    j->from = lua_touserdata(L, class_at);
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
    lua_replace(L, class_at);                                  /* plan */
    j->plan_at = class_at;
    j->plan = lua_touserdata(L, class_at);
    lua_getiuservalue(L, class_at, PROJECT_PLAN_CLASS);        /* plan class */
    j->to = lua_touserdata(L, -1);
}

/* ---- what functions give ---- */

/* Pushes what column <i> of the new row is made of; nil for NULL. */
static void push_old_value(lua_State *L, const struct job *j, size_t i)
{
    size_t from = j->plan->columns[i].from;

    if (j->plain > 0 && i < j->to->rowtype->n_row) {
        if (lua_istable(L, j->plain))
            lua_getfield(L, j->plain, j->to->rowtype->columns[i].name);
        else
            lua_pushnil(L);
    } else if (from == ROWTYPE_NEW) {
        change_row_push_extra(L, j->thing, j->to->rowtype->columns[i].name);
    } else {
        change_row_push_cell(L, j->from, j->thing, from);
    }
    if (json_null_at(L, -1)) {
        lua_pop(L, 1);
        lua_pushnil(L);
    }
}

/* Pushes what the functions give, by the names of the columns; nil where there are none. */
static void push_values(lua_State *L, struct job *j)
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
        lua_rawgeti(L, -1, (lua_Integer)k * 2 + 2);            /* values functions f */
        push_old_value(L, j, i);
        lua_pushvalue(L, j->change);
        lua_call(L, 2, 1);
        lua_setfield(L, j->values, j->to->rowtype->columns[i].name);
    }
    lua_pop(L, 1);
}

/* True if a column of this kind can hold the value on top of the stack as the server's text. */
static bool is_field(lua_State *L, enum kind kind)
{
    return lua_isnil(L, -1) || json_null_at(L, -1) ||
           (kind == KIND_TEXT && lua_type(L, -1) == LUA_TSTRING) ||
           (kind == KIND_INT && lua_isinteger(L, -1));
}

/* Appends such a value as COPY writes it. */
static void put_field(lua_State *L, struct buf *b)
{
    static const char special[] = "\b\f\n\r\t\v\\", letters[] = "bfnrtv\\";
    size_t len;
    const char *s;

    if (lua_type(L, -1) == LUA_TNUMBER) {
        buf_printf(b, LUA_INTEGER_FMT, lua_tointeger(L, -1));
        return;
    }
    if (lua_type(L, -1) != LUA_TSTRING) {
        buf_puts(b, "\\N");
        return;
    }
    s = lua_tolstring(L, -1, &len);
    for (size_t i = 0; i < len; i++) {
        const char *at = s[i] != '\0' ? strchr(special, s[i]) : NULL;

        if (at != NULL)
            buf_putc(b, '\\');
        buf_putc(b, at != NULL ? letters[at - special] : s[i]);
    }
}

/* ---- cells ---- */

/* Appends the first digits of the hash of the key as ids show it. */
static void put_hash(lua_State *L, const struct job *j, struct buf *b)
{
    size_t start = b->len, len;
    char digits[HASH_TEXT];
    const char *salt;

    push_spec(L, "salt");
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

static void put_column(lua_State *L, const struct job *j, size_t i, struct buf *b)
{
    const struct project_plan_column *c = &j->plan->columns[i];
    const struct column *column = &j->to->rowtype->columns[i];
    struct field field;

    if (c->is_computed) {
        lua_getfield(L, j->values, column->name);
        if (is_field(L, column->kind))
            put_field(L, b);
        else
            buf_puts(b, "\\N"); /* the value stands beside the data */
        lua_pop(L, 1);
    } else if (c->from == PROJECT_PLAN_HASHED) {
        put_hash(L, j, b);
    } else if (c->from == ROWTYPE_NEW) {
        buf_puts(b, "\\N");
    } else {
        field = rowdata_field(L, j->from, j->data, c->from);
        buf_add(b, field.p, field.len);
    }
}

/* Pushes the new cells. */
static struct rowdata *push_data(lua_State *L, const struct job *j)
{
    struct buf *b = script_scratch(L);
    size_t n = j->plan->n, start = n * sizeof(uint32_t);
    struct rowdata *d;

    /* what stands in it is laid out as in struct rowdata: ends, then bytes */
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

/* ---- what the script assigned ---- */

/* side[name] = the value on top of the stack, which is popped. */
static void set_beside(lua_State *L, int data, int n, const char *name)
{
    rowdata_make_side(L, data, n);                             /* value side */
    lua_insert(L, -2);                                         /* side value */
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
}

/* Values of functions that the cells cannot hold. */
static void keep_values(lua_State *L, const struct job *j, int data)
{
    for (size_t i = 0; i < j->plan->n; i++) {
        const struct column *column = &j->to->rowtype->columns[i];

        if (!j->plan->columns[i].is_computed)
            continue;
        lua_getfield(L, j->values, column->name);
        if (is_field(L, column->kind))
            lua_pop(L, 1);
        else
            set_beside(L, data, ROWDATA_SET, column->name);
    }
}

/* Columns that the script assigned, or decoded and perhaps changed. */
static void carry_columns(lua_State *L, const struct job *j, int data, int n)
{
    int side = lua_gettop(L) + 1;

    rowdata_push_side(L, j->thing, n);                         /* side */
    for (size_t i = 0; lua_istable(L, side) && i < j->plan->n; i++) {
        const struct project_plan_column *c = &j->plan->columns[i];

        if (c->is_computed || c->from >= PROJECT_PLAN_HASHED)
            continue;
        lua_pushstring(L, j->from->rowtype->columns[c->from].name);
        if (lua_rawget(L, side) != LUA_TNIL) {
            clone_push(L, -1);
            set_beside(L, data, n, j->to->rowtype->columns[i].name);
        }
        lua_pop(L, 1);
    }
    lua_settop(L, side - 1);
}

/* Pushes the new name of the name on top of the stack, nil if it is dropped. */
static void push_new_name(lua_State *L)
{
    push_spec(L, "names");                                     /* name names */
    lua_pushvalue(L, -2);
    if (lua_rawget(L, -2) == LUA_TNIL) {                       /* name names nil */
        lua_pop(L, 1);
        push_spec(L, "keep");
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

static size_t find_column(const struct rowtype *s, const char *name)
{
    for (size_t i = 0; i < s->n_row; i++)
        if (strcmp(s->columns[i].name, name) == 0)
            return i;
    return ROWTYPE_NEW;
}

/* The name and its value that are at <name> and <name> + 1 become the new row's, as <to>. */
static void carry_extra(lua_State *L, const struct job *j, int data, int name, int to)
{
    size_t i = find_column(j->to->rowtype, lua_tostring(L, to));
    bool is_column = i != ROWTYPE_NEW;

    if (is_column && j->plan->columns[i].is_computed)
        return;
    rowdata_make_side(L, data, ROWDATA_SET);                   /* side */
    lua_pushvalue(L, to);
    if (lua_rawget(L, -2) != LUA_TNIL || (is_column && j->plan->columns[i].from != ROWTYPE_NEW))
        fail(L, "there is a column '", lua_tostring(L, to), "' already");
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

/* Names that are no columns. */
static void carry_extras(lua_State *L, const struct job *j, int data)
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
            carry_extra(L, j, data, name, lua_gettop(L));
        lua_settop(L, side);
    }
    lua_settop(L, side - 1);
}

/* Pushes what is made of the change or row at <thing>. */
static void push_projected(lua_State *L, struct job *j)
{
    int top = lua_gettop(L), data;

    find_plan(L, j);                                           /* plan class */
    push_values(L, j);                                         /* plan class values */
    lua_createtable(L, 0, 2);                                  /* plan class values result */
    j->result = lua_gettop(L);
    push_data(L, j);                                           /* ... result data */
    data = lua_gettop(L);
    if (j->data->has_side) {
        carry_columns(L, j, data, ROWDATA_SET);
        carry_columns(L, j, data, ROWDATA_DECODED);
        carry_extras(L, j, data);
    }
    if (j->plan->n_functions > 0)
        keep_values(L, j, data);
    rowdata_set(L, j->result);
    change_push_part_metatable(L, top + 2,
                               change_is(L, j->thing) ? CHANGE_PART_CHANGE : CHANGE_PART_ROW);
    lua_setmetatable(L, j->result);
}

/* ---- fields of the change ---- */

/* Pushes a new table for the plain one at <index>; <what>: which part of the change it is. */
static void push_new_part(lua_State *L, const struct job *j, int index, const char *what)
{
    push_spec(L, "part");
    lua_pushvalue(L, index);
    if (j->values > 0)
        lua_pushvalue(L, j->values);
    else
        lua_pushnil(L);
    lua_pushstring(L, what);
    lua_pushvalue(L, j->change);
    lua_call(L, 4, 1);
}

/* The row of another change, or an old one: a change that has it as its row is for the
 * functions. */
static void push_other_row(lua_State *L, const struct job *of, int row, bool is_old)
{
    struct job j = { .thing = row, .change = of->change };

    if (is_old && of->plan->n_functions > 0) {
        clone_push(L, of->change);
        j.change = lua_gettop(L);
        lua_pushliteral(L, "row");
        lua_pushvalue(L, row);
        lua_rawset(L, j.change);
    }
    push_projected(L, &j);
    lua_pushvalue(L, j.result);
}

/* The same for an old row that is a plain table. */
static void push_other_part(lua_State *L, const struct job *of, int index)
{
    struct job j = *of;

    if (j.plan->n_functions > 0) {
        clone_push(L, of->change);
        j.change = lua_gettop(L);
        lua_pushliteral(L, "row");
        lua_pushvalue(L, index);
        lua_rawset(L, j.change);
    }
    j.plain = index;
    push_values(L, &j);
    push_new_part(L, &j, index, "row");
}

/* Pushes what becomes of the field <name> of the change, whose value is at <index>. */
static void push_new_field(lua_State *L, const struct job *j, const char *name, int index)
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

static void carry_fields(lua_State *L, const struct job *j)
{
    int top = lua_gettop(L), name = top + 1, value = top + 2;

    for (lua_pushnil(L); lua_next(L, j->thing); lua_settop(L, name)) {
        if (lua_type(L, name) != LUA_TSTRING || clone_is_own_row(L, j->thing))
            continue;
        push_new_field(L, j, lua_tostring(L, name), value);
        lua_pushvalue(L, name);
        lua_insert(L, -2);
        lua_rawset(L, j->result);
    }
}

/* Key columns with a value that the cells cannot hold: the key becomes a table that can. */
static void keep_key(lua_State *L, const struct job *j)
{
    const struct rowtype *s = j->to->rowtype;
    bool is_beside = false;

    for (size_t k = 0; k < s->n_key; k++)
        if (j->plan->columns[s->key[k]].is_computed) {
            lua_getfield(L, j->values, s->columns[s->key[k]].name);
            is_beside = is_beside || !is_field(L, s->columns[s->key[k]].kind);
            lua_pop(L, 1);
        }
    if (!is_beside)
        return;
    lua_getfield(L, j->result, "key");                         /* key: kept in the change */
    for (size_t k = 0; k < s->n_key; k++)
        if (j->plan->columns[s->key[k]].is_computed) {
            lua_getfield(L, j->values, s->columns[s->key[k]].name);
            lua_setfield(L, -2, s->columns[s->key[k]].name);
        }
    lua_pop(L, 1);
}

/* The place of what the script has put in the place of the change's row, 0 if it has not. */
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
    struct job j = { .thing = 1, .change = 1 };

    lua_settop(L, 1);
    if (!change_is(L, 1))
        return fail(L, "takes changes, not a ", luaL_typename(L, 1), "");
    luaL_checkstack(L, 40, "a change");
    lua_getfield(L, 1, "old"); /* becomes a field like others */
    lua_settop(L, 1);
    j.plain = find_plain_row(L);
    push_projected(L, &j);
    if (j.plan->n_functions > 0)
        keep_key(L, &j);
    carry_fields(L, &j);
    lua_pushvalue(L, j.result);
    return 1;
}

static int reshaper(lua_State *L)
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

static int copy(lua_State *L)
{
    luaL_checkany(L, 1);
    clone_push(L, 1);
    return 1;
}

static int is_change(lua_State *L)
{
    luaL_checkany(L, 1);
    lua_pushboolean(L, change_is(L, 1));
    return 1;
}

static int sha256(lua_State *L)
{
    char digits[HASH_TEXT];
    size_t len;
    const char *s = luaL_checklstring(L, 1, &len);

    if (!hash_sha256(s, len, digits))
        return luaL_error(L, "libcrypto gives no SHA-256");
    lua_pushlstring(L, digits, sizeof digits);
    return 1;
}

void project_export(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "copy", copy }, { "is_change", is_change }, { "sha256", sha256 },
        { "reshaper", reshaper }, { NULL, NULL },
    };

    project_plan_open(L);
    luaL_setfuncs(L, functions, 0);
}
