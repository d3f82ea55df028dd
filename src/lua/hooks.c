/* hooks.c -- what the host does with a script.
 *
 * The hooks, functions of the Lua half: timers() -> seconds until the next one or nil, true if
 * windows are open, true if something was let go; start(); enter(source, seq): rows of a batch
 * are about to be delivered; leave(): they were; settle(source, {[source] = position} or nil,
 * {[source] = true} of the group, is_moment) -> false to be called again, true
 * if the positions were taken; last(); finish(); graph().
 *
 * SPDX-License-Identifier: MIT */
#include "lua/hooks.h"

#include "lua/api_process.h"
#include "lua/api_copy.h"
#include "lua/api_csv.h"
#include "lua/api_db.h"
#include "lua/api_file.h"
#include "lua/api_host.h"
#include "lua/api_copy_lines.h"
#include "lua/api_state.h"
#include "lua/api_terminal.h"
#include "lua/api_value.h"
#include "lua/row_class.h"
#include "lua/json.h"
#include "lua/change.h"
#include "lua/project.h"

#include <lauxlib.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

/* ---- loading ---- */

static int open_raw(lua_State *L)
{
    lua_createtable(L, 0, 16);
    api_host_export(L);
    api_terminal_export(L);
    api_value_export(L);
    api_source_export(L);
    project_export(L);
    api_state_export(L);
    api_file_export(L);
    api_csv_export(L);
    api_process_export(L);
    api_db_export(L);
    api_copy_lines_export(L);
    api_copy_export(L);
    return 1;
}

/* A sandboxed script gets what `pgcdc` exports, and none of the modules that this is made of. */
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
        lua_rawset(L, -5); /* a field that is there may be cleared meanwhile */
    }
    lua_pop(L, 1);
}

/* Pushes a copy of the table at <index>. */
static void push_table_clone(lua_State *L, int index)
{
    index = lua_absindex(L, index);
    lua_createtable(L, 0, 32);                                 /* copy */
    for (lua_pushnil(L); lua_next(L, index); ) {               /* copy name value */
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, -4);                                     /* copy name */
    }
}

/* Pushes what our modules have as globals: the standard ones as they are now. */
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
            lua_rawset(L, globals); /* a field that is there may be set meanwhile */
        }
}

/* A searcher for our own modules, wherever a script lets package.path lead. They see the standard
 * functions as they were, whatever the script puts in their place. Upvalue 1: their globals. */
static int search_ours(lua_State *L)
{
    static const char ours[] = "pgcdc.";
    const char *name = luaL_checkstring(L, 1), *path;

    if (strcmp(name, "pgcdc") == 0)
        name = "pgcdc.init";
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
    lua_rawseti(L, -2, 2); /* behind package.preload */
    lua_pop(L, 3);
}

static int load(lua_State *L)
{
    struct script *s = script_of(L);

    lua_settop(L, 0);
    json_open(L);
    row_class_open(L);
    luaL_requiref(L, "pgcdc.raw", open_raw, 0);
    lua_pop(L, 1);
    add_searcher(L);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "pgcdc");
    lua_call(L, 1, 1);
    lua_setglobal(L, "pgcdc");
    if (s->o.is_sandboxed)
        close_modules(L);
    script_push_file(L, s->o.path);
    lua_call(L, 0, 0);
    s->is_loaded = true;
    return 0;
}

bool hooks_load(struct script *s, struct err *e)
{
    return script_call(s, load, NULL, e);
}

/* ---- changes ---- */

static void push_hook(lua_State *L, enum script_hook hook)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, script_of(L)->hooks[hook]);
}

/* The events of changes come first, in the order of the ops. */
static enum api_source_event event_of(int op)
{
    return (enum api_source_event)(API_SOURCE_READ + op);
}

static bool has_handler(const struct api_source *source)
{
    for (int op = 0; op < OP_COUNT; op++)
        if (source->handlers[event_of(op)] != LUA_NOREF)
            return true;
    return false;
}

