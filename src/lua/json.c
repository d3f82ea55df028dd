/* json.c -- Lua values to JSON and back.
 *
 * Registry: &null_key -> pgcdc.null; &array_key -> the metatable of arrays;
 * &box_key -> the metatable of boxed jansson values.
 *
 * SPDX-License-Identifier: MIT */
#include "lua/json.h"

#include "base/text.h"
#include "lua/guard.h"
#include "lua/json_exact.h"
#include "lua/script.h"
#include "pg/types.h"

#include <jansson.h>
#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FEW_NAMES 24 /* so many names of a table are sorted without memory of their own */
#define MAX_DEPTH JSON_PARSER_MAX_DEPTH /* what can be decoded can be encoded */

static const char null_key, array_key, box_key, class_key;

/* How much memory jansson may still take for the document that is decoded. (A variable, since its
 * allocator gets no context.) The tree is up to twice as large as the value that Lua gets. */
static size_t budget;
static bool is_spent;

static void *take(size_t n)
{
    if (n > budget) {
        is_spent = true;
        return NULL;
    }
    budget -= n;
    return malloc(n);
}

static void set_budget(lua_State *L)
{
    size_t most = script_of(L)->o.max_memory;

    budget = most == 0 || most > SIZE_MAX / 2 ? SIZE_MAX : most * 2;
    is_spent = false;
}

static int null_to_string(lua_State *L)
{
    lua_pushliteral(L, "null");
    return 1;
}

static int drop_box(lua_State *L)
{
    json_t **box = lua_touserdata(L, 1);

    json_decref(*box);
    *box = NULL;
    return 0;
}

void json_open(lua_State *L)
{
    json_set_alloc_funcs(take, free);
    lua_newuserdatauv(L, 1, 0);                                /* null */
    lua_createtable(L, 0, 2);                                  /* null mt */
    lua_pushcfunction(L, null_to_string);
    lua_setfield(L, -2, "__tostring");
    lua_pushliteral(L, "pgcdc.null");
    lua_setfield(L, -2, "__name");
    guard_set(L, -1, "pgcdc.null");
    lua_setmetatable(L, -2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &null_key);

    lua_createtable(L, 0, 1);                                  /* mt */
    lua_pushliteral(L, "pgcdc.array");
    lua_setfield(L, -2, "__name");
    guard_set(L, -1, "pgcdc.array");
    lua_rawsetp(L, LUA_REGISTRYINDEX, &array_key);

    lua_createtable(L, 0, 1);                                  /* mt */
    lua_pushcfunction(L, drop_box);
    lua_setfield(L, -2, "__gc");
    lua_rawsetp(L, LUA_REGISTRYINDEX, &box_key);
}

void json_push_null(lua_State *L)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &null_key);
}

bool json_null_at(lua_State *L, int index)
{
    bool is;

    if (lua_type(L, index) != LUA_TUSERDATA)
        return false;
    lua_pushvalue(L, index);
    json_push_null(L);
    is = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return is;
}

void json_push_array_metatable(lua_State *L)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &array_key);
}

void json_set_class(lua_State *L, int index, const char *name, const struct json_class *class)
{
    index = lua_absindex(L, index);
    lua_pushstring(L, name);                                   /* name */
    lua_createtable(L, 0, 1);                                  /* name shown */
    lua_pushvalue(L, -2);
    lua_setfield(L, -2, "__name");
    lua_setfield(L, index, "__metatable");                     /* name */
    lua_setfield(L, index, "__name");
    guard_set(L, index, name);
    lua_pushlightuserdata(L, (void *)class);
    lua_rawsetp(L, index, &class_key);
}

const struct json_class *json_class_at(lua_State *L, int index)
{
    const struct json_class *class = NULL;

    if (lua_istable(L, index) && lua_getmetatable(L, index)) { /* mt */
        lua_rawgetp(L, -1, &class_key);
        class = lua_touserdata(L, -1);
        lua_pop(L, 2);
    }
    return class;
}

void json_check(lua_State *L, const struct buf *b)
{
    if (!buf_ok(b))
        luaL_error(L, script_of(L)->o.max_memory > 0
                          ? "a text needs more memory than --max-memory allows" : "out of memory");
}

/* ---- encoding ---- */

static void put(lua_State *L, int index, struct buf *b, int depth);

static void put_text(lua_State *L, int index, struct buf *b)
{
    size_t len;
    const char *s = lua_tolstring(L, index, &len);

    if (!types_put_string(b, s, len))
        luaL_error(L, "cannot encode as JSON: a string is not valid UTF-8");
}

/* NaN and infinities are written as Postgres writes them. */
static void put_float(struct buf *b, double d)
{
    char text[TYPES_FLOAT_TEXT];

    if (isnan(d)) {
        buf_puts(b, "\"NaN\"");
        return;
    }
    if (isinf(d)) {
        buf_puts(b, d > 0 ? "\"Infinity\"" : "\"-Infinity\"");
        return;
    }
    types_float_text(d, text);
    buf_puts(b, text);
    if (strpbrk(text, ".e") == NULL)
        buf_puts(b, ".0");
}

