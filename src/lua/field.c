/* field.c -- text of the server as a Lua value, for the kinds that have the same text everywhere.
 * SPDX-License-Identifier: MIT */
#include "lua/field.h"

#include "base/text.h"

#include <stdlib.h>

static lua_Integer to_integer(struct copytext_field f)
{
    const char *p = f.p;
    int64_t n;

    return text_read_i64(&p, f.p + f.len, &n) ? n : 0;
}

static double to_float(struct copytext_field f)
{
    char text[64];
    size_t n = f.len < sizeof text ? f.len : sizeof text - 1;

    memcpy(text, f.p, n);
    text[n] = '\0';
    return strtod(text, NULL);
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
        lua_pushboolean(L, f.len == 1 && f.p[0] == 't');
        return true;
    case TYPES_INT:
        lua_pushinteger(L, to_integer(f));
        return true;
    case TYPES_FLOAT:
        lua_pushnumber(L, to_float(f));
        return true;
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
