/* json_exact.c -- numbers of JSON texts that Lua has no number for.
 *
 * Registry: &exact_key -> a table with weak keys, from tables to tables from keys to texts; it is
 * made when the first of these numbers is met.
 *
 * SPDX-License-Identifier: MIT */
#include "lua/json_exact.h"

#include "base/text.h"
#include "pg/document.h"
#include "pg/types.h"

#include <lauxlib.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define SAFE_DIGITS 15 /* a double gives so many back, whatever they are */

static const char exact_key;

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* True if an exponent of three digits or more stands at <p>. */
static bool is_far(const char *p, const char *end)
{
    if (p < end && (*p == '+' || *p == '-'))
        p++;
    return end - p >= 3 && is_digit(p[0]) && is_digit(p[1]) && is_digit(p[2]);
}

bool json_exact_may_be_in(const char *text, size_t len)
{
    size_t run = 0;

    for (size_t i = 0; i < len; i++) {
        if (is_digit(text[i])) {
            if (++run > SAFE_DIGITS)
                return true;
        } else if (text[i] == 'e' || text[i] == 'E') {
            if (run > 0 && is_far(text + i + 1, text + len))
                return true;
            run = 0;
        } else if (text[i] != '.') {
            run = 0;
        }
    }
    return false;
}

/* ---- numbers ---- */

#define POWER_MAX (LONG_MAX / 4) /* far beyond any number that Lua has */

/* A decimal number: its digits without zeros at either end, and the power of ten by which they are
 * multiplied if a point stands after the first of them. */
struct decimal {
    const char *p, *end; /* the digits are in between, with perhaps a point */
    long power;
    bool is_zero;
};

static struct decimal read_decimal(const char *p, const char *end)
{
    struct decimal d = { .power = 0 };
    const char *e = p, *point;

    if (p < end && *p == '-')
        p++, e++;
    while (e < end && *e != 'e' && *e != 'E')
        e++;
    if (e < end)
        d.power = strtol(e + 1, NULL, 10);
    if (d.power > POWER_MAX || d.power < -POWER_MAX) /* so that what follows cannot overflow */
        d.power = d.power > 0 ? POWER_MAX : -POWER_MAX;
    point = memchr(p, '.', (size_t)(e - p));
    d.power += (point != NULL ? point : e) - p;
    for (; p < e && (*p == '0' || *p == '.'); p++) /* zeros on either side of the point */
        d.power -= *p == '0';
    for (; e > p && (e[-1] == '0' || e[-1] == '.'); e--)
        ;
    d.p = p;
    d.end = e;
    d.is_zero = p == e;
    return d;
}

static const char *skip_point(const char *p, const char *end)
{
    return p < end && *p == '.' ? p + 1 : p;
}

/* True if both texts are the same number, apart from the sign. */
static bool same_value(const char *a, size_t a_len, const char *b, size_t b_len)
{
    struct decimal x = read_decimal(a, a + a_len), y = read_decimal(b, b + b_len);

    if (x.is_zero || y.is_zero)
        return x.is_zero && y.is_zero;
    if (x.power != y.power)
        return false;
    for (;;) {
        x.p = skip_point(x.p, x.end);
        y.p = skip_point(y.p, y.end);
        if (x.p == x.end || y.p == y.end)
            return x.p == x.end && y.p == y.end;
        if (*x.p++ != *y.p++)
            return false;
    }
}

/* True if Lua has a number for this JSON number. */
static bool has_number(const char *p, size_t len)
{
    char text[512], shown[TYPES_FLOAT_TEXT];
    int64_t n;
    double d;

    if (len >= sizeof text)
        return false;
    memcpy(text, p, len);
    text[len] = '\0';
    if (strpbrk(text, ".eE") == NULL)
        return text_is_i64(text, &n);
    d = strtod(text, NULL);
    if (d - d != 0) /* infinite */
        return false;
    types_float_text(d, shown);
    return same_value(text, len, shown, strlen(shown));
}

/* ---- marking ---- */

static const char *skip_string(const char *p, const char *end)
{
    for (p++; p < end && *p != '"'; p++)
        if (*p == '\\' && p + 1 < end)
            p++;
    return p < end ? p + 1 : end;
}

