/* native_pg.c -- Postgres connections for tests, driven by one thread.
 * SPDX-License-Identifier: MIT
 *
 * A statement is sent and its answer collected, so that one Lua thread keeps
 * many connections busy; exec() is both in one. Values are the strings the
 * server sends, NULL is false. There is no COPY, no parameter, no notice.
 * No call waits for ever: see statement_seconds. */
#include "native.h"

#include <errno.h>
#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

#define NATIVE_ERROR "native.pg_error"

struct conn {
    PGconn *pg;     /* NULL: closed */
    PGresult *last; /* of the newest statement that has answered: last result, or first error */
    bool pending;   /* a statement was sent and its answer is not complete */
};

/* How long exec() and connect() wait by default, multiplied by $PGCDC_TEST_SLOW. */
static const double statement_seconds = 120, connect_seconds = 30;

static double slow(void)
{
    const char *s = getenv("PGCDC_TEST_SLOW");
    double factor = s ? strtod(s, NULL) : 1;

    return factor > 0 ? factor : 1;
}

static struct conn *check_conn(lua_State *L)
{
    return luaL_checkudata(L, 1, NATIVE_CONN);
}

static struct conn *check_open(lua_State *L)
{
    struct conn *c = check_conn(L);

    luaL_argcheck(L, c->pg, 1, "connection is closed");
    return c;
}

static const char *check_sql(lua_State *L, int arg)
{
    size_t size;
    const char *sql = luaL_checklstring(L, arg, &size);

    luaL_argcheck(L, strlen(sql) == size, arg, "SQL holds a zero byte");
    return sql;
}

/* Waits until the connection's socket is ready; false when it is not by the deadline. */
static bool conn_wait(struct conn *c, short events, double deadline)
{
    struct pollfd set = {.fd = PQsocket(c->pg), .events = events};
    int ready;

    do {
        ready = poll(&set, 1, native_left_ms(deadline));
    } while (ready < 0 && errno == EINTR);
    return ready != 0;
}

/* Takes what has come for the pending statement. True: its answer is complete. Does not block. */
static bool conn_step(struct conn *c)
{
    if (!c->pending)
        return true;
    PQconsumeInput(c->pg); /* a failure shows as an error result below */
    while (!PQisBusy(c->pg)) {
        PGresult *result = PQgetResult(c->pg);
        ExecStatusType status;

        if (!result) {
            c->pending = false;
            return true;
        }
        if (c->last && PQresultStatus(c->last) == PGRES_FATAL_ERROR) {
            PQclear(result); /* "connection lost" after the server's own last words */
            continue;
        }
        PQclear(c->last);
        c->last = result;
        status = PQresultStatus(result);
        if (status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH) {
            PQfinish(c->pg);
            c->pg = NULL;
            c->pending = false;
            return true;
        }
    }
    return false;
}

/* Pushes {sqlstate =, message =, detail =} with a readable tostring(). */
static void push_error(lua_State *L, const char *sqlstate, const char *message, const char *detail)
{                                                                                    /* [-0, +1] */
    size_t size = message ? strlen(message) : 0;

    while (size > 0 && message[size - 1] == '\n')
        size--;
    lua_createtable(L, 0, 3);
    lua_pushstring(L, sqlstate);
    lua_setfield(L, -2, "sqlstate");
    lua_pushlstring(L, message ? message : "", size);
    lua_setfield(L, -2, "message");
    lua_pushstring(L, detail);
    lua_setfield(L, -2, "detail");
    luaL_setmetatable(L, NATIVE_ERROR);
}

static int error_tostring(lua_State *L)
{
    lua_getfield(L, 1, "sqlstate");
    lua_getfield(L, 1, "message");
    lua_pushfstring(L, "%s: %s", luaL_tolstring(L, 2, NULL), luaL_tolstring(L, 3, NULL));
    return 1;
}

static void push_rows(lua_State *L, const PGresult *result)                          /* [-0, +1] */
{
    int rows = PQntuples(result), columns = PQnfields(result), r, k;

    lua_createtable(L, rows, 2);
    for (r = 0; r < rows; r++) {
        lua_createtable(L, columns, 0);
        for (k = 0; k < columns; k++) {
            if (PQgetisnull(result, r, k))
                lua_pushboolean(L, 0);
            else
                lua_pushlstring(L, PQgetvalue(result, r, k), (size_t)PQgetlength(result, r, k));
            lua_rawseti(L, -2, k + 1);
        }
        lua_rawseti(L, -2, r + 1);
    }
    lua_createtable(L, columns, 0);
    for (k = 0; k < columns; k++) {
        lua_pushstring(L, PQfname(result, k));
        lua_rawseti(L, -2, k + 1);
    }
    lua_setfield(L, -2, "columns");
    lua_pushinteger(L, strtoll(PQcmdTuples((PGresult *)result), NULL, 10));
    lua_setfield(L, -2, "count");
}

