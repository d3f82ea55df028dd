/* api_tagged.c -- rows of a script's own as lines of a COPY, before the types of their columns are
 * known.
 * SPDX-License-Identifier: MIT */
#include "lua/api_tagged.h"

#include "base/text.h"
#include "lua/api_copy.h"
#include "lua/api_copy_lines.h"
#include "lua/json.h"
#include "lua/row_class.h"
#include "lua/script.h"
#include "pg/copytext.h"

#include <lauxlib.h>
#include <math.h>
#include <string.h>

#define MOST_FIELDS 100000 /* they are on the stack of Lua at once */

static bool is_text(const char *s, size_t len)
{
    for (size_t i = 0, n; i < len; i += n)
        if (s[i] == '\0' || (n = text_utf8_length(s + i, len - i)) == 0)
            return false;
    return true;
}

static void put_string(lua_State *L, struct buf *b)
{
    size_t len;
    const char *s = lua_tolstring(L, -1, &len);
    char *to;

    if (is_text(s, len)) {
        buf_putc(b, 's');
        copytext_escape(b, s, len);
        return;
    }
    buf_putc(b, 'b');
    to = buf_reserve(b, 2 * len + 1);
    json_check(L, b);
    *text_put_hex(to, s, len) = '\0';
    b->len += 2 * len;
}

/* Appends a number. NaN and the infinities, which JSON does not have, are written as text. */
static void put_number(lua_State *L, struct buf *b)
{
    char text[TYPES_FLOAT_TEXT];
    lua_Number d = lua_tonumber(L, -1);
    int is_whole;
    lua_Integer n = lua_tointegerx(L, -1, &is_whole);

    if (is_whole) {
        buf_printf(b, "j" LUA_INTEGER_FMT, n);
    } else if (isfinite(d)) {
        types_float_text(d, text);
        buf_putc(b, 'j');
        buf_puts(b, text);
    } else {
        buf_puts(b, isnan(d) ? "sNaN" : d > 0 ? "sInfinity" : "s-Infinity");
    }
}

/* Appends the value on top of the stack. */
static void put_value(lua_State *L, struct buf *b)
{
    struct buf *scratch;

    switch (lua_type(L, -1)) {
    case LUA_TNIL:
        buf_puts(b, "\\N");
        return;
    case LUA_TSTRING:
        put_string(L, b);
        return;
    case LUA_TNUMBER:
        put_number(L, b);
        return;
    default:
        if (json_null_at(L, -1)) {
            buf_puts(b, "\\N");
            return;
        }
        scratch = script_scratch(L);
        json_put(L, -1, scratch);
        json_check(L, scratch);
        buf_putc(b, 'j');
        copytext_escape(b, scratch->data, scratch->len);
    }
}

/* Appends the document that the row at index 3 has under a name, as the server sent it. False if it
 * has none there, or the script has changed it. */
static bool put_document(lua_State *L, const char *name, struct buf *b)
{
    struct rowdata *d = rowdata_find(L, 3);
    const struct row_class *class = d != NULL ? row_class_at(L, 3) : NULL;

    for (size_t i = 0; class != NULL && i < class->rowtype->n_row; i++) {
        struct copytext_field f;

        if (class->rowtype->columns[i].kind != TYPES_JSON ||
            strcmp(class->rowtype->columns[i].name, name) != 0)
            continue;
        if (d->has_side && api_copy_push_touched(L, class, 3, d, i))
            return false;
        f = rowdata_field(L, class, rowdata_at(L, 3, class), i);
        buf_puts(b, copytext_is_null(f) ? "" : "j");
        buf_add(b, f.p, f.len);
        return true;
    }
    return false;
}

/* Pushes the field <i> of the list at index 2, as text of the line: code of the script may run
 * before its buffer is taken. */
static void push_field(lua_State *L, lua_Integer i)            /* [-0, +1] */
{
    int top = lua_gettop(L);
    struct buf *b = script_line(L);

    lua_rawgeti(L, 2, i);                                      /* name */
    if (!put_document(L, luaL_checkstring(L, top + 1), b)) {
        lua_settop(L, top + 1);
        lua_pushvalue(L, top + 1);
        row_class_get(L, 3);                                   /* name value */
        if (lua_isnil(L, -1) && lua_istable(L, 4)) {
            lua_pushvalue(L, top + 1);
            row_class_get(L, 4);
        }
        b = script_line(L);
        put_value(L, b);
    }
    json_check(L, b);
    lua_pushlstring(L, b->data, b->len);
    lua_replace(L, top + 1);
    lua_settop(L, top + 1);
}

static int copy_tagged(lua_State *L)
{
    struct api_copy_lines *lines = api_copy_lines_at(L, 1);
    int last = lua_gettop(L);
    size_t len;
    lua_Integer n;
    const char *s;
    struct buf *b;

    for (int i = 2; i <= 3; i++)
        luaL_checktype(L, i, LUA_TTABLE);
    n = (lua_Integer)lua_rawlen(L, 2);
    luaL_argcheck(L, n < MOST_FIELDS, 2, "too many fields");
    luaL_checkstack(L, (int)n + 20, "columns");
    for (lua_Integer i = 1; i <= n; i++)
        push_field(L, i);
    for (int i = 5; i <= last; i++)
        luaL_checkstring(L, i); /* a number becomes text */
    b = script_line(L);
    for (int i = 1; i <= (int)n; i++) {
        s = lua_tolstring(L, last + i, &len);
        if (i > 1)
            buf_putc(b, '\t');
        buf_add(b, s, len);
    }
    for (int i = 5; i <= last; i++) {
        s = lua_tolstring(L, i, &len);
        buf_putc(b, '\t');
        copytext_escape(b, s, len);
    }
    json_check(L, b);
    api_copy_lines_add(L, lines, b->data, b->len, false);
    return 0;
}

void api_tagged_export(lua_State *L)
{
    lua_pushcfunction(L, copy_tagged);
    lua_setfield(L, -2, "copy_tagged");
}
