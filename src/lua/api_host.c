/* api_host.c -- what scripts may ask of the program.
 * SPDX-License-Identifier: MIT */
#include "lua/api_host.h"

#include "base/clock.h"
#include "lua/json.h"
#include "lua/script.h"
#include "base/text.h"

#include <lauxlib.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int encode(lua_State *L)
{
    struct buf *b = script_scratch(L);

    luaL_checkany(L, 1);
    json_put(L, 1, b);
    lua_pushlstring(L, b->data, b->len);
    return 1;
}

static int decode(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    char why[160];

    if (json_push(L, text, len, why, sizeof why))
        return 1;
    lua_pushnil(L);
    lua_pushstring(L, why);
    return 2;
}

#define MAX_FIELDS 32

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

/* Upvalue 1: pairs, whatever a script makes of its own. */
static int log_message(lua_State *L)
{
    static const char *const levels[] = { "error", "warn", "info", "debug", NULL };
    struct log *log = script_of(L)->o.log;
    struct log_field fields[MAX_FIELDS];
    int level = luaL_checkoption(L, 1, NULL, levels);
    size_t len, n = 0;
    const char *message = luaL_checklstring(L, 2, &len);

    if ((enum log_level)level > log->level)
        return 0;
    lua_settop(L, 3);
    if (lua_istable(L, 3)) {
        lua_pushvalue(L, lua_upvalueindex(1));
        lua_pushvalue(L, 3);
        lua_call(L, 1, 3);                                     /* next state key */
        luaL_checkstack(L, 3 * MAX_FIELDS, "fields");
        while (n < MAX_FIELDS) {
            int top = lua_gettop(L);

            lua_pushvalue(L, 4);
            lua_pushvalue(L, 5);
            lua_pushvalue(L, top);
            lua_call(L, 2, 2);                                 /* ... key value */
            if (lua_isnil(L, -2))
                break;
            lua_pushvalue(L, -2);
            fields[n].key = luaL_tolstring(L, -1, NULL);
            lua_remove(L, -2);                                 /* ... key value keytext */
            lua_insert(L, -3);                                 /* ... keytext key value */
            read_field(L, &fields[n++]);                       /* ... keytext key value text */
            lua_insert(L, -3);                                 /* ... keytext text key value */
            lua_pop(L, 1);                                     /* ... keytext text key */
        }
    }
    /* rows and their like have an order of their own */
    if (n > 1 && luaL_getmetafield(L, 3, "__pairs") == LUA_TNIL)
        qsort(fields, n, sizeof *fields, compare_fields);
    log_line(log, (enum log_level)level, message, len, fields, n);
    return 0;
}

static int stop(lua_State *L)
{
    struct script *s = script_of(L);
    lua_Integer status = luaL_optinteger(L, 1, 0);

    luaL_argcheck(L, status >= 0 && status <= 255, 1, "an exit status is 0 to 255");
    s->is_stopping = true;
    s->stop_status = (int)status;
    return 0;
}

static int usage(lua_State *L)
{
    script_of(L)->is_usage_error = true;
    lua_settop(L, 1);
    return lua_error(L);
}

/* refuse(message): the database cannot be used as the script wants it. */
static int refuse(lua_State *L)
{
    err_set(&script_of(L)->cause, ERR_REFUSED, "%s", luaL_checkstring(L, 1));
    lua_settop(L, 1);
    return lua_error(L);
}

/* fail(message, traceback): throws again what was caught. */
static int fail(lua_State *L)
{
    luaL_checkstring(L, 1);
    script_set_traceback(script_of(L), luaL_checkstring(L, 2));
    lua_settop(L, 1);
    return lua_error(L);
}

/* try(catch, f, ...) -> true, results ... | false, what catch made of the error. As xpcall, but
 * what took too long counts as a failure like others, and the time begins anew. */
static int try(lua_State *L)
{
    int status = lua_pcall(L, lua_gettop(L) - 2, LUA_MULTRET, 1);

    if (status != LUA_OK)
        script_forgive(script_of(L));
    lua_pushboolean(L, status == LUA_OK);
    lua_replace(L, 1);
    return lua_gettop(L);
}

/* where(level) -> source, line of the function there, as debug.getinfo has them; nil behind the
 * last one. (The sandbox takes the debug library from scripts; this gives nothing away.) */
static int where(lua_State *L)
{
    lua_Debug ar;

    if (!lua_getstack(L, (int)luaL_checkinteger(L, 1), &ar))
        return 0;
    lua_getinfo(L, "Sl", &ar);
    lua_pushstring(L, ar.source);
    lua_pushinteger(L, ar.currentline);
    return 2;
}

