/* api_db.c -- connections that scripts and sinks use.
 * SPDX-License-Identifier: MIT */
#include "lua/api_db.h"

#include "capture/sql_parts.h"
#include "lua/api_db_rows.h"
#include "lua/guard.h"
#include "lua/json.h"
#include "lua/script.h"
#include "pg/conninfo.h"
#include "pg/session.h"
#include "pg/sqlstate.h"
#include "pg/types.h"

#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECTION "pgcdc.connection"
#define ROWS "pgcdc.rows"
#define MAX_PARAMETERS 65535
#define ANSWER_MAX ((size_t)1 << 30)

struct connection {
    struct conn *conn; /* NULL: closed */
    struct log *log;
    bool is_brief; /* calls that wait fail at once when the program is to stop */
    struct connect_orphan left; /* what it left at the server when it was closed */
};

static const char *code_name(enum err_code code)
{
    switch (code) {
    case ERR_CONNECTION:
    case ERR_STOPPED:
        return "connection";
    case ERR_USAGE:
        return "usage";
    default:
        return "sql";
    }
}

int api_db_fail(lua_State *L, const struct err *e)
{
    lua_pushnil(L);
    lua_pushstring(L, e->msg);
    lua_pushstring(L, e->sqlstate);
    lua_pushstring(L, code_name(e->code));
    return 4;
}

/* What a stop does to a call. (While the script loads, no change is in hand that is to be finished:
 * so the call ends at once.) */
static enum conn_stop on_stop(lua_State *L, bool is_brief)
{
    return is_brief || !script_of(L)->is_loaded ? CONN_STOP_AT_ONCE : CONN_STOP_GENTLY;
}

struct conn *api_db_check(lua_State *L, int index)
{
    struct connection *c = luaL_checkudata(L, index, CONNECTION);

    if (c->conn == NULL)
        luaL_error(L, "the connection is closed");
    conn_on_stop(c->conn, on_stop(L, c->is_brief));
    return c->conn;
}

/* Returns the statement at index 2; throws if it holds a zero byte, which would end it early. */
static const char *check_sql(lua_State *L)
{
    size_t len;
    const char *sql = luaL_checklstring(L, 2, &len);

    luaL_argcheck(L, strlen(sql) == len, 2, "a statement must not hold a zero byte");
    return sql;
}

/* For conn_watch: logs that a sink waits long for its target. */
static void log_wait(void *arg, const struct conn_wait *w)
{
    const struct connection *c = arg;

    log_text(c->log, w->work == LIVENESS_LOCKED && !w->is_over ? LOG_WARN : LOG_INFO, w->text,
             "target", conn_database(c->conn));
}

static int open_db(lua_State *L)
{
    const char *conninfo;
    bool is_brief = lua_toboolean(L, 2);
    struct connection *former = lua_isnoneornil(L, 3) ? NULL : luaL_checkudata(L, 3, CONNECTION);
    struct connection *c;
    struct err e;

    lua_settop(L, 3);
    conninfo = script_push_conninfo(L, 1);
    c = lua_newuserdatauv(L, sizeof *c, 0);
    *c = (struct connection){ .log = script_of(L)->o.log, .is_brief = is_brief };
    luaL_setmetatable(L, CONNECTION);
    beat_serve(script_of(L)->beat, true);
    c->conn = conn_open(conninfo, script_of(L)->o.stop_fd, on_stop(L, is_brief),
                        former != NULL ? &former->left : NULL, &e);
    beat_serve(script_of(L)->beat, false);
    if (c->conn != NULL)
        conn_set_beat(c->conn, script_of(L)->beat);
    if (c->conn != NULL && !is_brief)
        conn_watch(c->conn, log_wait, c);
    return c->conn != NULL ? 1 : api_db_fail(L, &e);
}

/* check(conninfo) -> nil, or why it cannot be used: not in the sandbox, or a variable is not set */
static int check_db(lua_State *L)
{
    const char *conninfo = luaL_checkstring(L, 1);
    struct buf *b = script_scratch(L);
    struct err e;

    if (script_of(L)->o.is_sandboxed ? conninfo_confine(b, conninfo, &e)
                                     : conninfo_expand(b, conninfo, &e))
        lua_pushnil(L);
    else
        lua_pushstring(L, e.msg);
    return 1;
}

/* db_user(conninfo) -> the role that it names, or nil */
static int user_of(lua_State *L)
{
    const char *conninfo;
    struct buf *b;

    lua_settop(L, 1);
    conninfo = script_push_conninfo(L, 1);
    b = script_scratch(L);
    conninfo_user(b, conninfo);
    json_check(L, b);
    if (b->len > 0)
        lua_pushlstring(L, b->data, b->len);
    else
        lua_pushnil(L);
    return 1;
}

