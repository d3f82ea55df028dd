/* db.c -- one connection to a Postgres server.                        floor 1
 * SPDX-License-Identifier: MIT */
#include "db.h"

#include "clock.h"

#include <ctype.h>
#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_TIMEOUT_S 10

struct db {
    PGconn *conn;
    int stop_fd;
    char *row; /* the row that db_copy_next handed out last */
    bool is_doomed; /* the server has said that it closes the connection */
};

/* struct db_rows is a PGresult under a name that floor 2 may know. */
static const PGresult *result(const struct db_rows *r)
{
    return (const PGresult *)r;
}

/* A message of libpq or of the server, without the parts meant for psql:
 * "connection to ... failed: FATAL:  28P01: text\nLOCATION: ..." becomes
 * the sqlstate 28P01 and "connection to ... failed: text". */
static bool fail_with_message(enum err_code code, const char *msg, struct err *e)
{
    const char *end = strstr(msg, "\nLOCATION:");
    const char *mark = NULL;
    size_t len = end != NULL ? (size_t)(end - msg) : strlen(msg);
    char state[6] = "";

    for (const char *p = strstr(msg, ":  "); p != NULL; p = strstr(p + 1, ":  ")) {
        size_t n = strspn(p + 3, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ");

        if (n == 5 && strncmp(p + 8, ": ", 2) == 0) {
            memcpy(state, p + 3, 5);
            mark = p;
            break;
        }
    }
    if (mark != NULL) {
        const char *word = mark; /* back over the severity, in whatever language */

        while (word > msg && !isspace((unsigned char)word[-1]))
            word--;
        err_set(e, code, "%.*s%.*s", (int)(word - msg), msg, (int)(len - (size_t)(mark + 10 - msg)),
                mark + 10);
        memcpy(e->sqlstate, state, sizeof state);
        return false;
    }
    /* the first line tells; what follows are guesses at the reason */
    if (strncmp(msg, "FATAL:  ", 8) == 0)
        msg += 8;
    return err_set(e, code, "%.*s", (int)strcspn(msg, "\n"), msg);
}

static bool fail_connection(struct db *db, struct err *e)
{
    const char *msg = PQerrorMessage(db->conn);

    return fail_with_message(ERR_CONNECTION, *msg != '\0' ? msg : "the connection is closed", e);
}

/* Waits until the socket can be read (or written), the deadline (<0: none)
 * has passed, or the program stops. */
static bool wait_socket(struct db *db, bool for_write, int64_t deadline_ms, struct err *e)
{
    for (;;) {
        struct pollfd fds[2] = {
            { .fd = PQsocket(db->conn), .events = for_write ? POLLOUT : POLLIN },
            { .fd = db->stop_fd, .events = POLLIN },
        };
        int64_t left = deadline_ms < 0 ? -1 : deadline_ms - clock_mono_ms();
        int n;

        if (deadline_ms >= 0 && left <= 0)
            return err_set(e, ERR_CONNECTION, "the server did not answer in time");
        n = poll(fds, 2, (int)left);
        if (n < 0 && errno != EINTR)
            return err_set(e, ERR_INTERNAL, "poll: %s", strerror(errno));
        if (n > 0 && fds[1].revents != 0)
            return err_set(e, ERR_STOPPED, "stopping");
        if (n > 0 && fds[0].revents != 0)
            return true;
    }
}

static bool looks_like_conninfo(const char *s)
{
    return strchr(s, '=') != NULL || strncmp(s, "postgres://", 11) == 0 ||
           strncmp(s, "postgresql://", 13) == 0;
}

/* A URI whose password was not %-escaped is cut in the wrong places. (A host that begins
 * with @ is an abstract socket.) */
static bool is_garbled(const PQconninfoOption *options)
{
    for (const PQconninfoOption *o = options; o->keyword != NULL; o++) {
        const char *v = o->val;

        if (v == NULL)
            continue;
        if (strcmp(o->keyword, "port") == 0 && v[strspn(v, "0123456789,")] != '\0')
            return true;
        if (strcmp(o->keyword, "host") == 0 && *v != '\0' && strchr(v + 1, '@') != NULL)
            return true;
        if (strcmp(o->keyword, "dbname") == 0 && strchr(v, '@') != NULL)
            return true;
    }
    return false;
}

/* What libpq would say of a string that it cannot use can quote a piece of a password, so such
 * strings never get there. What is no conninfo is a database's name, without : and @. */
static bool check_conninfo(const char *conninfo, struct err *e)
{
    PQconninfoOption *options = NULL;
    char *msg = NULL;
    bool ok;

    if (looks_like_conninfo(conninfo)) {
        options = PQconninfoParse(conninfo, &msg);
        if (options == NULL && msg == NULL)
            return err_memory(e);
        PQfreemem(msg);
        ok = options != NULL && !is_garbled(options);
        PQconninfoFree(options);
    } else {
        ok = strpbrk(conninfo, ":@") == NULL;
    }
    return ok || err_set(e, ERR_USAGE,
                         "the connection string cannot be read (it is not shown, since it may hold "
                         "a password): write host=... dbname=... user=..., or postgres://..., in "
                         "which : @ / in a password are written %%3A %%40 %%2F");
}

static int64_t connect_timeout_ms(PGconn *conn)
{
    PQconninfoOption *options = PQconninfo(conn);
    long seconds = 0, hosts = 1;

    for (PQconninfoOption *o = options; o != NULL && o->keyword != NULL; o++) {
        if (o->val == NULL)
            continue;
        if (strcmp(o->keyword, "connect_timeout") == 0)
            seconds = strtol(o->val, NULL, 10);
        if (strcmp(o->keyword, "host") == 0)
            for (const char *p = o->val; *p != '\0'; p++)
                hosts += *p == ',';
    }
    PQconninfoFree(options);
    return (seconds > 0 ? seconds : CONNECT_TIMEOUT_S) * hosts * 1000;
}

static bool finish_connect(struct db *db, struct err *e)
{
    int64_t deadline = clock_mono_ms() + connect_timeout_ms(db->conn);
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;

    while (status != PGRES_POLLING_OK) {
        if (!wait_socket(db, status == PGRES_POLLING_WRITING, deadline, e))
            return false;
        status = PQconnectPoll(db->conn);
        if (status == PGRES_POLLING_FAILED) {
            fail_connection(db, e);
            if (e->sqlstate[0] != '\0')
                e->code = ERR_SQL;
            return false;
        }
    }
    return true;
}

/* Notices are for people; but the last word of a server, said while nobody asks, is one too. */
static void on_notice(void *arg, const PGresult *res)
{
    struct db *db = arg;
    const char *severity = PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED);

    if (severity != NULL && (strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0))
        db->is_doomed = true;
}

