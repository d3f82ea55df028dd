/* api_csv.c -- rows as lines of CSV.
 *
 * Each row is written as JSON first, then the members of that object are read: so only the encoders
 * of JSON know what values look like. The JSON is our own and well formed.
 *
 * SPDX-License-Identifier: MIT */
#include "lua/api_csv.h"

#include "base/text.h"
#include "lua/change.h"
#include "lua/change_row.h"
#include "lua/json.h"
#include "lua/script.h"

#include <lauxlib.h>
#include <string.h>

/* A part of the JSON text; NULL: there is none. */
struct span {
    const char *p;
    size_t len;
};

/* ---- the row ---- */

/* Replaces the first argument, if it is a change, by the first of row, old and key that it has. */
static void find_row(lua_State *L)
{
    static const char *const fields[] = { "row", "old", "key" };

    luaL_checktype(L, 1, LUA_TTABLE);
    if (!change_is(L, 1))
        return;
    for (size_t i = 0; i < 3; i++) {
        if (lua_getfield(L, 1, fields[i]) == LUA_TTABLE) {
            lua_replace(L, 1);
            return;
        }
        lua_pop(L, 1);
    }
}

/* Returns the members of the row's JSON, valid until the scratch buffer is used again. */
static const char *open_row(lua_State *L)
{
    struct buf *b;

    find_row(L);
    b = script_scratch(L);
    json_put(L, 1, b);
    if (b->data[0] != '{')
        luaL_error(L, "csv: a value must be a change, or a table with named fields");
    return b->data + 1;
}

/* ---- JSON ---- */

static const char *skip_blanks(const char *p)
{
    return p + strspn(p, " \t\r\n");
}

/* Returns what follows the string that begins at <p>. */
static const char *skip_string(const char *p)
{
    for (p++; *p != '"'; p++)
        if (*p == '\\')
            p++;
    return p + 1;
}

static const char *skip_value(const char *p)
{
    int depth = 0;

    do {
        if (*p == '"') {
            p = skip_string(p);
        } else if (*p == '{' || *p == '[') {
            depth++;
            p++;
        } else if (*p == '}' || *p == ']') {
            depth--;
            p++;
        } else if (depth > 0) {
            p++;
        } else {
            return p + strcspn(p, ",}] \t\r\n");
        }
    } while (depth > 0);
    return p;
}

/* Reads the next member; false if there is none. */
static bool next_member(const char **at, struct span *name, struct span *value)
{
    const char *p = *at;

    p = skip_blanks(p);
    if (*p == ',')
        p = skip_blanks(p + 1);
    if (*p == '}')
        return false;
    name->p = p + 1;
    p = skip_string(p);
    name->len = (size_t)(p - 1 - name->p);
    p = skip_blanks(skip_blanks(p) + 1); /* the colon */
    value->p = p;
    p = skip_value(p);
    value->len = (size_t)(p - value->p);
    *at = p;
    return true;
}

static unsigned read_hex(const char *p)
{
    unsigned n = 0;

    for (int i = 0; i < 4; i++)
        n = n << 4 | (unsigned)text_hex_digit(p[i] | 0x20);
    return n;
}

static void add_utf8(luaL_Buffer *out, unsigned c)
{
    if (c < 0x80) {
        luaL_addchar(out, (char)c);
        return;
    }
    if (c < 0x800) {
        luaL_addchar(out, (char)(0xc0 | c >> 6));
    } else if (c < 0x10000) {
        luaL_addchar(out, (char)(0xe0 | c >> 12));
        luaL_addchar(out, (char)(0x80 | (c >> 6 & 0x3f)));
    } else {
        luaL_addchar(out, (char)(0xf0 | c >> 18));
        luaL_addchar(out, (char)(0x80 | (c >> 12 & 0x3f)));
        luaL_addchar(out, (char)(0x80 | (c >> 6 & 0x3f)));
    }
    luaL_addchar(out, (char)(0x80 | (c & 0x3f)));
}

/* Appends what the escape at <p> means. Returns what follows it. */
static const char *add_escape(luaL_Buffer *out, const char *p, bool doubles_quotes)
{
    static const char letters[] = "bfnrt", meanings[] = "\b\f\n\r\t";
    const char *letter = strchr(letters, p[1]);
    unsigned c;

    if (p[1] != 'u') {
        if (p[1] == '"' && doubles_quotes)
            luaL_addchar(out, '"');
        luaL_addchar(out, letter != NULL ? meanings[letter - letters] : p[1]);
        return p + 2;
    }
    c = read_hex(p + 2);
    p += 6;
    if (c >= 0xd800 && c < 0xdc00 && p[0] == '\\' && p[1] == 'u') {
        c = 0x10000 + ((c - 0xd800) << 10) + (read_hex(p + 2) - 0xdc00);
        p += 6;
    }
    if (c == '"' && doubles_quotes)
        luaL_addchar(out, '"');
    add_utf8(out, c);
    return p;
}