static void put_integer(struct buf *b, lua_Integer n)
{
    if (n < 0)
        buf_putc(b, '-');
    buf_put_u64(b, n < 0 ? 0 - (uint64_t)n : (uint64_t)n);
}

/* Appends the member of a table that is on top of the stack, its key below it. <exact>: what
 * json_exact.h remembers of the table, or nil. */
static void put_member(lua_State *L, int exact, struct buf *b, int depth)
{
    if (lua_type(L, -1) == LUA_TSTRING && lua_istable(L, exact)) {
        bool is_number;

        lua_pushvalue(L, -2);
        lua_rawget(L, exact);
        is_number = lua_rawequal(L, -1, -2);
        lua_pop(L, 1);
        if (is_number) {
            buf_puts(b, lua_tostring(L, -1));
            return;
        }
    }
    put(L, -1, b, depth + 1);
}

static void put_array(lua_State *L, int index, struct buf *b, lua_Unsigned n, int depth)
{
    int exact = lua_gettop(L) + 1;

    json_exact_push_of(L, index);                              /* exact */
    buf_putc(b, '[');
    for (lua_Unsigned i = 1; i <= n; i++) {
        if (i > 1)
            buf_putc(b, ',');
        lua_pushinteger(L, (lua_Integer)i);
        lua_rawgeti(L, index, (lua_Integer)i);                 /* exact i value */
        put_member(L, exact, b, depth);
        lua_pop(L, 2);
    }
    buf_putc(b, ']');
    lua_pop(L, 1);
}

/* How many keys the table has; throws for one that is not a string. */
static size_t count_names(lua_State *L, int index)
{
    size_t n = 0;

    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1), n++)
        if (lua_type(L, -2) != LUA_TSTRING)
            luaL_error(L, "cannot encode as JSON: a table that is not a sequence has a key that is "
                          "a %s", luaL_typename(L, -2));
    return n;
}

/* Puts the names of a table that has <n> of them into <names>, sorted. A finalizer may take names
 * out of the table at any time, so the strings are kept alive: in a list, which is pushed; or, if
 * they are few, pushed themselves, after nil. Returns how many names there are, <n> at most. */
static size_t push_names(lua_State *L, int index, struct text_name *names, size_t n)
{
    bool has_list = n > FEW_NAMES;
    int list = lua_gettop(L) + 1;
    size_t i = 0;

    if (has_list)
        lua_createtable(L, (int)n, 0);                         /* list */
    else
        lua_pushnil(L);
    /* nothing else can run before the loop is over */
    for (lua_pushnil(L); i < n && lua_next(L, index); ) {      /* list names ... key value */
        lua_pop(L, 1);
        if (lua_type(L, -1) != LUA_TSTRING)
            continue;
        names[i].p = lua_tolstring(L, -1, &names[i].len);
        lua_pushvalue(L, -1);
        i++;
        if (has_list)
            lua_rawseti(L, list, (lua_Integer)i);
    }
    if (has_list)
        lua_settop(L, list);
    text_sort_names(names, i);
    return i;
}

/* Appends the members with these names. */
static void put_members(lua_State *L, int index, const struct text_name *names, size_t n,
                        struct buf *b, int depth)
{
    int exact = lua_gettop(L) + 1;

    json_exact_push_of(L, index);                              /* exact */
    buf_putc(b, '{');
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            buf_putc(b, ',');
        lua_pushlstring(L, names[i].p, names[i].len);          /* exact name */
        put_text(L, -1, b);
        buf_putc(b, ':');
        lua_pushvalue(L, -1);
        lua_rawget(L, index);                                  /* exact name value */
        put_member(L, exact, b, depth);
        lua_pop(L, 2);
    }
    buf_putc(b, '}');
}

static void put_object(lua_State *L, int index, struct buf *b, int depth)
{
    size_t n = count_names(L, index);
    struct text_name few[FEW_NAMES], *names = few;
    int top = lua_gettop(L);

    luaL_checkstack(L, FEW_NAMES + 8, "nested tables");
    if (n > FEW_NAMES)
        names = lua_newuserdatauv(L, n * sizeof *names, 0);    /* names */
    n = push_names(L, index, names, n);                        /* names list strings ... */
    put_members(L, index, names, n, b, depth);
    lua_settop(L, top);
}

/* True if every key is one of 1..n. */
static bool is_sequence(lua_State *L, int index, lua_Unsigned n)
{
    lua_Unsigned count = 0;

    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
        if (!lua_isinteger(L, -2) || lua_tointeger(L, -2) < 1 ||
            (lua_Unsigned)lua_tointeger(L, -2) > n) {
            lua_pop(L, 2);
            return false;
        }
        count++;
    }
    return count == n;
}