struct db *db_open(const char *conninfo, int stop_fd, struct err *e)
{
    /* what comes before dbname is a default, which the conninfo in it overrides; what comes
     * behind it overrides that */
    static const char *const keywords[] = { "fallback_application_name", "keepalives_idle",
        "keepalives_interval", "keepalives_count", "tcp_user_timeout", "dbname", "client_encoding",
        NULL };
    const char *values[] = { "pgcdc-lua", "30", "10", "3", "60000", conninfo, "UTF8", NULL };
    struct db *db;

    if (!check_conninfo(conninfo, e))
        return NULL;
    db = calloc(1, sizeof *db);
    if (db == NULL) {
        err_memory(e);
        return NULL;
    }
    db->stop_fd = stop_fd;
    db->conn = PQconnectStartParams(keywords, values, 1);
    if (db->conn == NULL) {
        err_memory(e);
        goto fail;
    }
    /* so that a refusal, and the last word of a server that goes, carry their SQLSTATE, which
     * libpq hides otherwise */
    PQsetErrorVerbosity(db->conn, PQERRORS_VERBOSE);
    PQsetNoticeReceiver(db->conn, on_notice, db);
    if (PQstatus(db->conn) == CONNECTION_BAD ? !fail_connection(db, e) : !finish_connect(db, e))
        goto fail;
    return db;
fail:
    db_close(db);
    return NULL;
}