/* Appends the text that the inside of a JSON string stands for. */
static void add_text(luaL_Buffer *out, struct span s, bool doubles_quotes)
{
    const char *p = s.p, *end = s.p + s.len;

    while (p < end) {
        const char *stop = memchr(p, '\\', (size_t)(end - p));
        size_t n = (size_t)((stop != NULL ? stop : end) - p);

        luaL_addlstring(out, p, n);
        p += n;
        if (p < end)
            p = add_escape(out, p, doubles_quotes);
    }
}

static void push_text(lua_State *L, struct span s)             /* [-0, +1] */
{
    luaL_Buffer out;

    luaL_buffinit(L, &out);
    add_text(&out, s, false);
    luaL_pushresult(&out);
}

/* ---- fields ---- */

/* True also for the empty text, since an empty field is NULL, and for the text \., which ends a
 * COPY in old versions. */
static bool needs_quotes(struct span s)
{
    if (s.len == 0 || (s.len == 3 && memcmp(s.p, "\\\\.", 3) == 0))
        return true;
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] == ',')
            return true;
        if (s.p[i] == '\\' && strchr("\"nru", s.p[++i]) != NULL)
            return true;
    }
    return false;
}

static void add_string(luaL_Buffer *out, struct span s)
{
    bool quotes = needs_quotes(s);

    if (quotes)
        luaL_addchar(out, '"');
    add_text(out, s, quotes);
    if (quotes)
        luaL_addchar(out, '"');
}

/* Numbers and booleans stand as they are; objects and lists are quoted. */
static void add_other(luaL_Buffer *out, struct span s)
{
    if (*s.p != '{' && *s.p != '[') {
        luaL_addlstring(out, s.p, s.len);
        return;
    }
    luaL_addchar(out, '"');
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] == '"')
            luaL_addchar(out, '"');
        luaL_addchar(out, s.p[i]);
    }
    luaL_addchar(out, '"');
}

static void add_field(luaL_Buffer *out, struct span s)
{
    if (s.p == NULL)
        return;
    if (*s.p == '"')
        add_string(out, (struct span){ s.p + 1, s.len - 2 });
    else
        add_other(out, s);
}

/* ---- what Lua calls ---- */

static int csv_names(lua_State *L)
{
    const char *at = open_row(L);
    struct span name, value;

    lua_createtable(L, 0, 0);
    for (lua_Integer i = 1; next_member(&at, &name, &value); i++) {
        push_text(L, name);
        lua_rawseti(L, -2, i);
    }
    return 1;
}

static bool is_name(lua_State *L, lua_Integer i, struct span name)
{
    size_t len;
    const char *s;
    bool is;

    lua_rawgeti(L, 2, i);
    s = lua_tolstring(L, -1, &len);
    is = s != NULL && len == name.len && memcmp(s, name.p, len) == 0;
    lua_pop(L, 1);
    return is;
}

/* Returns the place of a name in the list at index 2, most likely <i>; 0: it is not there. */
static lua_Integer place_of(lua_State *L, struct span name, lua_Integer i, lua_Integer n)
{
    bool escaped = memchr(name.p, '\\', name.len) != NULL;

    if (escaped) {
        push_text(L, name);
        name.p = lua_tolstring(L, -1, &name.len); /* kept alive by the stack */
    }
    if (i > n || !is_name(L, i, name)) {
        for (i = n; i > 0 && !is_name(L, i, name); i--)
            ;
    }
    if (escaped)
        lua_pop(L, 1);
    return i;
}

/* True if null is the document of a JSON column, which is not NULL. */
static bool is_json_null(lua_State *L, struct span name, struct span value)
{
    bool is;

    if (value.len != 4 || memcmp(value.p, "null", 4) != 0 || !change_row_is(L, 1))
        return false;
    push_text(L, name);
    is = lua_gettable(L, 1) != LUA_TNIL; /* C code of ours, which leaves the scratch alone */
    lua_pop(L, 1);
    return is;
}

static int csv_line(lua_State *L)
{
    struct span *spans, name, value;
    lua_Integer n, others = 0;
    const char *at;
    luaL_Buffer out;

    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 2);
    n = (lua_Integer)lua_rawlen(L, 2);
    at = open_row(L);
    spans = lua_newuserdatauv(L, ((size_t)n + 1) * sizeof *spans, 0);
    memset(spans, 0, ((size_t)n + 1) * sizeof *spans);
    for (lua_Integer k = 1; next_member(&at, &name, &value); k++) {
        lua_Integer i = place_of(L, name, k, n);

        if (i == 0)
            others++;
        else if (value.p[0] != 'n' || is_json_null(L, name, value))
            spans[i] = value;
    }
    luaL_buffinit(L, &out);
    for (lua_Integer i = 1; i <= n; i++) {
        if (i > 1)
            luaL_addchar(&out, ',');
        add_field(&out, spans[i]);
    }
    luaL_pushresult(&out);
    lua_pushinteger(L, others);
    return 2;
}

void api_csv_export(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "csv_names", csv_names }, { "csv_line", csv_line }, { NULL, NULL },
    };

    luaL_setfuncs(L, functions, 0);
}
