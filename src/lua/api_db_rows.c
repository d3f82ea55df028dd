/* api_db_rows.c -- the rows that a statement gives, as Lua tables.
 * SPDX-License-Identifier: MIT */
#include "lua/api_db_rows.h"

#include "base/text.h"
#include "lua/field.h"
#include "lua/json.h"

#include <lauxlib.h>

/* Pushes the bytes of "\x6869". (A session sets bytea_output = hex.) */
static void push_bytes(lua_State *L, const char *s, size_t len)
{
    luaL_Buffer b;
    size_t n = len >= 2 ? (len - 2) / 2 : 0;
    char *to = luaL_buffinitsize(L, &b, n);

    for (size_t i = 0; i < n; i++)
        to[i] = (char)((unsigned)text_hex_digit(s[2 + 2 * i]) << 4 |
                       (unsigned)text_hex_digit(s[3 + 2 * i]));
    luaL_pushresultsize(&b, n);
}

static void push_document(lua_State *L, const char *s, size_t len, const char *column)
{
    char why[128];

    if (!json_push(L, s, len, why, sizeof why))
        luaL_error(L, "column %s holds JSON that cannot be decoded: %s", column, why);
}

/* Pushes the value of column <c>, of kind <kind>, in row <i>; nil for NULL. */
static void push_value(lua_State *L, const struct result *r, size_t i, size_t c,
                       enum types_kind kind)
{
    size_t len;
    const char *s = result_value(r, i, c, &len);

    if (s == NULL)
        lua_pushnil(L);
    else if (kind == TYPES_BYTEA)
        push_bytes(L, s, len);
    else if (kind == TYPES_JSON)
        push_document(L, s, len, result_name(r, c));
    else if (!field_push(L, kind, (struct copytext_field){ s, len }))
        lua_pushlstring(L, s, len);
}

/* True for types whose values the Lua half takes as they are. */
static bool is_known(uint32_t oid, enum types_kind kind)
{
    /* "char", name, text, oid, unknown, money, bpchar, varchar, date, time, interval, timetz,
     * record, uuid */
    static const uint32_t texts[] = { 18, 19, 25, 26, 705, 790, 1042, 1043, 1082, 1083, 1186, 1266,
                                      2249, 2950 };

    if (kind != TYPES_TEXT)
        return true;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (texts[i] == oid)
            return true;
    return false;
}

/* Pushes the names of the columns; fills in their kinds, and the list at <odd>. */
static void push_names(lua_State *L, const struct result *r, enum types_kind *kinds, int odd)
{
    lua_Integer n_odd = 0;

    for (size_t c = 0; c < result_columns(r); c++) {
        struct types_facts facts = { .oid = result_type(r, c) };

        kinds[c] = types_kind_of(&facts);
        lua_pushstring(L, result_name(r, c));                  /* ... name */
        if (!is_known(facts.oid, kinds[c])) {
            lua_createtable(L, 0, 2);
            lua_pushvalue(L, -2);
            lua_setfield(L, -2, "name");
            lua_pushinteger(L, facts.oid);
            lua_setfield(L, -2, "type");
            lua_rawseti(L, odd, ++n_odd);
        }
    }
}

/* Pushes row <i>; the names of the columns are at <names> and above. */
static void push_row(lua_State *L, const struct result *r, size_t i, const enum types_kind *kinds,
                     int names)
{
    size_t n = result_columns(r);

    lua_createtable(L, 0, (int)n);
    for (size_t c = 0; c < n; c++) {
        lua_pushvalue(L, names + (int)c);
        push_value(L, r, i, c, kinds[c]);
        lua_rawset(L, -3);
    }
}

void api_db_rows_push(lua_State *L, const struct result *r)
{
    size_t n = result_columns(r), count = result_count(r);
    int odd;
    enum types_kind *kinds = lua_newuserdatauv(L, (n + 1) * sizeof *kinds, 0);

    luaL_checkstack(L, (int)n + 10, "columns");
    lua_createtable(L, (int)count, 0);                            /* kinds rows */
    lua_createtable(L, 0, 0);                                  /* kinds rows odd */
    odd = lua_gettop(L);
    push_names(L, r, kinds, odd);                              /* kinds rows odd names ... */
    for (size_t i = 0; i < count; i++) {
        push_row(L, r, i, kinds, odd + 1);
        lua_rawseti(L, odd - 1, (lua_Integer)i + 1);
    }
    lua_settop(L, odd);
    lua_remove(L, odd - 2);                                    /* rows odd */
}
