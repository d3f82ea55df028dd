/* api_copy_value.c -- Lua values as fields of COPY text.
 * SPDX-License-Identifier: MIT */
#include "lua/api_copy_value.h"

#include "base/text.h"
#include "lua/change_row.h"
#include "lua/json.h"
#include "lua/script.h"

#include <lauxlib.h>
#include <math.h>

static void put_json(lua_State *L, struct buf *b)
{
    struct buf *scratch = script_scratch(L);

    json_put(L, -1, scratch);
    json_check(L, scratch);
    copytext_escape(b, scratch->data, scratch->len);
}

static void put_float(struct buf *b, double d)
{
    char text[TYPES_FLOAT_TEXT];

    if (isfinite(d)) {
        types_float_text(d, text);
        buf_puts(b, text);
        return;
    }
    buf_puts(b, isnan(d) ? "NaN" : d > 0 ? "Infinity" : "-Infinity");
}

static void put_string(lua_State *L, enum types_kind kind, struct buf *b)
{
    size_t len;
    const char *s = lua_tolstring(L, -1, &len);
    char *to;

    if (kind != TYPES_BYTEA) {
        copytext_escape(b, s, len);
        return;
    }
    buf_puts(b, "\\\\x");
    to = buf_reserve(b, 2 * len);
    json_check(L, b);
    *text_put_hex(to, s, len) = '\0';
    b->len += 2 * len;
}

void api_copy_value_put(lua_State *L, const struct rowtype_column *column, struct buf *b)
{
    enum types_kind kind = column != NULL ? column->kind : TYPES_TEXT;
    int type = lua_type(L, -1);

    if (column != NULL ? change_row_is_null(L, column) : type == LUA_TNIL || json_null_at(L, -1)) {
        buf_puts(b, "\\N");
    } else if (kind == TYPES_JSON) {
        put_json(L, b);
    } else if (type == LUA_TBOOLEAN) {
        buf_puts(b, lua_toboolean(L, -1) ? "true" : "false");
    } else if (type == LUA_TNUMBER && lua_isinteger(L, -1)) {
        buf_printf(b, "%lld", (long long)lua_tointeger(L, -1));
    } else if (type == LUA_TNUMBER) {
        put_float(b, lua_tonumber(L, -1));
    } else if (type == LUA_TSTRING) {
        put_string(L, kind, b);
    } else {
        put_json(L, b);
    }
}