static int deliver(lua_State *L)
{
    struct hooks_rows *d = lua_touserdata(L, 1);
    const struct chunk *chunk = d->chunk;
    struct script *s = script_of(L);
    struct api_source *source = &s->sources[d->source];

    push_hook(L, SCRIPT_HOOK_ENTER);
    lua_pushinteger(L, (lua_Integer)d->source + 1);
    lua_pushinteger(L, (lua_Integer)source->seq);
    lua_call(L, 2, 0);
    change_push_metatable(L, chunk->rowtype, source->name, &source->metatable); /* job mt */
    for (int op = 0; op < OP_COUNT; op++) /* job mt read upsert ... */
        lua_rawgeti(L, LUA_REGISTRYINDEX, source->handlers[event_of(op)]);
    while (d->done < chunk->n_rows) {
        const struct chunk_row *row = &chunk->rows[d->done];
        int handler = 3 + (int)row->op;

        if (!lua_isnil(L, handler)) {
            lua_pushvalue(L, handler);
            change_push(L, 2, chunk, row);
            script_start_clock(s);
            lua_call(L, 1, 1);
            if (lua_touserdata(L, -1) == s) /* the same change again, later */
                break;
            lua_pop(L, 1);
        }
        d->done++;
        if (source->pauses > 0 || (d->may_stop && script_should_stop(s)))
            break;
    }
    push_hook(L, SCRIPT_HOOK_LEAVE);
    lua_call(L, 0, 0);
    return 0;
}

bool hooks_deliver(struct script *s, struct hooks_rows *rows, struct err *e)
{
    if (rows->chunk->rowtype == NULL || !has_handler(&s->sources[rows->source])) {
        rows->done = rows->chunk->n_rows;
        return true;
    }
    return script_call(s, deliver, rows, e);
}

/* ---- events ---- */

struct event_job {
    size_t source;
    enum api_source_event event;
    uint64_t count;                       /* of API_SOURCE_BATCH */
    const struct message_schema *schema;  /* of API_SOURCE_SCHEMA */
    const struct message_notice *notice;  /* of API_SOURCE_ERROR */
};

static void set_text(lua_State *L, const char *name, const char *text)
{
    lua_pushstring(L, text);
    lua_setfield(L, -2, name);
}

/* Sets a field to a word of a signature. */
static void set_word(lua_State *L, const char *name, const char *p, size_t len)
{
    luaL_Buffer b;
    char *to = luaL_buffinitsize(L, &b, len);

    luaL_pushresultsize(&b, copytext_unescape((struct copytext_field){ p, len }, to));
    lua_setfield(L, -2, name);
}

/* A signature (see struct rowtype) as a list of {name=, type=}. */
static void push_columns(lua_State *L, const char *p)
{
    lua_createtable(L, 0, 0);
    for (lua_Integer i = 1; *p != '\0'; i++) {
        size_t line = strcspn(p, "\n"), name = strcspn(p, "\t");

        lua_createtable(L, 0, 2);
        set_word(L, "name", p, name);
        set_word(L, "type", p + name + 1, line - name - 1);
        lua_rawseti(L, -2, i);
        p += line + 1;
    }
}

static int emit(lua_State *L)
{
    const struct event_job *job = lua_touserdata(L, 1);
    struct script *s = script_of(L);
    const struct api_source *source = &s->sources[job->source];

    lua_rawgeti(L, LUA_REGISTRYINDEX, source->handlers[job->event]);
    if (job->event == API_SOURCE_SCHEMA) {
        push_columns(L, job->schema->old_signature);
        push_columns(L, job->schema->new_signature);
        script_start_clock(s);
        lua_call(L, 2, 0);
        return 0;
    }
    lua_createtable(L, 0, 4);
    set_text(L, "source", source->name);
    if (job->event == API_SOURCE_BATCH) {
        lua_pushinteger(L, (lua_Integer)job->count);
        lua_setfield(L, -2, "count");
    } else if (job->event == API_SOURCE_ERROR) {
        const struct err *what = &job->notice->err;

        set_text(L, "message", what->msg);
        set_text(L, "sqlstate", what->sqlstate[0] != '\0' ? what->sqlstate : NULL);
        lua_pushnumber(L, (lua_Number)job->notice->retry_ms / 1000);
        lua_setfield(L, -2, "retry_in");
    }
    script_start_clock(s);
    lua_call(L, 1, 0);
    return 0;
}

static bool emit_event(struct script *s, const struct event_job *job, struct err *e)
{
    if (s->sources[job->source].handlers[job->event] == LUA_NOREF)
        return true;
    return script_call(s, emit, (void *)job, e);
}

bool hooks_batch(struct script *s, size_t source, uint64_t count, struct err *e)
{
    return emit_event(s, &(struct event_job){ source, API_SOURCE_BATCH, .count = count }, e);
}