static void put_table(lua_State *L, int index, struct buf *b, int depth)
{
    lua_Unsigned n = lua_rawlen(L, index);
    bool is_array = false;

    if (lua_getmetatable(L, index)) {                          /* mt */
        const struct json_class *class;

        lua_rawgetp(L, -1, &class_key);
        class = lua_touserdata(L, -1);
        json_push_array_metatable(L);                          /* mt class array */
        is_array = lua_rawequal(L, -1, -3);
        lua_pop(L, 2);
        if (class != NULL)
            class->put(L, index, b, depth); /* the metatable on the stack owns the row class */
        lua_pop(L, 1);
        if (class != NULL)
            return;
    }
    if (is_array || (n > 0 && is_sequence(L, index, n)))
        put_array(L, index, b, n, depth);
    else
        put_object(L, index, b, depth);
}

static void put(lua_State *L, int index, struct buf *b, int depth)
{
    if (depth > MAX_DEPTH)
        luaL_error(L, "cannot encode as JSON: tables nested too deep (is there a cycle?)");
    luaL_checkstack(L, 16, "nested tables");
    json_check(L, b); /* stops early: tables that share others can have endless JSON */
    index = lua_absindex(L, index);
    switch (lua_type(L, index)) {
    case LUA_TNIL:
        buf_puts(b, "null");
        return;
    case LUA_TBOOLEAN:
        buf_puts(b, lua_toboolean(L, index) ? "true" : "false");
        return;
    case LUA_TNUMBER:
        if (lua_isinteger(L, index))
            put_integer(b, lua_tointeger(L, index));
        else
            put_float(b, lua_tonumber(L, index));
        return;
    case LUA_TSTRING:
        put_text(L, index, b);
        return;
    case LUA_TTABLE:
        put_table(L, index, b, depth);
        return;
    default:
        if (json_null_at(L, index)) {
            buf_puts(b, "null");
            return;
        }
        luaL_error(L, "cannot encode as JSON: a value is a %s", luaL_typename(L, index));
    }
}

void json_put(lua_State *L, int index, struct buf *b)
{
    json_put_nested(L, index, b, -1);
}

void json_put_nested(lua_State *L, int index, struct buf *b, int depth)
{
    put(L, index, b, depth + 1);
    json_check(L, b);
}

/* ---- decoding ---- */

static bool push_value(lua_State *L, json_t *v, bool is_marked);

/* Pushes a member of the table below the key on top of the stack, and sets it there. */
static void set_member(lua_State *L, json_t *member, bool is_marked)
{
    if (push_value(L, member, is_marked)) {                    /* table key text */
        lua_pushvalue(L, -2);
        json_exact_remember(L, -4);
        lua_pop(L, 1);
    }
    lua_rawset(L, -3);
}

/* Returns true if it is a number that became a text. */
static bool push_value(lua_State *L, json_t *v, bool is_marked)
{
    luaL_checkstack(L, 10, "nested JSON");
    switch (json_typeof(v)) {
    case JSON_OBJECT: {
        const char *name;
        json_t *member;

        lua_createtable(L, 0, (int)json_object_size(v));
        json_object_foreach(v, name, member) {
            lua_pushstring(L, name); /* jansson takes no NUL in a key */
            set_member(L, member, is_marked);
        }
        break;
    }
    case JSON_ARRAY: {
        size_t n = json_array_size(v);

        lua_createtable(L, (int)n, 0);
        for (size_t i = 0; i < n; i++) {
            lua_pushinteger(L, (lua_Integer)i + 1);
            set_member(L, json_array_get(v, i), is_marked);
        }
        json_push_array_metatable(L);
        lua_setmetatable(L, -2);
        break;
    }
    case JSON_STRING:
        if (is_marked)
            return json_exact_push_string(L, json_string_value(v), json_string_length(v));
        lua_pushlstring(L, json_string_value(v), json_string_length(v));
        break;
    case JSON_INTEGER:
        lua_pushinteger(L, json_integer_value(v));
        break;
    case JSON_REAL:
        lua_pushnumber(L, json_real_value(v));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        lua_pushboolean(L, json_is_true(v));
        break;
    case JSON_NULL:
        json_push_null(L);
        break;
    }
    return false;
}

bool json_push(lua_State *L, const char *text, size_t len, char *why, size_t why_size)
{
    bool is_marked = json_exact_may_be_in(text, len);
    json_t **box;
    json_error_t error;

    if (memchr(text, '\0', len) != NULL) { /* jansson would take it for the end */
        snprintf(why, why_size, "a zero byte");
        return false;
    }
    luaL_checkstack(L, 8, "JSON");
    if (is_marked)
        json_exact_push_marked(L, text, len);
    else
        lua_pushnil(L);                                        /* marked, or nil */
    if (is_marked)
        text = lua_tolstring(L, -1, &len);
    box = lua_newuserdatauv(L, sizeof *box, 0);                /* box */
    *box = NULL;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &box_key);
    lua_setmetatable(L, -2);
    set_budget(L);
    *box = json_loadb(text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (*box == NULL && is_spent)
        luaL_error(L, "decoding a JSON text needs more memory than --max-memory allows");
    if (*box == NULL) {
        snprintf(why, why_size, "%s", error.text);
        lua_pop(L, 2);
        return false;
    }
    push_value(L, *box, is_marked);                            /* marked box value */
    json_decref(*box);
    *box = NULL;
    lua_replace(L, -3);
    lua_pop(L, 1);                                             /* value */
    return true;
}
