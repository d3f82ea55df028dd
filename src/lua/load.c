/* load.c -- a script is loaded: what it can require, then its main chunk.
 * SPDX-License-Identifier: MIT */
#include "lua/load.h"

#include "lua/api_change.h"
#include "lua/api_copy.h"
#include "lua/api_copy_lines.h"
#include "lua/api_csv.h"
#include "lua/api_db.h"
#include "lua/api_direct.h"
#include "lua/api_file.h"
#include "lua/api_host.h"
#include "lua/api_id_counts.h"
#include "lua/api_lanes.h"
#include "lua/api_outbox.h"
#include "lua/api_outbox_change.h"
#include "lua/api_path.h"
#include "lua/api_process.h"
#include "lua/api_feed.h"
#include "lua/api_recorded.h"
#include "lua/api_shape.h"
#include "lua/api_source.h"
#include "lua/api_state.h"
#include "lua/api_transfer.h"
#include "lua/api_tagged.h"
#include "lua/api_terminal.h"
#include "lua/api_value.h"
#include "lua/api_watch.h"
#include "lua/api_worker.h"
#include "lua/explain.h"
#include "lua/guard.h"
#include "lua/hidden.h"
#include "lua/json.h"
#include "lua/native.h"
#include "lua/project.h"
#include "lua/row_class.h"

#include <lauxlib.h>
#include <string.h>
#include <unistd.h>

static int open_raw(lua_State *L)
{
    lua_createtable(L, 0, 16);
    api_host_export(L);
    api_terminal_export(L);
    api_value_export(L);
    api_source_export(L);
    project_export(L);
    api_state_export(L);
    api_transfer_export(L);
    api_watch_export(L);
    api_file_export(L);
    api_path_export(L);
    api_csv_export(L);
    api_process_export(L);
    api_shape_export(L);
    api_db_export(L);
    api_copy_lines_export(L);
    api_copy_export(L);
    api_outbox_export(L);
    api_outbox_change_export(L);
    api_id_counts_export(L);
    api_direct_export(L);
    api_lanes_export(L);
    api_tagged_export(L);
    api_change_export(L);
    api_recorded_export(L);
    api_feed_export(L);
    api_worker_export(L);
    return 1;
}

/* Pushes a table with the same fields as the one at <index>. */
static void push_table_clone(lua_State *L, int index)
{
    index = lua_absindex(L, index);
    lua_createtable(L, 0, 32);                                 /* clone */
    for (lua_pushnil(L); lua_next(L, index); ) {               /* clone name value */
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, -4);                                     /* clone name */
    }
}

/* Pushes the globals of our modules: the standard functions as they are now. */
static void push_our_globals(lua_State *L)
{
    int globals;

    lua_pushglobaltable(L);                                    /* globals */
    push_table_clone(L, -1);                                   /* globals ours */
    lua_remove(L, -2);
    globals = lua_gettop(L);
    for (lua_pushnil(L); lua_next(L, globals); lua_pop(L, 1))
        if (lua_istable(L, -1) && strcmp(lua_tostring(L, -2), LUA_GNAME) != 0) {
            lua_pushvalue(L, -2);
            push_table_clone(L, -2);
            lua_rawset(L, globals); /* lua_next allows that a field is set */
        }
    guard_put_functions(L);
}

/* A searcher for our own modules, so that a script's package.path and package.cpath do not count
 * for them. Upvalue 1: their globals, the standard functions as they were before the script ran. */
static int search_ours(lua_State *L)
{
    static const char ours[] = "pgcdc.", native[] = "pgcdc.native.";
    const char *name = luaL_checkstring(L, 1), *path;

    if (strcmp(name, "pgcdc") == 0)
        name = "pgcdc.init";
    if (strncmp(name, native, sizeof native - 1) == 0)
        return native_search(L, name + sizeof native - 1);
    if (strncmp(name, ours, sizeof ours - 1) != 0)
        return 0;
    luaL_gsub(L, name, ".", "/");
    path = lua_pushfstring(L, "%s/%s.lua", script_of(L)->o.lua_dir, lua_tostring(L, -1));
    if (access(path, R_OK) != 0)
        return 0;
    script_push_file(L, path);                                 /* ... path chunk */
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_setupvalue(L, -2, 1);
    lua_insert(L, -2);                                         /* ... chunk path */
    return 2;
}

static void add_searcher(lua_State *L)
{
    lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_getfield(L, -1, "package");
    lua_getfield(L, -1, "searchers");                          /* loaded package searchers */
    for (lua_Integer i = (lua_Integer)lua_rawlen(L, -1); i >= 2; i--) {
        lua_rawgeti(L, -1, i);
        lua_rawseti(L, -2, i + 1);
    }
    push_our_globals(L);
    lua_pushcclosure(L, search_ours, 1);
    lua_rawseti(L, -2, 2); /* after package.preload */
    lua_pop(L, 3);
}

/* A sandboxed script gets what `pgcdc` exports, and none of the modules that make it, except the
 * two that bundled scripts require. Undoes add_searcher. */
static void close_modules(lua_State *L)
{
    static const char ours[] = "pgcdc.";

    lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);      /* loaded */
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "";

        if (strncmp(name, ours, sizeof ours - 1) != 0 || strcmp(name, "pgcdc.bundled") == 0 ||
            strcmp(name, "pgcdc.terminal") == 0)
            continue;
        lua_pushvalue(L, -2);
        lua_pushnil(L);
        lua_rawset(L, -5); /* lua_next allows that a field is cleared */
    }
    lua_getfield(L, -1, "package");
    lua_getfield(L, -1, "searchers");                          /* loaded package searchers */
    for (lua_Integer i = 2, n = (lua_Integer)lua_rawlen(L, -1); i <= n; i++) {
        lua_rawgeti(L, -1, i + 1); /* the last becomes nil */
        lua_rawseti(L, -2, i);
    }
    lua_pop(L, 3);
}

static int load(lua_State *L)
{
    struct script *s = script_of(L);

    lua_settop(L, 0);
    s->explain = explain;
    hidden_open(L);
    json_open(L);
    row_class_open(L);
    luaL_requiref(L, "pgcdc.raw", open_raw, 0);
    lua_pop(L, 1);
    add_searcher(L);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "pgcdc");
    lua_call(L, 1, 1);
    lua_setglobal(L, "pgcdc");
    if (s->o.is_sandboxed) {
        close_modules(L);
        guard_keep_methods(L);
    }
    script_push_file(L, s->o.path);
    lua_call(L, 0, 0);
    s->is_loaded = true;
    return 0;
}

bool load_script(struct script *s, struct err *e)
{
    return script_call(s, load, NULL, e);
}