/* place(connection) -> the database and the role */
static int place(lua_State *L)
{
    lua_pushstring(L, conn_database(api_db_check(L, 1)));
    lua_pushstring(L, conn_role(api_db_check(L, 1)));
    return 2;
}

static int close_db(lua_State *L)
{
    struct connection *c = luaL_checkudata(L, 1, CONNECTION);

    conn_close(c->conn, &c->left);
    c->conn = NULL;
    return 0;
}

/* ---- parameters ---- */

/* Returns the text of the parameter on top of the stack, which it replaces; NULL for NULL. */
static const char *parameter(lua_State *L, lua_Integer n)
{
    const char *s;
    char text[TYPES_FLOAT_TEXT];
    double d;
    size_t len;

    switch (lua_type(L, -1)) {
    case LUA_TNIL:
        return NULL;
    case LUA_TBOOLEAN:
        lua_pushstring(L, lua_toboolean(L, -1) ? "true" : "false");
        break;
    case LUA_TNUMBER:
        d = lua_tonumber(L, -1);
        if (lua_isinteger(L, -1))
            lua_pushfstring(L, "%I", lua_tointeger(L, -1));
        else if (isfinite(d)) {
            types_float_text(d, text);
            lua_pushstring(L, text);
        } else {
            lua_pushstring(L, isnan(d) ? "NaN" : d > 0 ? "Infinity" : "-Infinity");
        }
        break;
    case LUA_TSTRING:
        lua_pushvalue(L, -1);
        break;
    default:
        if (json_null_at(L, -1))
            return NULL;
        luaL_error(L, "parameter $%I is a %s", n, luaL_typename(L, -1));
    }
    lua_remove(L, -2);
    s = lua_tolstring(L, -1, &len);
    if (strlen(s) != len)
        luaL_error(L, "parameter $%I is text that holds a zero byte, which Postgres cannot take",
                   n);
    return s;
}

/* Returns the texts of the parameters in the table at <index>, in a userdata. That and all the
 * texts are left on the stack, so that nothing is collected before the statement was sent. */
static const char *const *parameters(lua_State *L, int index, lua_Integer n)
{
    const char **list = lua_newuserdatauv(L, ((size_t)n + 1) * sizeof *list, 0);

    luaL_checkstack(L, (int)n + 10, "parameters");
    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(L, index, i);
        list[i - 1] = parameter(L, i);
    }
    return list;
}

/* ---- statements ---- */

static int drop_rows(lua_State *L)
{
    struct result **box = luaL_checkudata(L, 1, ROWS);

    result_free(*box);
    *box = NULL;
    return 0;
}

/* Sends the statement that run or send got as arguments. Leaves on the stack what keeps the texts
 * of the parameters alive. The connection is looked up last: a finalizer may close it while they
 * are made. */
static bool send_statement(lua_State *L, struct err *e)
{
    const char *sql = check_sql(L);
    lua_Integer n = luaL_optinteger(L, 3, 0);
    const char *const *list;

    luaL_argcheck(L, n >= 0 && n <= MAX_PARAMETERS, 3, "too many parameters");
    luaL_argcheck(L, n == 0 || lua_istable(L, 4), 4, "parameters are a table");
    list = parameters(L, 4, n);
    return conn_send(api_db_check(L, 1), sql, list, (size_t)n, e);
}

static int start(lua_State *L)
{
    struct err e;

    lua_settop(L, 4);
    if (!send_statement(L, &e))
        return api_db_fail(L, &e);
    lua_pushboolean(L, true);
    return 1;
}

/* How many bytes the rows of an answer may take before the script gets them. */
static size_t most_bytes(lua_State *L)
{
    size_t max = script_of(L)->o.max_memory;

    return max > 0 && max < ANSWER_MAX ? max : ANSWER_MAX;
}

/* Pushes a box for an answer. [-0, +1] */
static struct result **push_box(lua_State *L)
{
    struct result **box = lua_newuserdatauv(L, sizeof *box, 0);

    *box = NULL;
    luaL_setmetatable(L, ROWS);
    return box;
}

/* Waits for the answer and returns what the methods answer and run do. The box at <box_at> is
 * empty. */
static int take_answer(lua_State *L, int box_at)
{
    struct result **box = lua_touserdata(L, box_at);
    uint64_t affected = 0;
    struct err e;

    if (!conn_answer(api_db_check(L, 1), most_bytes(L), box, &affected, &e))
        return api_db_fail(L, &e);
    lua_settop(L, box_at);
    api_db_rows_push(L, *box);                                 /* box rows odd */
    result_free(*box);
    *box = NULL;
    lua_pushinteger(L, (lua_Integer)affected);
    lua_insert(L, -2);
    return 3;
}

