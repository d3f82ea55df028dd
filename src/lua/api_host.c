/* api_host.c -- what scripts may ask of the program.
 * SPDX-License-Identifier: MIT */
#include "lua/api_host.h"

#include "base/clock.h"
#include "base/variable.h"
#include "base/histogram.h"
#include "base/text.h"
#include "lua/explain.h"
#include "lua/json.h"
#include "lua/script.h"
#include "lua/script_figures.h"

#include <lauxlib.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_FIELDS 32
#define MOST_NAMES 100000 /* among which the nearest one is looked for */

/* ---- log ---- */

/* Turns the value on top of the stack into a field's text; leaves it on the stack. */
static void read_field(lua_State *L, struct log_field *f)
{
    f->raw = lua_isboolean(L, -1) ||
             (lua_type(L, -1) == LUA_TNUMBER && isfinite(lua_tonumber(L, -1)));
    if (lua_istable(L, -1)) {
        struct buf *b = script_scratch(L);

        json_put(L, -1, b);
        lua_pushlstring(L, b->data, b->len);
    } else {
        luaL_tolstring(L, -1, NULL);
    }
    f->value = lua_tolstring(L, -1, &f->len);
}

static int compare_fields(const void *a, const void *b)
{
    const struct log_field *x = a, *y = b;

    return strcmp(x->key, y->key);
}

/* Pushes the text of the key on top of the stack. A key of a script's cannot stand in for what the
 * program says: it gets a prefix. [-0, +1] */
static const char *push_key(lua_State *L, bool is_of_script)
{
    static const char *const ours[] = { "ts", "level", "msg", "source", "traceback",
                                        "worker" };
    const char *key = luaL_tolstring(L, -1, NULL);

    for (size_t i = 0; is_of_script && i < sizeof ours / sizeof *ours; i++)
        if (strcmp(key, ours[i]) == 0) {
            lua_pop(L, 1);
            return lua_pushfstring(L, "field_%s", ours[i]);
        }
    return key;
}

/* Reads what pairs() gives of the table at index 3. Leaves the texts on the stack. Upvalue 1: pairs
 * as it was before a script could replace it. */
static size_t read_fields(lua_State *L, struct log_field *fields, bool is_of_script)
{
    size_t n = 0;

    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, 3);
    lua_call(L, 1, 3);                                         /* next state key */
    luaL_checkstack(L, 3 * MAX_FIELDS, "fields");
    while (n < MAX_FIELDS) {
        int top = lua_gettop(L);

        lua_pushvalue(L, 4);
        lua_pushvalue(L, 5);
        lua_pushvalue(L, top);
        lua_call(L, 2, 2);                                     /* ... key value */
        if (lua_isnil(L, -2))
            break;
        lua_pushvalue(L, -2);
        fields[n].key = push_key(L, is_of_script);
        lua_remove(L, -2);                                     /* ... key value keytext */
        lua_insert(L, -3);                                     /* ... keytext key value */
        read_field(L, &fields[n++]);                           /* ... keytext key value text */
        lua_insert(L, -3);                                     /* ... keytext text key value */
        lua_pop(L, 1);                                         /* ... keytext text key */
    }
    return n;
}

static int log_message(lua_State *L)
{
    static const char *const levels[] = { "error", "warn", "info", "debug", NULL };
    struct log *log = script_of(L)->o.log;
    struct log_field fields[MAX_FIELDS];
    int level = luaL_checkoption(L, 1, NULL, levels);
    bool is_of_script = lua_toboolean(L, 4);
    size_t len, n = 0;
    const char *message = luaL_checklstring(L, 2, &len);

    if ((enum log_level)level > log->level)
        return 0;
    lua_settop(L, 3);
    if (lua_istable(L, 3))
        n = read_fields(L, fields, is_of_script);
    /* rows and other tables with a __pairs have an order of their own */
    if (n > 1 && luaL_getmetafield(L, 3, "__pairs") == LUA_TNIL)
        qsort(fields, n, sizeof *fields, compare_fields);
    log_line(log, (enum log_level)level, message, len, fields, n);
    return 0;
}

/* ---- errors ---- */

static int usage(lua_State *L)
{
    script_of(L)->is_usage_error = true;
    lua_settop(L, 1);
    return lua_error(L);
}

static int refuse(lua_State *L)
{
    err_set(&script_of(L)->cause, ERR_REFUSED, "%s", luaL_checkstring(L, 1));
    lua_settop(L, 1);
    return lua_error(L);
}

