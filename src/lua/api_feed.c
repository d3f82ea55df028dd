/* api_feed.c -- sources whose changes the Lua half brings.
 * SPDX-License-Identifier: MIT */
#include "lua/api_feed.h"

#include "capture/message.h"
#include "capture/shaped.h"
#include "lua/api_source.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#define TYPE "pgcdc.feed_type"
#define MOST_COLUMNS 100000

/* ---- types of rows ---- */

static int drop_type(lua_State *L)
{
    struct rowtype **box = luaL_checkudata(L, 1, TYPE);

    rowtype_unref(*box);
    *box = NULL;
    return 0;
}

static struct rowtype *check_type(lua_State *L, int index)
{
    struct rowtype **box = luaL_checkudata(L, index, TYPE);

    luaL_argcheck(L, *box != NULL, index, "it is gone");
    return *box;
}

/* Pushes field <name> of the table at <index>, which must be text. Returns it, borrowed. */
static const char *push_text(lua_State *L, int index, const char *name) /* [-0, +1] */
{
    if (lua_getfield(L, index, name) != LUA_TSTRING)
        luaL_error(L, "it has no %s", name);
    return lua_tostring(L, -1);
}

/* Reads the list <name> of the shape at index 1, and pushes what it borrows from. */
static struct shaped_column *push_columns(lua_State *L, const char *name, size_t *n)
{
    struct shaped_column *columns;
    int list;

    if (lua_getfield(L, 1, name) != LUA_TTABLE || lua_rawlen(L, -1) > MOST_COLUMNS)
        luaL_error(L, "it has no %s", name);
    list = lua_gettop(L);
    *n = lua_rawlen(L, list);
    luaL_checkstack(L, (int)*n * 2 + 20, name);
    columns = lua_newuserdatauv(L, (*n + 1) * sizeof *columns, 0);
    for (size_t i = 0; i < *n; i++) {
        if (lua_rawgeti(L, list, (lua_Integer)i + 1) != LUA_TTABLE)
            luaL_error(L, "it has no %s", name);
        columns[i].name = push_text(L, -1, "name");
        lua_insert(L, -2);                                     /* ... name column */
        lua_getfield(L, -1, "type");
        columns[i].type = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
        lua_getfield(L, -2, "json");
        columns[i].is_json = lua_toboolean(L, -1);
        lua_pop(L, 1);
        lua_remove(L, -2);                                     /* ... name type */
    }
    return columns;
}

static int feed_type(lua_State *L)
{
    struct shaped_shape shape = { 0 };
    struct rowtype **box;

    luaL_checktype(L, 1, LUA_TTABLE);
    shape.database = luaL_checkstring(L, 2);
    lua_settop(L, 2);
    box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = NULL;
    luaL_setmetatable(L, TYPE);
    shape.schema = push_text(L, 1, "schema");
    shape.table = push_text(L, 1, "table");
    shape.columns = push_columns(L, "columns", &shape.n_columns);
    shape.key = push_columns(L, "key", &shape.n_key);
    lua_getfield(L, 1, "xid");
    shape.has_no_xid = lua_isboolean(L, -1) && !lua_toboolean(L, -1);
    if ((*box = shaped_rowtype(&shape)) == NULL)
        return luaL_error(L, "out of memory");
    lua_pushvalue(L, 3);
    return 1;
}

/* ---- messages ---- */

/* The number of a source that is fed. */
static size_t check_source(lua_State *L)
{
    const struct script *s = script_of(L);
    lua_Integer number = luaL_checkinteger(L, 1);

    luaL_argcheck(L, number >= 1 && (size_t)number <= s->n_sources &&
                  s->sources[number - 1].config->capture == CONFIG_BY_FEED, 1,
                  "no source that is fed");
    return (size_t)number - 1;
}

/* Hands <m> over. It may be NULL: memory is out. */
static void give(lua_State *L, struct message *m)
{
    struct script *s = script_of(L);

    if (m == NULL)
        luaL_error(L, "out of memory");
    m->is_fed = true;
    if (s->take_fed == NULL || !s->take_fed(s->fed_arg, m)) {
        message_free(m);
        luaL_error(L, "nothing is delivered now");
    }
}

static int feed(lua_State *L)
{
    size_t number = check_source(L), len;
    struct rowtype *type = check_type(L, 2);
    const char *json = luaL_checklstring(L, 3, &len);
    lua_Integer ms = luaL_optinteger(L, 5, 0);
    struct message *m = message_new(MESSAGE_ROWS, number);
    struct err e;

    if (m == NULL)
        return luaL_error(L, "out of memory");
    m->chunk.is_log = true;
    m->chunk.begins = lua_toboolean(L, 4);
    if (ms > 0 && ms < INT64_MAX / 1000)
        m->chunk.read_us = ms * 1000;
    if (!shaped_read(type, json, len, &m->chunk, &e)) {
        message_free(m);
        if (e.code != ERR_REFUSED)
            return luaL_error(L, "%s", e.msg);
        lua_pushnil(L);
        lua_pushstring(L, e.msg);
        return 2;
    }
    give(L, m);
    lua_pushboolean(L, true);
    return 1;
}

static int feed_position(lua_State *L)
{
    struct position p = { .phase = POSITION_POLL };
    size_t number = check_source(L);
    bool is_alone = lua_toboolean(L, 3);
    struct message *m;

    p.fed = (char *)luaL_checkstring(L, 2);
    m = message_new(MESSAGE_ROWS, number);
    if (m != NULL && !chunk_set_position(&m->chunk, &p)) {
        message_free(m);
        m = NULL;
    }
    if (m != NULL) {
        m->chunk.is_log = m->chunk.ends = m->chunk.ends_batch = true;
        m->chunk.begins = m->chunk.is_lazy = is_alone;
    }
    give(L, m);
    return 0;
}

static int feed_ready(lua_State *L)
{
    give(L, message_new(MESSAGE_READY, check_source(L)));
    return 0;
}

static int feed_done(lua_State *L)
{
    size_t number = check_source(L);
    const char *text = luaL_optstring(L, 2, NULL);
    bool is_wrong = text != NULL && lua_toboolean(L, 3);
    struct message *m = message_new(is_wrong ? MESSAGE_FAULT : MESSAGE_DONE, number);

    if (m != NULL && is_wrong) {
        err_set(&m->fault, ERR_REFUSED, "%s", text);
    } else if (m != NULL && text != NULL && (m->text = strdup(text)) == NULL) {
        message_free(m);
        m = NULL;
    }
    give(L, m);
    return 0;
}

void api_feed_export(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "feed_type", feed_type }, { "feed", feed }, { "feed_position", feed_position },
        { "feed_ready", feed_ready }, { "feed_done", feed_done }, { NULL, NULL },
    };

    luaL_newmetatable(L, TYPE);
    lua_pushcfunction(L, drop_type);
    lua_setfield(L, -2, "__gc");
    lua_pushliteral(L, TYPE);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
    luaL_setfuncs(L, functions, 0);
}
