/* storm.c -- runs a full collection with hostile finalizers whenever Lua may run one.
 * SPDX-License-Identifier: MIT
 *
 * Linked into the program's own objects: the linker leads their calls of the functions of Lua that
 * allocate, or that can run code of the script, here first (--wrap of each name in a WRAP line
 * below). Before and after such a call everything is collected that is not reachable, and a
 * finalizer runs storm.lua, which does what a hostile script would. So a pointer whose owner is not
 * on the stack is found by AddressSanitizer at once.
 *
 *    STORM_SCRIPT  storm.lua; nothing happens without it
 *    STORM_EVERY   at every so-manieth of these calls (1) */
#include "lua/load.h"
#include "lua/rowdata.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#define RECENT 6 /* of the newest changes and rows, storm.lua gets so many */

#define WRAP(type, name, ...) extern type __real_##name(__VA_ARGS__); \
    extern type __wrap_##name(__VA_ARGS__); \
    type __wrap_##name(__VA_ARGS__)

static lua_State *state; /* of the script, once that is about to be loaded */
static long every = 1, calls;
static lua_Integer newest;
static const char attack_key, recent_key, metatable_key;

extern void __real_lua_createtable(lua_State *L, int n, int m);
extern void __real_lua_callk(lua_State *L, int n, int r, lua_KContext c, lua_KFunction k);

/* The finalizer: attack(recent). */
static int attack(lua_State *L)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &attack_key);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &recent_key);
    __real_lua_callk(L, 1, 0, 0, NULL);
    return 0;
}

static void storm(lua_State *L)
{
    if (state == NULL || lua_gc(L, LUA_GCISRUNNING) != 1 || ++calls % every != 0)
        return;
    luaL_checkstack(L, 10, "a storm");
    __real_lua_createtable(L, 0, 0);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &metatable_key);
    lua_setmetatable(L, -2);
    lua_pop(L, 1);
    lua_gc(L, LUA_GCCOLLECT);
}

/* ---- before a script is loaded ---- */

static void prepare(lua_State *L)
{
    const char *path = getenv("STORM_SCRIPT"), *number = getenv("STORM_EVERY");

    if (path == NULL)
        return;
    if (number != NULL)
        every = atol(number) > 0 ? atol(number) : 1;
    if (luaL_loadfile(L, path) != LUA_OK || lua_pcall(L, 0, 1, 0) != LUA_OK) {
        fprintf(stderr, "storm: %s\n", lua_tostring(L, -1));
        exit(99);
    }
    lua_rawsetp(L, LUA_REGISTRYINDEX, &attack_key);
    lua_newtable(L); /* recent */
    lua_newtable(L);
    lua_pushliteral(L, "v");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &recent_key);
    lua_newtable(L);
    lua_pushcfunction(L, attack);
    lua_setfield(L, -2, "__gc");
    lua_rawsetp(L, LUA_REGISTRYINDEX, &metatable_key);
    state = L;
}

WRAP(bool, load_script, struct script *s, struct err *e)
{
    prepare(s->L);
    return __real_load_script(s, e);
}

/* What changes and rows there are: each gets its row data here. */
WRAP(void, rowdata_set, lua_State *L, int index)
{
    index = lua_absindex(L, index);
    __real_rowdata_set(L, index);
    if (state == NULL)
        return;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &recent_key);
    lua_pushvalue(L, index);
    lua_rawseti(L, -2, newest++ % RECENT + 1);
    lua_pop(L, 1);
    storm(L);
}

/* ---- Lua ---- */

/* A function that returns nothing. */
#define WRAP_VOID(name, parameters, arguments) \
    extern void __real_##name parameters; \
    extern void __wrap_##name parameters; \
    void __wrap_##name parameters \
    { \
        storm(L); \
        __real_##name arguments; \
        storm(L); \
    }

/* One that returns something. */
#define WRAP_VALUE(type, name, parameters, arguments) \
    extern type __real_##name parameters; \
    extern type __wrap_##name parameters; \
    type __wrap_##name parameters \
    { \
        type value; \
        storm(L); \
        value = __real_##name arguments; \
        storm(L); \
        return value; \
    }