static int stale(lua_State *L)
{
    err_set(&script_of(L)->cause, ERR_STATE, "%s", luaL_checkstring(L, 1));
    lua_settop(L, 1);
    return lua_error(L);
}

static int rethrow(lua_State *L)
{
    luaL_checkstring(L, 1);
    script_set_traceback(script_of(L), luaL_checkstring(L, 2));
    lua_settop(L, 1);
    return lua_error(L);
}

static int try(lua_State *L)
{
    int status = lua_pcall(L, lua_gettop(L) - 2, LUA_MULTRET, 1);

    if (status != LUA_OK)
        script_forgive(script_of(L));
    lua_pushboolean(L, status == LUA_OK);
    lua_replace(L, 1);
    return lua_gettop(L);
}

/* As debug.getinfo has them; nothing after the last level. (The sandbox takes the debug library
 * from scripts; this gives nothing away.) */
static int where(lua_State *L)
{
    lua_Debug ar;

    if (!lua_getstack(L, (int)luaL_checkinteger(L, 1), &ar))
        return 0;
    lua_getinfo(L, "Sl", &ar);
    lua_pushstring(L, ar.source);
    lua_pushinteger(L, ar.currentline);
    lua_pushstring(L, ar.short_src);
    return 3;
}

static int place(lua_State *L)
{
    lua_Debug ar;

    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    lua_pushvalue(L, 1); /* the function stays: the text is its */
    lua_getinfo(L, ">S", &ar);
    lua_pushstring(L, ar.source);
    lua_pushinteger(L, ar.linedefined);
    return 2;
}

static int traceback(lua_State *L)
{
    script_push_traceback(L, (int)luaL_checkinteger(L, 1));
    return 1;
}

/* size("256M") -> bytes, or nil. */
static int size(lua_State *L)
{
    double bytes;

    if (text_read_size(luaL_checkstring(L, 1), &bytes))
        lua_pushnumber(L, bytes);
    else
        lua_pushnil(L);
    return 1;
}

static int nearest(lua_State *L)
{
    const char *word = luaL_checkstring(L, 1), *found;
    const char **names;
    lua_Unsigned n;

    luaL_checktype(L, 2, LUA_TTABLE);
    n = lua_rawlen(L, 2);
    n = n < MOST_NAMES ? n : MOST_NAMES;
    luaL_checkstack(L, (int)n + 10, "names");
    names = lua_newuserdatauv(L, (n + 1) * sizeof *names, 0);
    for (lua_Unsigned i = 0; i < n; i++) {
        lua_rawgeti(L, 2, (lua_Integer)i + 1);
        names[i] = luaL_checkstring(L, -1); /* it stays on the stack */
    }
    found = text_nearest(word, names, n);
    lua_pushstring(L, found);
    return 1;
}

/* plain(text) -> the text for people to read: one line, see text_put_plain */
static int plain(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    struct buf *b = script_scratch(L);

    text_put_plain(b, text, len);
    json_check(L, b);
    lua_pushlstring(L, b->data != NULL ? b->data : "", b->len);
    return 1;
}

/* ---- time ---- */

static int now(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)clock_mono_ns() / 1e9);
    return 1;
}

static int sleep_on(lua_State *L)
{
    struct script *s = script_of(L);
    int64_t until = clock_mono_ms() + (int64_t)(luaL_checknumber(L, 1) * 1000), left;

    while (!script_should_stop(s) && (left = until - clock_mono_ms()) > 0) {
        poll(NULL, 0, left < 100 ? (int)left : 100); /* a signal ends the poll early */
        beat_turn(s->beat);
    }
    beat_turn(s->beat);
    lua_pushboolean(L, !script_should_stop(s));
    return 1;
}

static int nap(lua_State *L)
{
    lua_Number seconds = luaL_checknumber(L, 1);
    struct timespec t = { .tv_sec = (time_t)seconds,
                          .tv_nsec = (long)((seconds - (lua_Number)(time_t)seconds) * 1e9) };

    nanosleep(&t, NULL);
    return 0;
}

static int start_clock(lua_State *L)
{
    script_start_clock(script_of(L));
    return 0;
}

/* ---- the program ---- */

static int stop(lua_State *L)
{
    struct script *s = script_of(L);
    lua_Integer status = luaL_optinteger(L, 1, 0);

    luaL_argcheck(L, status >= 0 && status <= 255, 1, "an exit status is 0 to 255");
    s->is_stopping = true;
    s->stop_status = (int)status;
    return 0;
}