void db_close(struct db *db)
{
    if (db == NULL)
        return;
    PQfreemem(db->row);
    PQfinish(db->conn);
    free(db);
}

int db_version(const struct db *db)
{
    return PQserverVersion(db->conn);
}

/* Keeps the reason and tells a refusal from a broken connection. */
static bool fail_result(struct db *db, const PGresult *res, struct err *e)
{
    const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
    const char *msg = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
    const char *detail = PQresultErrorField(res, PG_DIAG_MESSAGE_DETAIL);
    const char *hint = PQresultErrorField(res, PG_DIAG_MESSAGE_HINT);

    if (state == NULL || msg == NULL) {
        fail_with_message(PQstatus(db->conn) == CONNECTION_BAD ? ERR_CONNECTION : ERR_INTERNAL,
                          PQresultErrorMessage(res), e);
        return false;
    }
    err_set(e, ERR_SQL, "%s%s%s%s%s", msg, detail != NULL ? "; " : "", detail != NULL ? detail : "",
            hint != NULL ? "; " : "", hint != NULL ? hint : "");
    strncpy(e->sqlstate, state, sizeof e->sqlstate - 1);
    e->sqlstate[sizeof e->sqlstate - 1] = '\0';
    return false;
}

/* The next result, or NULL when the statement is over (<ok> stays true) or
 * when there will be none (<ok> is false). */
static PGresult *next_result(struct db *db, bool *ok, struct err *e)
{
    while (PQisBusy(db->conn)) {
        if (!wait_socket(db, false, -1, e)) {
            *ok = false;
            return NULL;
        }
        if (!PQconsumeInput(db->conn)) {
            *ok = fail_connection(db, e);
            return NULL;
        }
    }
    return PQgetResult(db->conn);
}

