/* hooks.c -- what the host asks of a script that is loaded.
 *
 * The hooks, functions of the Lua half:
 *   wire(), start(), last(), finish(), graph(): see the functions of the same name in
 *     hooks.h;
 *   timers() -> seconds until the next timer is due, or nil; then has_windows, has_released, is_due
 *     as in struct hooks_timers;
 *   enter(source, batch, has_rows): rows of the batch with this number are about to be delivered;
 *     has_rows: there is at least one; leave(): they were delivered;
 *   resolved(source), reading(source), emptied(source), ready(source, rows): see hooks_resolved,
 *     hooks_reading, hooks_emptied and hooks_read;
 *   checkpoint(source, {[source] = {text =, last_change =}} or nil, {[source] = true} of the group,
 *     is_moment) -> is_done, is_taken: see struct hooks_checkpoint;
 *   figures() -> a table, see script_figures.c.
 *
 * SPDX-License-Identifier: MIT */
#include "lua/hooks.h"

#include "base/clock.h"
#include "capture/recording.h"
#include "lua/change.h"
#include "pg/lsn.h"

#include <lauxlib.h>
#include <math.h>
#include <poll.h>

/* ---- changes ---- */

static void push_hook(lua_State *L, enum script_hook hook)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, script_of(L)->hooks[hook]);
}

struct announce_job {
    size_t source;
    struct rowtype *rowtype; /* borrowed */
};

/* Rows of another type than before are to come: gives the handler of API_SOURCE_COLUMNS an example
 * of them. */
static int announce(lua_State *L)
{
    const struct announce_job *job = lua_touserdata(L, 1);
    struct api_source *source = &script_of(L)->sources[job->source];

    lua_rawgeti(L, LUA_REGISTRYINDEX, source->handlers[API_SOURCE_COLUMNS]);
    change_push_metatable(L, job->rowtype, source->name, &source->metatable); /* job f mt */
    change_push_example(L, 3, job->rowtype);
    lua_remove(L, 3);
    lua_call(L, 1, 0);
    return 0;
}

bool hooks_announce(struct script *s, size_t number, struct rowtype *rowtype, struct err *e)
{
    struct api_source *source = &s->sources[number];
    struct announce_job job = { number, rowtype };

    if (rowtype == source->announced)
        return true;
    if (source->handlers[API_SOURCE_COLUMNS] != LUA_NOREF && !script_call(s, announce, &job, e))
        return err_prefix(e, "source %s", source->name);
    rowtype_unref(source->announced);
    source->announced = rowtype_ref(rowtype);
    return true;
}

/* ---- events ---- */

struct event_job {
    size_t source;
    enum api_source_event event;
    uint64_t count;                       /* of API_SOURCE_BATCH */
    const struct message_schema *schema;  /* of API_SOURCE_SCHEMA */
    const struct message_notice *notice;  /* of API_SOURCE_ERROR */
    const struct message_log *log;        /* of API_SOURCE_COMMIT and API_SOURCE_MESSAGE */
};

static void set_text(lua_State *L, const char *name, const char *text)
{
    lua_pushstring(L, text);
    lua_setfield(L, -2, name);
}

/* Sets a field to a name or a type of a signature. */
static void set_signature_text(lua_State *L, const char *name, const char *p, size_t len)
{
    luaL_Buffer b;
    char *to = luaL_buffinitsize(L, &b, len);

    luaL_pushresultsize(&b, copytext_unescape((struct copytext_field){ p, len }, to));
    lua_setfield(L, -2, name);
}

/* Pushes a signature (see struct rowtype) as a list of {name=, type=}. */
static void push_columns(lua_State *L, const char *p)
{
    lua_createtable(L, 0, 0);
    for (lua_Integer i = 1; *p != '\0'; i++) {
        size_t line = strcspn(p, "\n"), name = strcspn(p, "\t");

        lua_createtable(L, 0, 2);
        set_signature_text(L, "name", p, name);
        set_signature_text(L, "type", p + name + 1, line - name - 1);
        lua_rawseti(L, -2, i);
        p += line + 1;
    }
}

