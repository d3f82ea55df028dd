/* explain.c -- what the error of a script means.
 * SPDX-License-Identifier: MIT */
#include "lua/explain.h"

#include "lua/frame.h"
#include "lua/json.h"
#include "lua/rowdata.h"
#include "lua/script.h"
#include "pg/document.h"

#include <lauxlib.h>
#include <string.h>

#define MOST_LEVELS 50 /* of functions under way that are looked at */
#define MOST_FIELDS 20 /* of a table that is shown */

/* ---- what was thrown, as text ---- */

static int put_json(lua_State *L)
{
    struct buf *b = script_scratch(L);

    json_put(L, 1, b);
    lua_pushlstring(L, b->data, b->len);
    return 1;
}

/* The fields of a table that has no JSON. */
static int put_fields(lua_State *L)
{
    lua_settop(L, 1);
    lua_pushliteral(L, "");                                    /* table text */
    lua_pushnil(L);
    /* may throw, which is caught, if __tostring adds fields; no script gets more by that */
    for (int n = 0; n < MOST_FIELDS && lua_next(L, 1); n++) {  /* table text key value */
        const char *name = luaL_tolstring(L, -2, NULL), *value = luaL_tolstring(L, -2, NULL);

        lua_pushfstring(L, "%s%s%s=%s", lua_tostring(L, 2), n > 0 ? ", " : "", name, value);
        lua_replace(L, 2);
        lua_settop(L, 3);
    }
    lua_pushfstring(L, "{%s}", lua_tostring(L, 2));
    return 1;
}

/* Pushes a text for the value at index 1, which is no string. */
static void push_thrown(lua_State *L)
{
    static const lua_CFunction ways[] = { put_json, put_fields };

    if (lua_isnil(L, 1)) {
        lua_pushliteral(L, "error(nil): the error object is nil");
        return;
    }
    if (luaL_getmetafield(L, 1, "__tostring") != LUA_TNIL) {
        lua_pushvalue(L, 1);
        if (lua_pcall(L, 1, 1, 0) == LUA_OK && lua_isstring(L, -1))
            return;
    }
    for (size_t i = 0; lua_istable(L, 1) && i < 2; i++) {
        lua_pushcfunction(L, ways[i]);
        lua_pushvalue(L, 1);
        if (lua_pcall(L, 1, 1, 0) == LUA_OK)
            return;
    }
    lua_pushfstring(L, "the error object is a %s value%s", luaL_typename(L, 1),
                    !lua_isboolean(L, 1) ? "" : lua_toboolean(L, 1) ? ": true" : ": false");
}

/* ---- what the functions under way hold ---- */

/* Calls look(L, arg) for each value that a level of the stack has in a local variable, a temporary
 * or an upvalue, with the value on top of the stack, until it returns true. Returns that. */
static bool look_at_level(lua_State *L, lua_Debug *ar, bool (*look)(lua_State *, void *), void *arg)
{
    int top = lua_gettop(L);
    bool is_found = false;

    lua_getinfo(L, "f", ar);                                   /* function */
    for (int n = 1; !is_found && lua_getlocal(L, ar, n) != NULL; n++) {
        is_found = look(L, arg);
        lua_settop(L, top + 1);
    }
    for (int n = 1; !is_found && lua_getupvalue(L, top + 1, n) != NULL; n++) {
        is_found = look(L, arg);
        lua_settop(L, top + 1);
    }
    lua_settop(L, top);
    return is_found;
}

static bool look_at_all(lua_State *L, bool (*look)(lua_State *, void *), void *arg)
{
    lua_Debug ar;

    luaL_checkstack(L, 20, "an error");
    for (int level = 1; level < MOST_LEVELS && lua_getstack(L, level, &ar); level++)
        if (look_at_level(L, &ar, look, arg))
            return true;
    return false;
}

/* For look_at_level: if the value is a text that is a number, adds it to the table whose index
 * <arg> points to. */
static bool keep_number(lua_State *L, void *arg)
{
    size_t len;
    const char *s = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &len) : NULL;

    if (s != NULL && document_is_number(s, len)) {
        lua_pushvalue(L, -1);
        lua_pushboolean(L, true);
        lua_rawset(L, *(int *)arg);
    }
    return false;
}

/* For look_at_level: true if the value is a change or a row in which one of these numbers stands as
 * text; pushes the name of its table and that of the column. */