static int hook(lua_State *L)
{
    static const char *const names[] = { "timers", "start", "enter", "leave", "resolved", "reading",
                                         "emptied", "ready", "checkpoint", "last", "finish",
                                         "graph", "check", "checked", "wire", "figures",
                                         "control", "feed", "fetch", "group", NULL };
    int *ref = &script_of(L)->hooks[luaL_checkoption(L, 1, NULL, names)];

    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_settop(L, 2);
    luaL_unref(L, LUA_REGISTRYINDEX, *ref);
    *ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

static void set_text(lua_State *L, const char *name, const char *text)
{
    lua_pushstring(L, text);
    lua_setfield(L, -2, name);
}

static void set_list(lua_State *L, const char *name, char *const *texts, size_t n)
{
    lua_createtable(L, (int)n, 0);
    for (size_t i = 0; i < n; i++) {
        lua_pushstring(L, texts[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_setfield(L, -2, name);
}

static void set_facts(lua_State *L, const struct script_options *o)
{
    set_text(L, "version", o->version);
    lua_createtable(L, HISTOGRAM_BOUNDS, 0);
    for (int i = 0; i < HISTOGRAM_BOUNDS; i++) {
        lua_pushnumber(L, histogram_bounds[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "histogram_bounds");
    script_push_dsn(L);
    lua_setfield(L, -2, "dsn");
    set_text(L, "lua_dir", o->lua_dir);
    set_text(L, "scripts_dir", o->scripts_dir);
    set_text(L, "script", o->path);
    set_text(L, "state_file", o->state);
    set_text(L, "pipeline_name", o->pipeline);
    set_text(L, "replay", o->replay);
    set_text(L, "state_asked", o->state_asked);
    lua_pushboolean(L, o->as_json);
    lua_setfield(L, -2, "as_json");
    lua_pushboolean(L, o->resets && o->reset == NULL);
    lua_setfield(L, -2, "is_reset");
    lua_pushboolean(L, o->is_sandboxed);
    lua_setfield(L, -2, "is_sandboxed");
    lua_pushboolean(L, o->has_network);
    lua_setfield(L, -2, "has_network");
    set_list(L, "words", o->words, o->n_words);
    set_list(L, "files", o->files, o->n_files);
}

/* Throws what is wrong with the text of the option that the first argument names. */
static int expand(lua_State *L)
{
    const char *what = luaL_checkstring(L, 1);
    struct buf *b = script_scratch(L);
    struct err e;
    size_t len;

    if (strlen(luaL_checklstring(L, 2, &len)) != len)
        luaL_error(L, "%s: holds a zero byte", what);
    if (script_of(L)->o.is_sandboxed) { /* else a script could read the environment */
        lua_settop(L, 2);
        return 1;
    }
    if (!variable_expand(b, lua_tostring(L, 2), &e)) {
        lua_pushfstring(L, "%s: %s", what, e.msg);
        return lua_error(L);
    }
    lua_pushlstring(L, b->data, b->len);
    return 1;
}

static int is_watched(lua_State *L)
{
    lua_pushboolean(L, script_of(L)->tell_figures != NULL);
    return 1;
}

static int show_figures(lua_State *L)
{
    struct script *s = script_of(L);
    struct script_figures *f;

    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    f = script_figures_read(L, s->n_sources);
    if (s->tell_figures != NULL)
        s->tell_figures(s->tell_arg, f);
    else
        script_figures_unref(f);
    return 0;
}

void api_host_export(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "stop", stop }, { "hook", hook }, { "usage", usage }, { "refuse", refuse },
        { "stale", stale },
        { "rethrow", rethrow }, { "try", try }, { "where", where }, { "place", place },
        { "traceback", traceback }, { "explain", explain }, { "nearest", nearest },
        { "plain", plain },
        { "size", size }, { "expand", expand }, { "now", now }, { "is_watched", is_watched },
        { "show_figures", show_figures },
        { "sleep", sleep_on }, { "nap", nap }, { "start_clock", start_clock }, { NULL, NULL },
    };

    luaL_setfuncs(L, functions, 0);
    set_facts(L, &script_of(L)->o);
    lua_getglobal(L, "pairs");
    lua_pushcclosure(L, log_message, 1);
    lua_setfield(L, -2, "log");
}