/* The answer of the complete statement: rows, or nil and the error. Returns how many. */
static int push_answer(lua_State *L, struct conn *c)
{
    PGresult *result = c->last;

    switch (PQresultStatus(result)) {
    case PGRES_TUPLES_OK:
    case PGRES_COMMAND_OK:
    case PGRES_EMPTY_QUERY:
        push_rows(L, result);
        PQclear(c->last);
        c->last = NULL;
        return 1;
    case PGRES_COPY_IN:
    case PGRES_COPY_OUT:
    case PGRES_COPY_BOTH:
        lua_pushnil(L);
        push_error(L, "0A000", "COPY is not for this connection, which is closed now", NULL);
        break;
    default: {
        const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
        const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);

        lua_pushnil(L);
        if (!message)
            message = PQresultErrorMessage(result);
        push_error(L, sqlstate ? sqlstate : "08006", message,
                   PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL));
    }
    }
    PQclear(c->last);
    c->last = NULL;
    return 2;
}

/* Sends argument 2. False: an error is pushed. Raises if the last answer was not collected. */
static bool send_statement(lua_State *L, struct conn *c)
{
    const char *sql = check_sql(L, 2);

    if (c->pending || c->last)
        luaL_error(L, "the answer of the last statement has not been collected");
    if (!PQsendQuery(c->pg, sql)) {
        push_error(L, "08006", PQerrorMessage(c->pg), NULL);
        return false;
    }
    c->pending = true;
    return true;
}

/* Waits for the answer; false when the deadline is over. */
static bool conn_finish(struct conn *c, double deadline)
{
    while (!conn_step(c))
        if (!conn_wait(c, POLLIN, deadline))
            return conn_step(c);
    return true;
}

static void conn_cancel(struct conn *c)
{
    PGcancel *cancel = PQgetCancel(c->pg);
    char error[256];

    if (cancel)
        PQcancel(cancel, error, sizeof error);
    PQfreeCancel(cancel);
}

/* try(sql[, seconds]) -> rows, or nil and {sqlstate =, message =, detail =}. Past its time a
 * statement is cancelled (sqlstate 57014); a server that ignores that too loses the connection. */
static int conn_try(lua_State *L)
{
    struct conn *c = check_open(L);
    double seconds = luaL_optnumber(L, 3, statement_seconds * slow());

    if (!send_statement(L, c)) {
        lua_pushnil(L);
        lua_insert(L, -2);
        return 2;
    }
    if (!conn_finish(c, native_now() + seconds)) {
        conn_cancel(c);
        if (!conn_finish(c, native_now() + 10)) {
            PQfinish(c->pg);
            c->pg = NULL;
            c->pending = false;
            lua_pushnil(L);
            push_error(L, "08006", "no answer, not even to a cancel request", lua_tostring(L, 2));
            return 2;
        }
    }
    return push_answer(L, c);
}

/* exec(sql[, seconds]) -> rows; raises the error of try(). */
static int conn_exec(lua_State *L)
{
    return conn_try(L) == 1 ? 1 : lua_error(L);
}

/* value(sql[, seconds]) -> first column of the first row (false: NULL), or nil without a row. */
static int conn_value(lua_State *L)
{
    conn_exec(L);
    if (lua_rawgeti(L, -1, 1) == LUA_TTABLE)
        lua_rawgeti(L, -1, 1);
    return 1;
}

/* send(sql) -> true, or nil and the error. */
static int conn_send(lua_State *L)
{
    if (!send_statement(L, check_open(L))) {
        lua_pushnil(L);
        lua_insert(L, -2);
        return 2;
    }
    lua_pushboolean(L, 1);
    return 1;
}

/* busy() -> whether a statement was sent whose answer is not complete. Does not block. */
static int conn_busy(lua_State *L)
{
    struct conn *c = check_conn(L);

    lua_pushboolean(L, !conn_step(c));
    return 1;
}

/* collect([seconds = 0]) -> rows, or nil and the error, or nil and "timeout": still running. */
static int conn_collect(lua_State *L)
{
    struct conn *c = check_conn(L);

    luaL_argcheck(L, c->pending || c->last, 1, "nothing was sent");
    if (!conn_finish(c, native_now() + luaL_optnumber(L, 2, 0))) {
        lua_pushnil(L);
        lua_pushliteral(L, "timeout");
        return 2;
    }
    return push_answer(L, c);
}