bool db_run(struct db *db, const char *sql, struct db_rows **rows, size_t n, struct err *e)
{
    bool ok = true, waiting = true;
    PGresult *res;
    size_t got = 0;

    if (!PQsendQuery(db->conn, sql))
        return fail_connection(db, e);
    /* read on after an error too: a statement never starts on an unread answer */
    while ((res = next_result(db, &waiting, e)) != NULL) {
        ExecStatusType status = PQresultStatus(res);

        if (ok && status == PGRES_TUPLES_OK && got < n) {
            rows[got++] = (struct db_rows *)res;
            continue;
        }
        if (ok && status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
            ok = fail_result(db, res, e);
        PQclear(res);
    }
    if (!waiting)
        return false;
    if (ok && got < n)
        return err_set(e, ERR_INTERNAL, "the server answered %zu results where %zu were asked", got,
                       n);
    return ok;
}

void db_rollback(struct db *db)
{
    struct err e;
    PGTransactionStatusType status = PQtransactionStatus(db->conn);

    if (status == PQTRANS_INTRANS || status == PQTRANS_INERROR)
        (void)!db_run(db, "ROLLBACK", NULL, 0, &e); /* the next call meets a broken connection */
}

/* Sends a COPY, which the server must answer with <expected>. */
static bool start_copy(struct db *db, const char *sql, ExecStatusType expected, struct err *e)
{
    bool waiting = true;
    PGresult *res;

    if (!PQsendQuery(db->conn, sql))
        return fail_connection(db, e);
    res = next_result(db, &waiting, e);
    if (!waiting)
        return false;
    if (PQresultStatus(res) == expected) {
        PQclear(res);
        return true;
    }
    if (res == NULL || PQresultStatus(res) == PGRES_COMMAND_OK ||
        PQresultStatus(res) == PGRES_TUPLES_OK)
        err_set(e, ERR_INTERNAL, "COPY was not answered with data");
    else
        fail_result(db, res, e);
    while (res != NULL) {
        PQclear(res);
        res = next_result(db, &waiting, e);
    }
    return false;
}

bool db_copy(struct db *db, const char *sql, struct err *e)
{
    return start_copy(db, sql, PGRES_COPY_OUT, e);
}

/* The data is over: what does the server say of the statement as a whole? */
static enum db_copy finish_copy(struct db *db, struct err *e)
{
    bool ok = true, waiting = true;
    PGresult *res;

    while ((res = next_result(db, &waiting, e)) != NULL) {
        if (ok && PQresultStatus(res) != PGRES_COMMAND_OK)
            ok = fail_result(db, res, e);
        PQclear(res);
    }
    return ok && waiting ? DB_COPY_END : DB_COPY_FAILED;
}

enum db_copy db_copy_next(struct db *db, const char **row, size_t *len, struct err *e)
{
    int n;

    PQfreemem(db->row);
    db->row = NULL;
    while ((n = PQgetCopyData(db->conn, &db->row, 1)) == 0) {
        if (!wait_socket(db, false, -1, e))
            return DB_COPY_FAILED;
        if (!PQconsumeInput(db->conn)) {
            fail_connection(db, e);
            return DB_COPY_FAILED;
        }
    }
    if (n == -1)
        return finish_copy(db, e);
    if (n < 0) {
        fail_connection(db, e);
        return DB_COPY_FAILED;
    }
    *row = db->row;
    *len = (size_t)n - (n > 0 && db->row[n - 1] == '\n');
    return DB_COPY_ROW;
}

/* ---- one statement, with parameters ---- */

/* A COPY that nobody asked for: the connection is in a state that is not worth undoing. */
static bool refuse_copy(struct db *db, struct err *e)
{
    PQfinish(db->conn);
    db->conn = NULL;
    return err_set(e, ERR_SQL, "COPY is not possible here");
}

/* Reads all that the server has to say; the last result stays in *last (owned, or NULL). */
static bool read_answer(struct db *db, PGresult **last, struct err *e)
{
    bool ok = true, waiting = true;
    PGresult *res;

    *last = NULL;
    while ((res = next_result(db, &waiting, e)) != NULL) {
        switch (PQresultStatus(res)) {
        case PGRES_TUPLES_OK:
        case PGRES_COMMAND_OK:
        case PGRES_EMPTY_QUERY:
            PQclear(*last);
            *last = res;
            continue;
        case PGRES_COPY_IN:
        case PGRES_COPY_OUT:
        case PGRES_COPY_BOTH:
            PQclear(res);
            PQclear(*last);
            *last = NULL;
            return refuse_copy(db, e);
        default:
            if (ok)
                ok = fail_result(db, res, e);
            PQclear(res);
        }
    }
    if (ok && waiting && *last != NULL)
        return true;
    PQclear(*last);
    *last = NULL;
    return ok && waiting ? err_set(e, ERR_INTERNAL, "the server gave no answer") : false;
}

bool db_query(struct db *db, const char *sql, const char *const *params, size_t n,
              struct db_rows **rows, uint64_t *affected, struct err *e)
{
    PGresult *res;

    if (!(n == 0 ? PQsendQuery(db->conn, sql)
                 : PQsendQueryParams(db->conn, sql, (int)n, NULL, params, NULL, NULL, 0)))
        return fail_connection(db, e);
    if (!read_answer(db, &res, e))
        return false;
    *affected = strtoull(PQcmdTuples(res), NULL, 10);
    *rows = (struct db_rows *)res;
    return true;
}

bool db_describe(struct db *db, const char *sql, uint32_t *types, size_t max, size_t *n,
                 struct err *e)
{
    PGresult *res;

    if (!PQsendPrepare(db->conn, "", sql, 0, NULL))
        return fail_connection(db, e);
    if (!read_answer(db, &res, e))
        return false;
    PQclear(res);
    if (!PQsendDescribePrepared(db->conn, ""))
        return fail_connection(db, e);
    if (!read_answer(db, &res, e))
        return false;
    *n = (size_t)PQnparams(res);
    for (size_t i = 0; i < *n && i < max; i++)
        types[i] = PQparamtype(res, (int)i);
    PQclear(res);
    return true;
}

bool db_is_alive(struct db *db)
{
    struct pollfd fd = { .fd = PQsocket(db->conn), .events = POLLIN };

    /* what may be there is the server's last word, a notice, or the end */
    while (PQstatus(db->conn) == CONNECTION_OK && poll(&fd, 1, 0) > 0 && PQconsumeInput(db->conn))
        if (PQisBusy(db->conn))
            return false;
    return PQstatus(db->conn) == CONNECTION_OK && !db->is_doomed;
}

bool db_wait_notify(struct db *db, int64_t deadline_ms, char *text, size_t size, struct err *e)
{
    PGnotify *n;

    *text = '\0';
    while ((n = PQnotifies(db->conn)) == NULL) {
        if (!wait_socket(db, false, deadline_ms, e))
            return deadline_ms >= 0 && clock_mono_ms() >= deadline_ms && e->code == ERR_CONNECTION;
        if (!PQconsumeInput(db->conn))
            return fail_connection(db, e);
    }
    strncat(text, n->extra, size - 1);
    PQfreemem(n);
    return true;
}

enum db_transaction db_transaction(const struct db *db)
{
    switch (PQtransactionStatus(db->conn)) {
    case PQTRANS_IDLE:
        return DB_IDLE;
    case PQTRANS_INTRANS:
        return DB_OPEN;
    case PQTRANS_INERROR:
        return DB_ABORTED;
    case PQTRANS_ACTIVE:
    case PQTRANS_UNKNOWN:
        break;
    }
    return DB_LOST;
}

/* ---- COPY ... FROM STDIN ---- */

bool db_load(struct db *db, const char *sql, struct err *e)
{
    return start_copy(db, sql, PGRES_COPY_IN, e);
}

bool db_load_put(struct db *db, const char *data, size_t len, struct err *e)
{
    return PQputCopyData(db->conn, data, (int)len) == 1 || fail_connection(db, e);
}

/* Where in the data the mistake is, is in the context: "COPY t, line 3, column c: "x"". */
static void add_context(const PGresult *res, struct err *e)
{
    const char *context = PQresultErrorField(res, PG_DIAG_CONTEXT);
    struct err why = *e;

    if (context == NULL || why.code != ERR_SQL)
        return;
    err_set(e, why.code, "%s; %s", why.msg, context);
    memcpy(e->sqlstate, why.sqlstate, sizeof why.sqlstate);
}

bool db_load_end(struct db *db, uint64_t *rows, struct err *e)
{
    bool ok = true, waiting = true;
    PGresult *res;

    if (PQputCopyEnd(db->conn, NULL) != 1)
        return fail_connection(db, e);
    while ((res = next_result(db, &waiting, e)) != NULL) {
        if (PQresultStatus(res) == PGRES_COMMAND_OK) {
            *rows = strtoull(PQcmdTuples(res), NULL, 10);
        } else if (ok) {
            ok = fail_result(db, res, e);
            add_context(res, e);
        }
        PQclear(res);
    }
    return ok && waiting;
}

int db_rows_count(const struct db_rows *r)
{
    return PQntuples(result(r));
}

int db_rows_columns(const struct db_rows *r)
{
    return PQnfields(result(r));
}

const char *db_rows_name(const struct db_rows *r, int col)
{
    return PQfname(result(r), col);
}

uint32_t db_rows_type(const struct db_rows *r, int col)
{
    return PQftype(result(r), col);
}

size_t db_rows_length(const struct db_rows *r, int row, int col)
{
    return (size_t)PQgetlength(result(r), row, col);
}

const char *db_rows_text(const struct db_rows *r, int row, int col)
{
    return PQgetisnull(result(r), row, col) ? NULL : PQgetvalue(result(r), row, col);
}

uint64_t db_rows_u64(const struct db_rows *r, int row, int col)
{
    const char *s = db_rows_text(r, row, col);

    return s != NULL ? strtoull(s, NULL, 10) : 0;
}

bool db_rows_bool(const struct db_rows *r, int row, int col)
{
    const char *s = db_rows_text(r, row, col);
    return s != NULL && *s == 't';
}

void db_rows_free(struct db_rows *r)
{
    PQclear((PGresult *)r);
}