static bool find_column(lua_State *L, void *arg)
{
    int numbers = *(int *)arg, value = lua_gettop(L);
    struct rowdata *d = rowdata_find(L, value);
    const struct row_class *class;

    if (d == NULL || !lua_getmetatable(L, value))
        return false;
    class = row_class_of_metatable(L, -1);
    for (size_t i = 0; class != NULL && i < class->rowtype->n_row; i++) {
        enum types_kind kind = class->rowtype->columns[i].kind;

        if (kind != TYPES_NUMERIC && kind != TYPES_TEXT)
            continue;
        rowdata_push_field(L, class, rowdata_at(L, value, class), i);
        if (!lua_isnil(L, -1) && lua_rawget(L, numbers) != LUA_TNIL) {
            lua_pushfstring(L, "; the column '%s' of %s.%s is %s, and its values are text: "
                            "tonumber() makes numbers of them", class->rowtype->columns[i].name,
                            class->rowtype->schema, class->rowtype->table,
                            class->rowtype->columns[i].type);
            lua_rawseti(L, numbers, 1);
            return true;
        }
        lua_settop(L, value + 1);
    }
    return false;
}

/* Pushes why text was compared with a number. */
static void push_why_compared(lua_State *L)
{
    int numbers;
    lua_Debug ar;

    lua_createtable(L, 0, 4);                                  /* numbers */
    numbers = lua_gettop(L);
    for (int level = 1; level < MOST_LEVELS && lua_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "S", &ar);
        if (frame_is_of_script(&ar, script_of(L)->o.lua_dir)) {
            look_at_level(L, &ar, keep_number, &numbers);
            break;
        }
    }
    look_at_all(L, find_column, &numbers);
    if (lua_rawgeti(L, numbers, 1) == LUA_TSTRING)
        return;
    lua_pushliteral(L, "; a numeric is text, with all its digits: tonumber() makes a number of it");
}

/* For look_at_level: true if the value is a change that has no row. */
static bool is_without_row(lua_State *L, void *arg)
{
    const struct rowdata *d = rowdata_find(L, -1);

    (void)arg;
    return d != NULL && d->is_key_only;
}

/* ---- the texts of Lua ---- */

/* Pushes the message at index 1, with its reason and what to do appended if they are known. */
static int explain_text(lua_State *L)
{
    const char *text = lua_tostring(L, 1);

    lua_settop(L, 1);
    if (strstr(text, "attempt to compare number with string") != NULL ||
        strstr(text, "attempt to compare string with number") != NULL) {
        push_why_compared(L);
    } else if (strstr(text, "nil value (field 'old')") != NULL) {
        lua_pushliteral(L, "; change.old is there where the source says old = true");
    } else if (strstr(text, "nil value (field 'row')") != NULL ||
               (strstr(text, "attempt to index a nil value") != NULL &&
                look_at_all(L, is_without_row, NULL))) {
        lua_pushliteral(L, "; the row of a delete is nil: look at change.op, use change.key or "
                           "change.old, or say :only(f) instead of :filter(f)");
    } else {
        return 1;
    }
    lua_pushfstring(L, "%s%s", text, lua_tostring(L, -1));
    return 1;
}

/* If the text at index 1 begins with a place in our own Lua code, which says nothing to a user,
 * drops that. */
static void drop_our_place(lua_State *L)
{
    const char *ours = script_of(L)->o.lua_dir, *text = lua_tostring(L, 1), *p = text;
    size_t n = strlen(ours);
    bool is_ours = strncmp(text, ours, n) == 0 && text[n] == '/';

    if ((p = strchr(text, ':')) == NULL)
        return;
    if (!is_ours && strncmp(text, "...", 3) == 0) { /* Lua leaves out the beginning of a long one */
        const char *found = strstr(text, "/lua/pgcdc/");

        is_ours = found != NULL && found < p;
    }
    if (!is_ours)
        return;
    p += 1 + strspn(p + 1, "0123456789");
    if (strncmp(p, ": ", 2) != 0)
        return;
    lua_pushstring(L, p + 2);
    lua_replace(L, 1);
}

int explain(lua_State *L)
{
    luaL_checkany(L, 1);
    lua_settop(L, 1);
    if (lua_type(L, 1) == LUA_TNUMBER)
        lua_tostring(L, 1);
    if (lua_type(L, 1) != LUA_TSTRING) {
        push_thrown(L);
        return 1;
    }
    drop_our_place(L);
    lua_pushcfunction(L, explain_text);
    lua_pushvalue(L, 1);
    if (lua_pcall(L, 1, 1, 0) != LUA_OK) /* the text alone, then */
        lua_settop(L, 1);
    return 1;
}