static int conn_cancel_lua(lua_State *L)
{
    conn_cancel(check_open(L));
    return 0;
}

static int conn_pid(lua_State *L)
{
    lua_pushinteger(L, PQbackendPID(check_open(L)->pg));
    return 1;
}

/* alive() -> whether it is open and, as far as can be told without asking the server, in order. */
static int conn_alive(lua_State *L)
{
    struct conn *c = check_conn(L);

    while (c->pg && !c->pending && conn_wait(c, POLLIN, 0) && PQconsumeInput(c->pg))
        ; /* first its last words, then the end of file */
    lua_pushboolean(L, c->pg && PQstatus(c->pg) == CONNECTION_OK);
    return 1;
}

/* escape(string) -> it as an SQL literal with its quotes. */
static int conn_escape(lua_State *L)
{
    struct conn *c = check_open(L);
    const char *s = check_sql(L, 2);
    char *quoted = PQescapeLiteral(c->pg, s, strlen(s));

    if (!quoted)
        return luaL_error(L, "%s", PQerrorMessage(c->pg));
    lua_pushstring(L, quoted);
    PQfreemem(quoted);
    return 1;
}

/* ident(string) -> it as an SQL identifier with its quotes. */
static int conn_ident(lua_State *L)
{
    struct conn *c = check_open(L);
    const char *s = check_sql(L, 2);
    char *quoted = PQescapeIdentifier(c->pg, s, strlen(s));

    if (!quoted)
        return luaL_error(L, "%s", PQerrorMessage(c->pg));
    lua_pushstring(L, quoted);
    PQfreemem(quoted);
    return 1;
}

static int conn_close(lua_State *L)
{
    struct conn *c = check_conn(L);

    PQclear(c->last);
    PQfinish(c->pg);
    *c = (struct conn){0};
    return 0;
}

static void ignore_notice(void *arg, const char *message)
{
    (void)arg;
    (void)message;
}

/* connect(conninfo[, seconds]) -> connection, or nil and the message. */
static int pg_connect(lua_State *L)
{
    const char *conninfo = luaL_checkstring(L, 1);
    double deadline = native_now() + luaL_optnumber(L, 2, connect_seconds * slow());
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;
    struct conn *c = lua_newuserdatauv(L, sizeof *c, 0);

    *c = (struct conn){0};
    luaL_setmetatable(L, NATIVE_CONN);
    c->pg = PQconnectStart(conninfo);
    if (!c->pg)
        return luaL_error(L, "out of memory");
    PQsetNoticeProcessor(c->pg, ignore_notice, NULL);
    while (PQstatus(c->pg) != CONNECTION_BAD && status != PGRES_POLLING_OK) {
        if (!conn_wait(c, status == PGRES_POLLING_READING ? POLLIN : POLLOUT, deadline)) {
            PQfinish(c->pg);
            c->pg = NULL;
            lua_pushnil(L);
            lua_pushliteral(L, "timeout");
            return 2;
        }
        status = PQconnectPoll(c->pg);
    }
    if (PQstatus(c->pg) != CONNECTION_OK) {
        lua_pushnil(L);
        lua_pushstring(L, PQerrorMessage(c->pg));
        PQfinish(c->pg); /* now, not when the collector comes by: a server counts its connections */
        c->pg = NULL;
        return 2;
    }
    return 1;
}

int native_conn_fds(lua_State *L, int index, int fds[NATIVE_MAX_FDS])
{
    struct conn *c = luaL_checkudata(L, index, NATIVE_CONN);

    if (!c->pg || PQsocket(c->pg) < 0)
        return 0;
    fds[0] = PQsocket(c->pg);
    return 1;
}

static const luaL_Reg methods[] = {
    {"exec", conn_exec},     {"try", conn_try},       {"value", conn_value},
    {"send", conn_send},     {"busy", conn_busy},     {"collect", conn_collect},
    {"pid", conn_pid},       {"alive", conn_alive},   {"cancel", conn_cancel_lua},
    {"escape", conn_escape}, {"ident", conn_ident},   {"close", conn_close},
    {NULL, NULL},
};

void native_open_pg(lua_State *L)
{
    luaL_newmetatable(L, NATIVE_ERROR);
    lua_pushcfunction(L, error_tostring);
    lua_setfield(L, -2, "__tostring");
    luaL_newmetatable(L, NATIVE_CONN);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, conn_close);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, conn_close);
    lua_setfield(L, -2, "__close");
    lua_pop(L, 2);
    lua_pushcfunction(L, pg_connect);
    lua_setfield(L, -2, "connect");
}
