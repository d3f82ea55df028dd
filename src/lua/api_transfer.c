/* api_transfer.c -- states in other homes than that of this run.
 * SPDX-License-Identifier: MIT */
#include "lua/api_transfer.h"

#include "lua/script.h"
#include "state/database.h"
#include "state/schema.h"
#include "state/transfer.h"

#include <inttypes.h>
#include <lauxlib.h>

/* Throws the message of s->cause: the failure then counts as that error, see script_call. */
static int throw_cause(lua_State *L)
{
    lua_pushstring(L, script_of(L)->cause.msg);
    return lua_error(L);
}

/* The home that arguments <i> and <i> + 1 name. What it points to stays on the stack. */
static struct transfer_home read_home(lua_State *L, int i)     /* [-0, +1] */
{
    struct script *s = script_of(L);
    struct transfer_home h = { luaL_checkstring(L, i), luaL_checkstring(L, i + 1), s->o.stop_fd };

    if (s->o.is_sandboxed)
        luaL_error(L, "the states of others cannot be reached in the sandbox");
    if (database_is_named(h.place))
        h.place = script_push_conninfo(L, i);
    else
        lua_pushvalue(L, i);
    return h;
}

static int state_is_database(lua_State *L)
{
    lua_pushboolean(L, database_is_named(luaL_checkstring(L, 1)));
    return 1;
}

static int state_copy(lua_State *L)
{
    struct transfer_home from = read_home(L, 1), to = read_home(L, 3);
    bool is_old;

    if (!transfer_copy(&from, &to, &is_old, &script_of(L)->cause))
        return throw_cause(L);
    lua_pushboolean(L, !is_old);
    return 1;
}

static int state_remove(lua_State *L)
{
    struct transfer_home h = read_home(L, 1);

    return transfer_remove(&h, &script_of(L)->cause) ? 0 : throw_cause(L);
}

/* ---- reading: no Lua runs while a store is open ---- */

/* Values, one after the other: a length and the bytes; NONE: nil; END: the record is over. */
#define NONE SIZE_MAX
#define END (SIZE_MAX - 1)

static void put_slice(struct buf *b, struct store_slice text)
{
    size_t len = text.p != NULL ? text.len : NONE;

    buf_add(b, &len, sizeof len);
    buf_add(b, text.p, text.p != NULL ? text.len : 0);
}

static bool put_end(struct buf *b, struct err *e)
{
    size_t end = END;

    buf_add(b, &end, sizeof end);
    return buf_ok(b) || err_memory(e);
}

static void put_text(struct buf *b, const char *text)
{
    put_slice(b, (struct store_slice){ text, strlen(text) });
}

static void put_number(struct buf *b, uint64_t n)
{
    char text[24];

    snprintf(text, sizeof text, "%" PRIu64, n);
    put_text(b, text);
}

static bool add_record(void *arg, const struct store_record *r, struct err *e)
{
    put_slice(arg, r->kind);
    put_slice(arg, r->name);
    put_slice(arg, r->key);
    put_slice(arg, r->value);
    return put_end(arg, e);
}

static bool add_row(void *arg, const char *table, const struct kept_row *r, struct err *e)
{
    put_text(arg, table);
    put_number(arg, (uint64_t)r->id);
    put_number(arg, r->now.change);
    put_number(arg, r->now.xid);
    put_number(arg, kept_row_flags(&r->now));
    put_slice(arg, r->key);
    put_slice(arg, r->now.row);
    return put_end(arg, e);
}

/* A userdata that owns the text, since f may throw. */
static int free_text(lua_State *L)
{
    buf_fini(lua_touserdata(L, 1));
    return 0;
}

static struct buf *push_text(lua_State *L)                     /* [-0, +1] */
{
    struct buf *b = lua_newuserdatauv(L, sizeof *b, 0);

    buf_init(b, SIZE_MAX / 2);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, free_text);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    return b;
}

static int state_read(lua_State *L)
{
    struct transfer_home h = read_home(L, 1);
    struct buf *b = push_text(L);
    const struct transfer_visit visit = { .record = add_record, .row = add_row, .arg = b };

    luaL_checktype(L, 3, LUA_TFUNCTION);
    if (!transfer_read(&h, &visit, &script_of(L)->cause))
        return throw_cause(L);
    for (size_t at = 0; at < b->len; ) {
        size_t len;
        int n = 0;

        lua_pushvalue(L, 3);
        for (; memcpy(&len, b->data + at, sizeof len), at += sizeof len, len != END; n++) {
            if (len == NONE) {
                lua_pushnil(L);
                continue;
            }
            lua_pushlstring(L, b->data + at, len);
            at += len;
        }
        lua_call(L, n, 0);
    }
    return 0;
}

static int state_schema(lua_State *L)
{
    lua_createtable(L, 5, 0);
    for (int i = 0; schema_statements[i] != NULL; i++) {
        lua_pushstring(L, schema_statements[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_pushliteral(L, SCHEMA_RIGHTS);
    lua_pushliteral(L, SCHEMA_TABLES);
    return 3;
}

static int state_look(lua_State *L)
{
    struct script *s = script_of(L);
    const struct database_options o = { .conninfo = s->o.database, .pipeline = s->o.pipeline,
                                        .stop_fd = s->o.stop_fd };
    struct buf *b = script_scratch(L);
    const char *name, *text;
    struct err e;
    bool ok;

    if (o.conninfo == NULL)
        return 0;
    ok = database_look(&o, b, &e);
    if (!ok && e.code != ERR_STATE && e.code != ERR_USAGE)
        s->cause = e;
    if (!ok && s->cause.code != ERR_NONE)
        return throw_cause(L);
    name = b->data != NULL ? b->data : "";
    text = ok ? name + strlen(name) + 1 : e.msg;
    lua_pushboolean(L, ok);
    lua_pushstring(L, text);
    lua_pushstring(L, name);
    return 3;
}

void api_transfer_export(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "state_is_database", state_is_database }, { "state_copy", state_copy },
        { "state_read", state_read }, { "state_remove", state_remove },
        { "state_look", state_look }, { "state_schema", state_schema }, { NULL, NULL },
    };

    luaL_setfuncs(L, functions, 0);
}
