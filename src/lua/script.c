/* script.c -- the Lua state, and the one protected door into it.
 * SPDX-License-Identifier: MIT */
#include "lua/script.h"

#include "base/clock.h"
#include "base/file.h"
#include "lua/frame.h"
#include "lua/sandbox.h"
#include "pg/conninfo.h"

#include <errno.h>
#include <lauxlib.h>
#include <locale.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HOOK_INSTRUCTIONS 1000
#define TRACEBACK_MAX 4000
#define SCRATCH_MAX ((size_t)4 << 30)

struct script *script_of(lua_State *L)
{
    return *(struct script **)lua_getextraspace(L);
}

/* One of two buffers, emptied: the second one if the collector is stopped, as it is while a
 * finalizer runs. So a finalizer never gets the buffer that the interrupted code uses. (Where a
 * script has stopped the collector, no finalizer runs.) */
static struct buf *cleared(lua_State *L, struct buf *two)
{
    struct buf *b = &two[lua_gc(L, LUA_GCISRUNNING) != 1];

    buf_clear(b);
    return b;
}

struct buf *script_scratch(lua_State *L)
{
    return cleared(L, script_of(L)->scratch);
}

struct buf *script_line(lua_State *L)
{
    return cleared(L, script_of(L)->line);
}

bool script_should_stop(const struct script *s)
{
    return s->is_stopping || *s->o.stop;
}

/* ---- limits ---- */

static void *allocate(void *ud, void *p, size_t old, size_t new)
{
    struct script *s = ud;
    void *q;

    if (p == NULL)
        old = 0; /* Lua passes a type here */
    if (new > old && s->o.max_memory > 0 && new - old > s->o.max_memory - s->memory)
        return NULL;
    if (new == 0 && old > 0 && old <= POOL_MAX) { /* the two commonest cases by far */
        pool_give_back(&s->pool, p, old);
        q = NULL;
    } else if (old == 0 && new > 0 && new <= POOL_MAX) {
        q = pool_take(&s->pool, new);
    } else {
        q = pool_resize(&s->pool, p, old, new);
    }
    if (q != NULL || new == 0)
        s->memory += new - old;
    return q;
}

/* The script's own pcall would catch one error: so from the first one on every instruction fails,
 * until the door is reached. */
static void check_time(lua_State *L, lua_Debug *ar)
{
    struct script *s = script_of(L);

    (void)ar;
    if (s->deadline_ns == 0 || (!s->is_out_of_time && clock_mono_ns() < s->deadline_ns))
        return;
    s->is_out_of_time = true;
    lua_sethook(L, check_time, LUA_MASKCOUNT, 1);
    luaL_error(L, "a handler call took longer than --max-time allows (%f s)",
               (double)s->o.max_time_ns / 1e9);
}

void script_start_clock(struct script *s)
{
    if (s->o.max_time_ns > 0)
        s->deadline_ns = clock_mono_ns() + s->o.max_time_ns;
}

static void stop_clock(struct script *s)
{
    s->deadline_ns = 0;
    if (s->is_out_of_time) {
        s->is_out_of_time = false;
        lua_sethook(s->L, check_time, LUA_MASKCOUNT, HOOK_INSTRUCTIONS);
    }
}

void script_forgive(struct script *s)
{
    if (!s->is_out_of_time)
        return;
    stop_clock(s);
    script_start_clock(s);
}

/* ---- the door ---- */

void script_set_traceback(struct script *s, const char *text)
{
    free(s->traceback);
    s->traceback = strndup(text, TRACEBACK_MAX);
    s->has_traceback = true;
}

void script_push_traceback(lua_State *L, int level)
{
    const struct script_options *o = &script_of(L)->o;

    frame_push_traceback(L, level, o->log->level < LOG_DEBUG ? o->lua_dir : NULL);
}