bool hooks_truncate(struct script *s, size_t source, struct err *e)
{
    return emit_event(s, &(struct event_job){ .source = source, .event = API_SOURCE_TRUNCATE }, e);
}

bool hooks_ready(struct script *s, size_t source, struct err *e)
{
    return emit_event(s, &(struct event_job){ .source = source, .event = API_SOURCE_READY }, e);
}

bool hooks_schema(struct script *s, size_t source, const struct message_schema *schema,
                  struct err *e)
{
    return emit_event(s, &(struct event_job){ source, API_SOURCE_SCHEMA, .schema = schema }, e);
}

bool hooks_error(struct script *s, size_t source, const struct message_notice *notice,
                 struct err *e)
{
    return emit_event(s, &(struct event_job){ source, API_SOURCE_ERROR, .notice = notice }, e);
}

/* ---- saving ---- */

static int call_hook(lua_State *L)
{
    const enum script_hook *hook = lua_touserdata(L, 1);

    push_hook(L, *hook);
    lua_call(L, 0, 0);
    return 0;
}

static bool run_hook(struct script *s, enum script_hook hook, struct err *e)
{
    return s->hooks[hook] == LUA_NOREF || script_call(s, call_hook, &hook, e);
}

bool hooks_graph(struct script *s, struct err *e)
{
    return run_hook(s, SCRIPT_HOOK_GRAPH, e);
}

bool hooks_start(struct script *s, struct err *e)
{
    return run_hook(s, SCRIPT_HOOK_START, e);
}

bool hooks_last(struct script *s, struct err *e)
{
    return run_hook(s, SCRIPT_HOOK_LAST, e);
}

bool hooks_finish(struct script *s, struct err *e)
{
    return run_hook(s, SCRIPT_HOOK_FINISH, e);
}

struct settlement {
    size_t source;
    bool is_known, is_moment, taken, done;
};

static int settle(lua_State *L)
{
    struct settlement *job = lua_touserdata(L, 1);
    struct script *s = script_of(L);
    size_t group = s->sources[job->source].group;

    push_hook(L, SCRIPT_HOOK_SETTLE);
    lua_pushinteger(L, (lua_Integer)job->source + 1);
    lua_createtable(L, 0, 1);                                  /* settle source positions */
    lua_createtable(L, 0, 1);                                  /* ... positions members */
    for (size_t i = 0; i < s->n_sources; i++) {
        if (s->sources[i].group != group)
            continue;
        lua_pushboolean(L, true);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
        if (s->sources[i].position != NULL) {
            lua_pushstring(L, s->sources[i].position);
            lua_rawseti(L, -3, (lua_Integer)i + 1);
        }
    }
    if (!job->is_known) {
        lua_pushnil(L);
        lua_replace(L, -3);
    }
    lua_pushboolean(L, job->is_moment);
    lua_call(L, 4, 2);
    job->done = lua_toboolean(L, -2);
    job->taken = lua_toboolean(L, -1);
    return 0;
}

bool hooks_settle(struct script *s, size_t source, bool is_known, bool is_moment, bool *taken,
                  bool *done, struct err *e)
{
    struct settlement job = { source, is_known, is_moment, false, false };
    bool ok = script_call(s, settle, &job, e);

    *taken = job.taken;
    *done = job.done;
    return ok;
}

/* ---- timers ---- */

static int run_timers(lua_State *L)
{
    struct hooks_timers *t = lua_touserdata(L, 1);

    push_hook(L, SCRIPT_HOOK_TIMERS);
    script_start_clock(script_of(L));
    lua_call(L, 0, 3);
    if (lua_isnumber(L, -3)) {
        lua_Number seconds = lua_tonumber(L, -3);

        t->wait_ms = seconds <= 0 ? 0 : seconds > 1e6 ? 1000000000 : (int64_t)ceil(seconds * 1000);
    }
    t->has_windows = lua_toboolean(L, -2);
    t->has_released = lua_toboolean(L, -1);
    return 0;
}

bool hooks_run_timers(struct script *s, struct hooks_timers *t, struct err *e)
{
    *t = (struct hooks_timers){ .wait_ms = -1 };
    return s->hooks[SCRIPT_HOOK_TIMERS] == LUA_NOREF || script_call(s, run_timers, t, e);
}