static void set_number(lua_State *L, const char *name, uint64_t n)
{
    lua_pushinteger(L, (lua_Integer)n);
    lua_setfield(L, -2, name);
}

/* Sets the fields of what came by the log. */
static void set_log(lua_State *L, const struct message_log *log)
{
    char lsn[LSN_TEXT], ts[CLOCK_TEXT];

    set_number(L, "xid", log->xid);
    set_text(L, "lsn", lsn_write(log->lsn, lsn));
    clock_write(log->us, ts);
    set_text(L, "commit_ts", ts);
    if (log->prefix == NULL) {
        set_number(L, "count", log->count);
        return;
    }
    set_text(L, "prefix", log->prefix);
    lua_pushlstring(L, log->content, log->len);
    lua_setfield(L, -2, "content");
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
    lua_createtable(L, 0, 6);
    set_text(L, "source", source->name);
    if (job->event == API_SOURCE_BATCH) {
        set_number(L, "count", job->count);
    } else if (job->log != NULL) {
        set_log(L, job->log);
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

static const char *const recorded_events[API_SOURCE_EVENTS] = {
    [API_SOURCE_BATCH] = "batch", [API_SOURCE_TRUNCATE] = "truncate",
    [API_SOURCE_COMMIT] = "commit", [API_SOURCE_MESSAGE] = "message",
    [API_SOURCE_READY] = "ready",
};

static bool emit_event(struct script *s, const struct event_job *job, struct err *e)
{
    if (s->recording != NULL && recorded_events[job->event] != NULL)
        recording_add_event(s->recording, s->sources[job->source].name,
                            recorded_events[job->event], job->log);
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

bool hooks_commit(struct script *s, size_t source, const struct message_log *log, struct err *e)
{
    return emit_event(s, &(struct event_job){ source, API_SOURCE_COMMIT, .log = log }, e);
}

bool hooks_emitted(struct script *s, size_t source, const struct message_log *log, struct err *e)
{
    return emit_event(s, &(struct event_job){ source, API_SOURCE_MESSAGE, .log = log }, e);
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

/* ---- readings ---- */

struct reading_job {
    enum script_hook hook;
    size_t source;
    uint64_t rows;
};

static int tell_reading(lua_State *L)
{
    struct reading_job *job = lua_touserdata(L, 1);

    push_hook(L, job->hook);
    lua_pushinteger(L, (lua_Integer)job->source + 1);
    lua_pushinteger(L, (lua_Integer)job->rows);
    lua_call(L, 2, 0);
    return 0;
}

bool hooks_resolved(struct script *s, size_t source, struct err *e)
{
    struct reading_job job = { SCRIPT_HOOK_RESOLVED, source, 0 };

    return script_call(s, tell_reading, &job, e);
}

bool hooks_reading(struct script *s, size_t source, struct err *e)
{
    struct reading_job job = { SCRIPT_HOOK_READING, source, 0 };

    return script_call(s, tell_reading, &job, e);
}

bool hooks_emptied(struct script *s, size_t source, struct err *e)
{
    struct reading_job job = { SCRIPT_HOOK_EMPTIED, source, 0 };

    return script_call(s, tell_reading, &job, e);
}

bool hooks_read(struct script *s, size_t source, uint64_t rows, struct err *e)
{
    struct reading_job job = { SCRIPT_HOOK_READY, source, rows };

    return script_call(s, tell_reading, &job, e);
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

bool hooks_wire(struct script *s, struct err *e)
{
    return run_hook(s, SCRIPT_HOOK_WIRE, e);
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

static void push_position(lua_State *L, const struct hooks_position *position)
{
    lua_createtable(L, 0, 2);
    set_text(L, "text", position->text);
    lua_pushinteger(L, (lua_Integer)position->last_change);
    lua_setfield(L, -2, "last_change");
}

static int checkpoint(lua_State *L)
{
    struct hooks_checkpoint *c = lua_touserdata(L, 1);
    struct script *s = script_of(L);

    push_hook(L, SCRIPT_HOOK_CHECKPOINT);
    lua_pushinteger(L, (lua_Integer)c->source + 1);
    lua_createtable(L, 0, 1);                                  /* hook source positions */
    lua_createtable(L, 0, 1);                                  /* ... positions members */
    for (size_t i = 0; i < s->n_sources; i++) {
        if (!c->positions[i].is_member)
            continue;
        lua_pushboolean(L, true);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
        if (c->positions[i].text != NULL) {
            push_position(L, &c->positions[i]);
            lua_rawseti(L, -3, (lua_Integer)i + 1);
        }
    }
    if (!c->is_known) {
        lua_pushnil(L);
        lua_replace(L, -3);
    }
    lua_pushboolean(L, c->is_moment);
    lua_call(L, 4, 2);
    c->is_done = lua_toboolean(L, -2);
    c->is_taken = lua_toboolean(L, -1);
    return 0;
}

bool hooks_checkpoint(struct script *s, struct hooks_checkpoint *c, struct err *e)
{
    c->is_taken = c->is_done = false;
    return script_call(s, checkpoint, c, e);
}

/* ---- descriptors ---- */

struct watched_job {
    int fd;
    short events;
};

/* Calls the function of a descriptor, if it is still watched: one that was called before may have
 * ended that. */
static int call_watched(lua_State *L)
{
    const struct watched_job *job = lua_touserdata(L, 1);
    bool is_over = (job->events & (POLLERR | POLLHUP | POLLNVAL)) != 0;
    struct script *s = script_of(L);

    for (size_t i = 0; i < s->n_watches; i++)
        if (s->watches[i].fd == job->fd) {
            lua_rawgeti(L, LUA_REGISTRYINDEX, s->watches[i].function);
            lua_pushboolean(L, is_over || (job->events & POLLIN) != 0);
            lua_pushboolean(L, is_over || (job->events & POLLOUT) != 0);
            script_start_clock(s);
            lua_call(L, 2, 0);
            break;
        }
    return 0;
}

bool hooks_watched(struct script *s, int fd, short events, struct err *e)
{
    struct watched_job job = { fd, events };

    return script_call(s, call_watched, &job, e);
}

/* ---- figures ---- */

struct figures_job {
    struct script_figures *figures;
};

static int read_figures(lua_State *L)
{
    struct figures_job *job = lua_touserdata(L, 1);

    push_hook(L, SCRIPT_HOOK_FIGURES);
    lua_call(L, 0, 1);
    job->figures = script_figures_read(L, script_of(L)->n_sources);
    return 0;
}

bool hooks_figures(struct script *s, struct script_figures **f, struct err *e)
{
    struct figures_job job = { NULL };
    bool ok = s->hooks[SCRIPT_HOOK_FIGURES] == LUA_NOREF || script_call(s, read_figures, &job, e);

    *f = job.figures;
    return ok;
}

/* ---- timers ---- */

static int run_timers(lua_State *L)
{
    struct hooks_timers *t = lua_touserdata(L, 1);

    push_hook(L, SCRIPT_HOOK_TIMERS);
    script_start_clock(script_of(L));
    lua_call(L, 0, 4);
    if (lua_isnumber(L, -4)) {
        lua_Number seconds = lua_tonumber(L, -4);

        t->wait_ms = seconds <= 0 ? 0 : seconds > 1e6 ? 1000000000 : (int64_t)ceil(seconds * 1000);
    }
    t->has_windows = lua_toboolean(L, -3);
    t->has_released = lua_toboolean(L, -2);
    if ((t->is_due = lua_toboolean(L, -1)))
        t->wait_ms = 0;
    return 0;
}

bool hooks_run_timers(struct script *s, struct hooks_timers *t, struct err *e)
{
    *t = (struct hooks_timers){ .wait_ms = -1 };
    return s->hooks[SCRIPT_HOOK_TIMERS] == LUA_NOREF || script_call(s, run_timers, t, e);
}