/* place(function) -> source, line where it is defined */
static int place(lua_State *L)
{
    lua_Debug ar;

    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    lua_getinfo(L, ">S", &ar);
    lua_pushstring(L, ar.source);
    lua_pushinteger(L, ar.linedefined);
    return 2;
}

/* traceback(level) */
static int traceback(lua_State *L)
{
    luaL_traceback(L, L, NULL, (int)luaL_checkinteger(L, 1));
    return 1;
}

/* sleep(seconds) -> true, or false if the program was asked to stop. */
static int nap(lua_State *L)
{
    struct script *s = script_of(L);
    int64_t until = clock_mono_ms() + (int64_t)(luaL_checknumber(L, 1) * 1000), left;

    while (!script_should_stop(s) && (left = until - clock_mono_ms()) > 0)
        poll(NULL, 0, left < 100 ? (int)left : 100); /* a signal ends it early */
    lua_pushboolean(L, !script_should_stop(s));
    return 1;
}

/* clock_anew(): what is called now has the whole time of a handler call. */
static int clock_anew(lua_State *L)
{
    script_start_clock(script_of(L));
    return 0;
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
    names = lua_newuserdatauv(L, (n + 1) * sizeof *names, 0);
    for (lua_Unsigned i = 0; i < n; i++) {
        lua_rawgeti(L, 2, (lua_Integer)i + 1);
        names[i] = luaL_checkstring(L, -1); /* anchored in the list */
        lua_pop(L, 1);
    }
    found = text_nearest(word, names, n);
    lua_pushstring(L, found);
    return 1;
}

static int now(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)clock_mono_ns() / 1e9);
    return 1;
}

/* hook(name, function): what the host is to call. */
static int hook(lua_State *L)
{
    static const char *const names[] = { "timers", "start", "enter", "leave", "settle", "last",
                                         "finish", "graph", NULL };
    int *ref = &script_of(L)->hooks[luaL_checkoption(L, 1, NULL, names)];

    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_settop(L, 2);
    luaL_unref(L, LUA_REGISTRYINDEX, *ref);
    *ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

/* print() as ever, but without a flush at each line: the host flushes before it saves a
 * position and before it sleeps. */
static int print(lua_State *L)
{
    struct buf *b;
    int n = lua_gettop(L);

    for (int i = 1; i <= n; i++) {
        if (json_class_at(L, i) != NULL) { /* a change, without the detour */
            b = script_scratch(L);
            json_put(L, i, b);
        } else {
            size_t len;
            const char *s = luaL_tolstring(L, i, &len);

            b = script_scratch(L);
            buf_add(b, s, len);
            lua_pop(L, 1);
        }
        buf_putc(b, i < n ? '\t' : '\n');
        json_check(L, b);
        fwrite(b->data, 1, b->len, stdout);
    }
    if (n == 0)
        fputc('\n', stdout);
    return 0;
}

void api_host(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "encode", encode }, { "decode", decode }, { "stop", stop },
        { "usage", usage }, { "refuse", refuse }, { "fail", fail }, { "try", try },
        { "where", where }, { "place", place }, { "traceback", traceback },
        { "nearest", nearest }, { "size", size }, { "now", now }, { "sleep", nap },
        { "hook", hook }, { "clock_anew", clock_anew },
        { NULL, NULL },
    };
    const struct script *s = script_of(L);

    lua_register(L, "print", print);
    luaL_setfuncs(L, functions, 0);
    lua_getglobal(L, "pairs");
    lua_pushcclosure(L, log_message, 1);
    lua_setfield(L, -2, "log");
    lua_pushstring(L, s->o.version);
    lua_setfield(L, -2, "version");
    lua_pushstring(L, s->o.dsn);
    lua_setfield(L, -2, "dsn");
    lua_pushstring(L, s->o.lua_dir);
    lua_setfield(L, -2, "lua_dir");
    lua_pushstring(L, s->o.scripts_dir);
    lua_setfield(L, -2, "scripts_dir");
    lua_pushstring(L, s->o.path);
    lua_setfield(L, -2, "script");
    lua_pushboolean(L, s->o.is_sandboxed);
    lua_setfield(L, -2, "is_sandboxed");
    json_push_null(L);
    lua_setfield(L, -2, "null");
    json_push_array_metatable(L);
    lua_setfield(L, -2, "array_metatable");
    lua_createtable(L, (int)s->o.n_words, 0);
    for (size_t i = 0; i < s->o.n_words; i++) {
        lua_pushstring(L, s->o.words[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_setfield(L, -2, "words");
}