/* Turns any value that was thrown into text, and keeps the traceback. */
static int on_error(lua_State *L)
{
    struct script *s = script_of(L);

    lua_settop(L, 1);
    if (s->has_traceback && lua_isstring(L, 1)) /* it was caught and is thrown again */
        return 1;
    if (s->explain != NULL) {
        lua_pushcfunction(L, s->explain);
        lua_pushvalue(L, 1);
        lua_call(L, 1, 1);                                     /* thrown text */
    } else if (!lua_isstring(L, 1)) {
        lua_pushfstring(L, "the error object is a %s value", luaL_typename(L, 1));
    }
    script_push_traceback(L, 1);                               /* thrown text trace */
    script_set_traceback(s, lua_tostring(L, -1));
    lua_pop(L, 1);
    return 1;
}

static bool fail(struct script *s, int status, struct err *e)
{
    lua_State *L = s->L;
    const char *text = lua_tostring(L, -1);

    if (s->cause.code != ERR_NONE)
        *e = s->cause;
    else if (status == LUA_ERRMEM && s->o.max_memory > 0)
        err_set(e, ERR_SCRIPT, "the script needs more memory than --max-memory allows (%zu bytes)",
                s->o.max_memory);
    else if (status == LUA_ERRMEM)
        err_memory(e);
    else
        err_set(e, s->is_usage_error ? ERR_USAGE : ERR_SCRIPT, "%s",
                text != NULL ? text : "an error in the error handler");
    return false;
}

bool script_call(struct script *s, lua_CFunction f, void *job, struct err *e)
{
    lua_State *L = s->L;
    int top = lua_gettop(L), status;
    bool ok;

    free(s->traceback);
    s->traceback = NULL;
    s->cause.code = ERR_NONE;
    s->has_traceback = false;
    lua_pushcfunction(L, on_error);                            /* on_error */
    lua_pushcfunction(L, f);                                   /* on_error f */
    lua_pushlightuserdata(L, job);                             /* on_error f job */
    status = lua_pcall(L, 1, 0, top + 1);
    ok = status == LUA_OK || fail(s, status, e);
    stop_clock(s);
    lua_settop(L, top);
    return ok;
}

/* ---- new and free ---- */

/* What `require` finds: our modules, those in the folder of the script, the bundled scripts, then
 * what Lua finds by itself. */
static void set_path(lua_State *L, const struct script_options *o)
{
    const char *slash = strrchr(o->path, '/');

    lua_getglobal(L, "package");                               /* package */
    if (slash != NULL)
        lua_pushlstring(L, o->path, (size_t)(slash - o->path));
    else
        lua_pushliteral(L, ".");                               /* package dir */
    lua_getfield(L, -2, "path");                               /* package dir path */
    lua_pushfstring(L, "%s/?.lua;%s/?/init.lua;%s/?.lua;%s/?.lua;%s", o->lua_dir, o->lua_dir,
                    lua_tostring(L, -2), o->scripts_dir, lua_tostring(L, -1));
    lua_setfield(L, -4, "path");
    lua_settop(L, 0);
}

/* os.setlocale, whose upvalue is the original. Numbers keep the decimal point that JSON needs. */
static int set_locale(lua_State *L)
{
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, 1);
    setlocale(LC_NUMERIC, "C");
    return 1;
}

/* os.exit. What exit() runs (OpenSSL frees things) must not run while readers are at work in other
 * threads. */
static int leave(lua_State *L)
{
    int status = lua_isboolean(L, 1) ? !lua_toboolean(L, 1) : (int)luaL_optinteger(L, 1, 0);

    if (lua_toboolean(L, 2))
        lua_close(L);
    fflush(NULL);
    _exit(status);
}

static void replace_functions(lua_State *L)
{
    lua_getglobal(L, "os");                                    /* os */
    lua_getfield(L, -1, "setlocale");
    lua_pushcclosure(L, set_locale, 1);
    lua_setfield(L, -2, "setlocale");
    lua_pushcfunction(L, leave);
    lua_setfield(L, -2, "exit");
    lua_pop(L, 1);
}