static int answer(lua_State *L)
{
    lua_settop(L, 1);
    push_box(L);
    return take_answer(L, 2);
}

/* Between the statement and its answer nothing is allocated: a finalizer could use the
 * connection. */
static int has_answer(lua_State *L)
{
    lua_pushboolean(L, conn_has_answer(api_db_check(L, 1)));
    return 1;
}

static int run(lua_State *L)
{
    struct err e;

    lua_settop(L, 4);
    push_box(L);                                               /* conn sql n parameters box */
    return send_statement(L, &e) ? take_answer(L, 5) : api_db_fail(L, &e);
}

static int describe(lua_State *L)
{
    const char *sql = check_sql(L);
    uint32_t types[1024];
    size_t n, max = sizeof types / sizeof *types;
    struct err e;

    if (!conn_describe(api_db_check(L, 1), sql, types, max, &n, &e))
        return api_db_fail(L, &e);
    n = n < max ? n : max;
    lua_createtable(L, (int)n, 0);
    for (size_t i = 0; i < n; i++) {
        lua_pushinteger(L, types[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

/* ---- the rest ---- */

static int load(lua_State *L)
{
    const char *sql = check_sql(L);
    struct err e;

    if (!conn_load(api_db_check(L, 1), sql, &e))
        return api_db_fail(L, &e);
    lua_pushboolean(L, true);
    return 1;
}

static int finish(lua_State *L)
{
    uint64_t rows = 0;
    struct err e;

    if (!conn_load_end(api_db_check(L, 1), &rows, &e))
        return api_db_fail(L, &e);
    lua_pushinteger(L, (lua_Integer)rows);
    return 1;
}

static int is_alive(lua_State *L)
{
    struct connection *c = luaL_checkudata(L, 1, CONNECTION);

    lua_pushboolean(L, c->conn != NULL && conn_is_alive(c->conn));
    return 1;
}

static int transaction(lua_State *L)
{
    static const char *const names[] = { "idle", "open", "aborted", "lost" };
    struct connection *c = luaL_checkudata(L, 1, CONNECTION);

    lua_pushstring(L, names[c->conn != NULL ? conn_transaction(c->conn) : CONN_LOST]);
    return 1;
}

static int version(lua_State *L)
{
    lua_pushinteger(L, conn_version(api_db_check(L, 1)));
    return 1;
}

/* session(use, version) -> SQL; see pg/session.h. */
static int session(lua_State *L)
{
    static const char *const names[] = { "client", "target", "verify", NULL };
    static const enum session_use uses[] = { SESSION_CLIENT, SESSION_TARGET, SESSION_VERIFY };
    struct buf *b = script_scratch(L);

    session_put(b, uses[luaL_checkoption(L, 1, NULL, names)], (int)luaL_checkinteger(L, 2));
    json_check(L, b);
    lua_pushlstring(L, b->data, b->len);
    return 1;
}

/* parts_sql(first) -> SQL; see capture/sql_parts.h. */
static int parts_sql(lua_State *L)
{
    struct buf *b = script_scratch(L);

    sql_parts_of(b, luaL_checkstring(L, 1));
    json_check(L, b);
    lua_pushlstring(L, b->data, b->len);
    return 1;
}

/* sqlstate_passes(state) -> true if a sink may try again what failed with it. */
static int passes(lua_State *L)
{
    lua_pushboolean(L, sqlstate_passes(luaL_checkstring(L, 1), SQLSTATE_TARGET));
    return 1;
}

void api_db_export(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "db_open", open_db }, { "db_check", check_db }, { "db_user", user_of },
        { "session", session },
        { "sqlstate_passes", passes }, { "parts_sql", parts_sql },
        { NULL, NULL },
    };
    static const luaL_Reg methods[] = {
        { "run", run }, { "send", start }, { "answer", answer }, { "has_answer", has_answer },
        { "describe", describe },
        { "load", load }, { "finish", finish },
        { "alive", is_alive }, { "transaction", transaction }, { "version", version },
        { "place", place },
        { "close", close_db }, { NULL, NULL },
    };

    luaL_newmetatable(L, ROWS);
    guard_set(L, -1, ROWS);
    lua_pushcfunction(L, drop_rows);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    luaL_newmetatable(L, CONNECTION);
    guard_set(L, -1, CONNECTION);
    lua_pushcfunction(L, close_db);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, close_db);
    lua_setfield(L, -2, "__close");
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    luaL_setfuncs(L, functions, 0);
}