/* True if what stands at <p> makes what stood before it the key of an object. */
static bool is_key(const char *p, const char *end)
{
    while (p < end && strchr(" \t\r\n", *p) != NULL)
        p++;
    return p < end && *p == ':';
}

void json_exact_push_marked(lua_State *L, const char *text, size_t len)
{
    static const char nul[] = "\"\\u0000";
    const char *p = text, *end = text + len, *stop;
    luaL_Buffer b;

    luaL_buffinit(L, &b);
    while (p < end) {
        if (*p == '"') {
            stop = skip_string(p, end);
            if ((size_t)(stop - p) >= sizeof nul && memcmp(p, nul, sizeof nul - 1) == 0) {
                luaL_addstring(&b, "\"\\u0000s");
                p++;
            }
            luaL_addlstring(&b, p, (size_t)(stop - p));
        } else if (*p == '-' || is_digit(*p)) {
            for (stop = p + 1; stop < end && (is_digit(*stop) || strchr("+-.eE", *stop)); stop++)
                ;
            if (document_is_number(p, (size_t)(stop - p)) && !is_key(stop, end) &&
                !has_number(p, (size_t)(stop - p))) {
                luaL_addstring(&b, "\"\\u0000n");
                luaL_addlstring(&b, p, (size_t)(stop - p));
                luaL_addchar(&b, '"');
            } else {
                luaL_addlstring(&b, p, (size_t)(stop - p));
            }
        } else {
            stop = p + 1;
            luaL_addchar(&b, *p);
        }
        p = stop;
    }
    luaL_pushresult(&b);
}

bool json_exact_push_string(lua_State *L, const char *s, size_t len)
{
    bool is_number = len > 1 && s[0] == '\0' && s[1] == 'n';

    if (len > 1 && s[0] == '\0' && (is_number || s[1] == 's'))
        lua_pushlstring(L, s + 2, len - 2);
    else
        lua_pushlstring(L, s, len);
    return is_number;
}

/* ---- what is remembered ---- */

/* Pushes the table of all that is remembered; nil if there is none and <makes_it> is false. */
static void push_all(lua_State *L, bool makes_it)
{
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &exact_key) != LUA_TNIL || !makes_it)
        return;
    lua_pop(L, 1);
    lua_createtable(L, 0, 1);                                  /* all */
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "k");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &exact_key);
}

void json_exact_remember(lua_State *L, int table)
{
    int key = lua_gettop(L);

    table = lua_absindex(L, table);
    luaL_checkstack(L, 6, "numbers");
    push_all(L, true);                                         /* text key all */
    lua_pushvalue(L, table);
    if (lua_rawget(L, -2) == LUA_TNIL) {                       /* text key all nil */
        lua_pop(L, 1);
        lua_createtable(L, 0, 1);
        lua_pushvalue(L, table);
        lua_pushvalue(L, -2);
        lua_rawset(L, -4);                                     /* text key all of */
    }
    lua_pushvalue(L, key);
    lua_pushvalue(L, key - 1);
    lua_rawset(L, -3);
    lua_settop(L, key);
}

void json_exact_push_of(lua_State *L, int table)
{
    table = lua_absindex(L, table);
    push_all(L, false);                                        /* all, or nil */
    if (lua_isnil(L, -1))
        return;
    lua_pushvalue(L, table);
    lua_rawget(L, -2);
    lua_remove(L, -2);
}

void json_exact_carry(lua_State *L, int from, int to)
{
    int top = lua_gettop(L);

    from = lua_absindex(L, from);
    to = lua_absindex(L, to);
    luaL_checkstack(L, 6, "numbers");
    json_exact_push_of(L, from);                               /* of, or nil */
    if (lua_istable(L, -1)) { /* no script has that table */
        for (lua_pushnil(L); lua_next(L, top + 1); ) {         /* of key text */
            lua_pushvalue(L, -2);                              /* of key text key */
            json_exact_remember(L, to);
            lua_pop(L, 2);
        }
    }
    lua_settop(L, top);
}