static int open_state(lua_State *L)
{
    const struct script *s = script_of(L);

    luaL_openlibs(L);
    replace_functions(L);
    set_path(L, &s->o);
    lua_settop(L, 0);
    if (s->o.is_sandboxed)
        sandbox_close(L, s->o.log);
    return 0;
}

struct script *script_new(const struct script_options *o, struct err *e)
{
    struct script *s = calloc(1, sizeof *s);

    if (s == NULL) {
        err_memory(e);
        return NULL;
    }
    s->o = *o;
    for (size_t i = 0; i < SCRIPT_HOOK_COUNT; i++)
        s->hooks[i] = LUA_NOREF;
    for (size_t i = 0; i < 2; i++) {
        buf_init(&s->scratch[i], o->max_memory > 0 ? o->max_memory : SCRATCH_MAX);
        buf_init(&s->line[i], o->max_memory > 0 ? o->max_memory : SCRATCH_MAX);
    }
    s->L = lua_newstate(allocate, s);
    if (s->L == NULL) {
        err_memory(e);
        script_free(s);
        return NULL;
    }
    *(struct script **)lua_getextraspace(s->L) = s;
    lua_gc(s->L, LUA_GCGEN, 0, 0); /* nearly all changes die young: up to a quarter less CPU */
    /* set before there is any coroutine, so that all inherit it */
    if (o->max_time_ns > 0)
        lua_sethook(s->L, check_time, LUA_MASKCOUNT, HOOK_INSTRUCTIONS);
    if (!script_call(s, open_state, NULL, e)) {
        script_free(s);
        return NULL;
    }
    return s;
}

void script_free(struct script *s)
{
    if (s == NULL)
        return;
    if (s->L != NULL)
        lua_close(s->L);
    store_close(s->store);
    pool_fini(&s->pool);
    for (size_t i = 0; i < 2; i++) {
        buf_fini(&s->scratch[i]);
        buf_fini(&s->line[i]);
    }
    free(s->traceback);
    free(s->watches);
    free(s);
}

void script_push_dsn(lua_State *L)
{
    lua_pushlightuserdata(L, (void *)script_of(L)->o.dsn);
}

const char *script_push_conninfo(lua_State *L, int index)
{
    const struct script_options *o = &script_of(L)->o;
    struct buf *b;
    struct err e;
    size_t len;

    lua_pushvalue(L, index);
    if (lua_islightuserdata(L, -1) && lua_touserdata(L, -1) == o->dsn)
        return o->dsn;
    if (strlen(luaL_checklstring(L, -1, &len)) != len)
        luaL_error(L, "the connection string holds a zero byte");
    if (o->is_sandboxed || strchr(lua_tostring(L, -1), '$') != NULL) {
        b = script_scratch(L);
        if (!(o->is_sandboxed ? conninfo_confine : conninfo_expand)(b, lua_tostring(L, -1), &e))
            luaL_error(L, "%s%s", o->is_sandboxed ? "" : "the connection: ", e.msg);
        lua_pushlstring(L, b->data, b->len);
        lua_remove(L, -2);
    }
    return lua_tostring(L, -1);
}

void script_push_file(lua_State *L, const char *path)
{
    if (luaL_loadfilex(L, path, script_of(L)->o.is_sandboxed ? "t" : NULL) != LUA_OK)
        lua_error(L);
}

int script_open_unnamed(const struct script *s)
{
    const char *tmp = getenv("TMPDIR");
    char *folder = s->o.state != NULL ? file_folder(s->o.state) : NULL;
    int fd = folder != NULL ? file_open_unnamed(folder) : -1;

    if (fd < 0 && (s->o.state == NULL || errno == ENOENT)) /* the state file is made later */
        fd = file_open_unnamed(tmp != NULL && *tmp != '\0' ? tmp : "/tmp");
    free(folder);
    return fd;
}
