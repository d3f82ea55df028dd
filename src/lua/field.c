/* field.c -- text of the server as a Lua value, for the kinds that have the same text everywhere.
 * SPDX-License-Identifier: MIT */
#include "lua/field.h"

#include "base/text.h"

#include <stdlib.h>

static bool push_integer(lua_State *L, struct copytext_field f)
{
    const char *p = f.p;
    int64_t n;

    if (!text_read_i64(&p, f.p + f.len, &n) || p != f.p + f.len)
        return false;
    lua_pushinteger(L, n);
    return true;
}

static bool push_float(lua_State *L, struct copytext_field f)
{
    char text[64], *end;
    double d;

    if (f.len == 0 || f.len >= sizeof text)
        return false;
    memcpy(text, f.p, f.len);
    text[f.len] = '\0';
    d = strtod(text, &end);
    if (end != text + f.len)
        return false;
    lua_pushnumber(L, d);
    return true;
}

static bool push_boolean(lua_State *L, struct copytext_field f)
{
    if (f.len != 1 || (*f.p != 't' && *f.p != 'f'))
        return false;
    lua_pushboolean(L, *f.p == 't');
    return true;
}

static bool push_timestamp(lua_State *L, struct copytext_field f)
{
    char text[128];

    if (f.len + 3 > sizeof text)
        return false;
    lua_pushlstring(L, text, types_timestamp(f, text));
    return true;
}

bool field_push(lua_State *L, enum types_kind kind, struct copytext_field f)
{
    switch (kind) {
    case TYPES_BOOL:
        return push_boolean(L, f);
    case TYPES_INT:
        return push_integer(L, f);
    case TYPES_FLOAT:
        return push_float(L, f);
    case TYPES_TIMESTAMP:
        return push_timestamp(L, f);
    case TYPES_BYTEA:
    case TYPES_JSON:
    case TYPES_NUMERIC:
    case TYPES_TEXT:
        break;
    }
    return false;
}