/* One of buffers. */
#define WRAP_BUFFER(type, name, parameters, arguments) \
    extern type __real_##name parameters; \
    extern type __wrap_##name parameters; \
    type __wrap_##name parameters \
    { \
        storm(b->L); \
        __real_##name arguments; \
        storm(b->L); \
    }

WRAP_VOID(lua_createtable, (lua_State *L, int n, int m), (L, n, m))
WRAP_VALUE(void *, lua_newuserdatauv, (lua_State *L, size_t size, int n), (L, size, n))
WRAP_VALUE(const char *, lua_pushlstring, (lua_State *L, const char *s, size_t n), (L, s, n))
WRAP_VALUE(const char *, lua_pushstring, (lua_State *L, const char *s), (L, s))
WRAP_VOID(lua_pushcclosure, (lua_State *L, lua_CFunction f, int n), (L, f, n))
WRAP_VOID(lua_concat, (lua_State *L, int n), (L, n))
WRAP_VOID(lua_callk, (lua_State *L, int n, int r, lua_KContext c, lua_KFunction k),
          (L, n, r, c, k))
WRAP_VALUE(int, lua_pcallk, (lua_State *L, int n, int r, int h, lua_KContext c, lua_KFunction k),
           (L, n, r, h, c, k))
WRAP_VALUE(int, lua_gettable, (lua_State *L, int i), (L, i))
WRAP_VALUE(int, luaL_getmetafield, (lua_State *L, int i, const char *name), (L, i, name))
WRAP_VALUE(const char *, luaL_tolstring, (lua_State *L, int i, size_t *n), (L, i, n))
WRAP_VOID(luaL_traceback, (lua_State *L, lua_State *of, const char *s, int n), (L, of, s, n))
WRAP_VALUE(const char *, luaL_gsub, (lua_State *L, const char *s, const char *p, const char *r),
           (L, s, p, r))
WRAP_BUFFER(void, luaL_addlstring, (luaL_Buffer *b, const char *s, size_t n), (b, s, n))
WRAP_BUFFER(void, luaL_addstring, (luaL_Buffer *b, const char *s), (b, s))
WRAP_BUFFER(void, luaL_addvalue, (luaL_Buffer *b), (b))
WRAP_BUFFER(void, luaL_pushresult, (luaL_Buffer *b), (b))
WRAP_BUFFER(void, luaL_pushresultsize, (luaL_Buffer *b, size_t n), (b, n))

/* Only tables with a metatable can run code, and a number that becomes text is allocated. */
WRAP(int, lua_getfield, lua_State *L, int i, const char *name)
{
    int type;

    storm(L);
    type = __real_lua_getfield(L, i, name);
    storm(L);
    return type;
}

WRAP(const char *, lua_tolstring, lua_State *L, int i, size_t *n)
{
    bool is_number = lua_type(L, i) == LUA_TNUMBER;
    const char *s;

    if (is_number)
        storm(L);
    s = __real_lua_tolstring(L, i, n);
    if (is_number)
        storm(L);
    return s;
}

WRAP(const char *, luaL_checklstring, lua_State *L, int i, size_t *n)
{
    bool is_number = lua_type(L, i) == LUA_TNUMBER;
    const char *s;

    if (is_number)
        storm(L);
    s = __real_luaL_checklstring(L, i, n);
    if (is_number)
        storm(L);
    return s;
}

WRAP(const char *, lua_pushfstring, lua_State *L, const char *format, ...)
{
    const char *s;
    va_list list;

    storm(L);
    va_start(list, format);
    s = lua_pushvfstring(L, format, list);
    va_end(list);
    storm(L);
    return s;
}

WRAP(char *, luaL_buffinitsize, lua_State *L, luaL_Buffer *b, size_t n)
{
    char *to;

    storm(L);
    to = __real_luaL_buffinitsize(L, b, n);
    storm(L);
    return to;
}

WRAP(char *, luaL_prepbuffsize, luaL_Buffer *b, size_t n)
{
    char *to;

    storm(b->L);
    to = __real_luaL_prepbuffsize(b, n);
    storm(b->L);
    return to;
}
