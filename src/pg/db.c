/* db.c -- one connection to a Postgres server.
 * SPDX-License-Identifier: MIT */
#include "pg/db.h"

#include "base/clock.h"
#include "pg/liveness.h"

#include <errno.h>
#include <libpq-fe.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

struct db {
    PGconn *conn;
    char *conninfo;
    int stop_fd;
    enum db_stop on_stop;
    bool is_stopping; /* and was told so */
    bool is_lost;     /* no answer is to come */
    struct liveness liveness;
    const struct connect_orphan *left; /* while it connects; may be NULL */
    char *row; /* the row that db_copy_next handed out last */
    bool is_doomed; /* the server has said that it closes the connection */
};

static bool fail_connection(struct db *db, struct err *e)
{
    const char *msg = PQerrorMessage(db->conn);

    return connect_fail(ERR_CONNECTION, *msg != '\0' ? msg : "the connection is closed", e);
}

/* Instead of a deadline: as long as the server is at work for us (see liveness.h), and for ever. */
#define WHILE_AT_WORK (-1)
#define FOR_EVER (-2)
#define STOPPING_CONNECT_MS 5000 /* a program that is to stop tries no longer to connect */

/* The program is to stop. False if that ends the wait. */
static bool heed_stop(struct db *db, int64_t *deadline_ms, struct err *e)
{
    if (db->on_stop == DB_STOP_AT_ONCE)
        return err_set(e, ERR_STOPPED, "stopping");
    db->is_stopping = true;
    if (*deadline_ms == WHILE_AT_WORK)
        liveness_hurry(&db->liveness);
    else if (*deadline_ms == FOR_EVER || *deadline_ms > clock_mono_ms() + STOPPING_CONNECT_MS)
        *deadline_ms = clock_mono_ms() + STOPPING_CONNECT_MS;
    return true;
}

/* Waits until the socket is ready for one of <events>, or the deadline has passed, or the server is
 * known not to answer, or the program stops. */
static bool wait_socket(struct db *db, short events, int64_t deadline_ms, struct err *e)
{
    bool is_told = false;

    if (deadline_ms == WHILE_AT_WORK)
        liveness_begin_wait(&db->liveness);
    for (;;) {
        struct pollfd fds[3] = {
            { .fd = PQsocket(db->conn), .events = events },
            { .fd = is_told ? -1 : db->stop_fd, .events = POLLIN },
            { .fd = -1 },
        };
        int64_t left = deadline_ms < 0 ? -1 : deadline_ms - clock_mono_ms();
        int n;

        if (deadline_ms >= 0 && left <= 0)
            return err_set(e, ERR_CONNECTION, "the server did not answer in time");
        if (deadline_ms == WHILE_AT_WORK && !liveness_step(&db->liveness, &fds[2], &left, e)) {
            db->is_lost = true;
            if (db->liveness.is_there)
                liveness_end_backend(&db->liveness); /* it would hold its locks until it finds out */
            return false;
        }
        n = poll(fds, 3, left > INT_MAX ? INT_MAX : (int)left);
        if (n < 0 && errno != EINTR)
            return err_set(e, ERR_INTERNAL, "poll: %s", strerror(errno));
        if (n > 0 && fds[0].revents != 0)
            return true;
        if (n > 0 && fds[1].revents != 0) {
            is_told = true;
            if (!heed_stop(db, &deadline_ms, e))
                return false;
        }
    }
}

/* Sends what libpq has kept back, reading what comes meanwhile. */
static bool send_all(struct db *db, struct err *e)
{
    int n;

    while ((n = PQflush(db->conn)) > 0) {
        if (!wait_socket(db, POLLIN | POLLOUT, WHILE_AT_WORK, e))
            return false;
        if (!PQconsumeInput(db->conn))
            return fail_connection(db, e);
    }
    return n == 0 || fail_connection(db, e);
}

/* Waits for more of an answer. */
static bool read_more(struct db *db, struct err *e)
{
    if (!wait_socket(db, POLLIN, WHILE_AT_WORK, e))
        return false;
    return PQconsumeInput(db->conn) == 1 || fail_connection(db, e);
}

/* ---- connecting ---- */

static bool fail_connecting(struct db *db, struct err *e)
{
    fail_connection(db, e);
    if (e->sqlstate[0] != '\0')
        e->code = ERR_SQL;
    return false;
}

/* Each host has its time, which ends at *deadline_ms. */
static bool finish_connect(struct db *db, int64_t *deadline_ms, struct err *e)
{
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;
    struct connect_times times;
    const char *host = NULL;

    connect_read_times(db->conn, &times);
    *deadline_ms = 0;
    while (status != PGRES_POLLING_OK) {
        if (PQhost(db->conn) != host)
            *deadline_ms = clock_mono_ms() + times.connect_ms;
        host = PQhost(db->conn);
        if (!wait_socket(db, status == PGRES_POLLING_WRITING ? POLLOUT : POLLIN, *deadline_ms, e))
            return false;
        status = PQconnectPoll(db->conn);
        if (status == PGRES_POLLING_FAILED)
            return fail_connecting(db, e);
    }
    return true;
}

/* Gets to know the backend, so that it can be asked about, and ends the one before it. */
static bool meet(struct db *db, int64_t deadline_ms, struct err *e)
{
    char sql[LIVENESS_SQL];
    PGresult *res;

    connect_keep_alive(db->conn);
    liveness_init(&db->liveness, db->conninfo, db->conn);
    liveness_put_question(db->left, sql);
    if (!PQsendQuery(db->conn, sql))
        return fail_connection(db, e);
    while (PQisBusy(db->conn)) {
        if (!wait_socket(db, POLLIN, deadline_ms, e))
            return false;
        if (!PQconsumeInput(db->conn))
            return fail_connecting(db, e);
    }
    while ((res = PQgetResult(db->conn)) != NULL) {
        if (PQresultStatus(res) == PGRES_TUPLES_OK && PQntuples(res) == 1)
            liveness_take_answer(&db->liveness, PQgetvalue(res, 0, 0));
        PQclear(res); /* who refuses the question is not asked about */
    }
    if (PQstatus(db->conn) == CONNECTION_BAD)
        return fail_connecting(db, e);
    return PQsetnonblocking(db->conn, 1) == 0 || fail_connection(db, e);
}

/* Notices are for people; but the last word of a server, said while nobody asks, is one too. */
static void on_notice(void *arg, const PGresult *res)
{
    struct db *db = arg;
    const char *severity = PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED);

    if (severity != NULL && (strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0))
        db->is_doomed = true;
}

/* One try, with all hosts of <to>. *late: one of them has used up its time. */
static bool try_connect(struct db *db, const struct connect_address *to, bool *late, struct err *e)
{
    int64_t deadline_ms;
    bool ok;

    *late = false;
    db->conn = connect_begin(db->conninfo, to, NULL, e);
    if (db->conn == NULL)
        return false;
    /* so that a refusal, and the last word of a server that goes, carry their SQLSTATE, which
     * libpq hides otherwise */
    PQsetErrorVerbosity(db->conn, PQERRORS_VERBOSE);
    PQsetNoticeReceiver(db->conn, on_notice, db);
    if (PQstatus(db->conn) == CONNECTION_BAD)
        return fail_connection(db, e);
    ok = finish_connect(db, &deadline_ms, e) && meet(db, deadline_ms, e);
    *late = !ok && e->code == ERR_CONNECTION && clock_mono_ms() >= deadline_ms && !db->is_stopping;
    return ok;
}

struct db *db_open(const char *conninfo, int stop_fd, enum db_stop on_stop, struct connect_orphan *left,
                   struct err *e)
{
    struct db *db = calloc(1, sizeof *db);
    struct connect_address to = { NULL, NULL, NULL };
    bool ok, late;

    if (db == NULL || (db->conninfo = strdup(conninfo)) == NULL) {
        free(db);
        err_memory(e);
        return NULL;
    }
    db->stop_fd = stop_fd;
    db->on_stop = on_stop;
    db->left = left;
    /* libpq tries the next host when one refuses, but not when one does not answer */
    while (!(ok = try_connect(db, &to, &late, e)) && late && connect_others(db->conn, &to)) {
        PQfinish(db->conn);
        db->conn = NULL;
    }
    connect_address_fini(&to);
    if (ok && left != NULL)
        left->pid = 0;
    if (!ok)
        db_close(db, NULL);
    return ok ? db : NULL;
}

void db_close(struct db *db, struct connect_orphan *left)
{
    if (db == NULL)
        return;
    /* what the server works at, or waits for, would go on for nobody */
    if (!db->is_lost && PQtransactionStatus(db->conn) == PQTRANS_ACTIVE)
        liveness_end_backend(&db->liveness);
    if (left != NULL && PQtransactionStatus(db->conn) != PQTRANS_IDLE)
        liveness_record_orphan(&db->liveness, left);
    liveness_fini(&db->liveness);
    PQfreemem(db->row);
    PQfinish(db->conn);
    free(db->conninfo);
    free(db);
}

int64_t db_patience_ms(const struct db *db)
{
    return db->liveness.times.idle_ms;
}

int db_version(const struct db *db)
{
    return PQserverVersion(db->conn);
}

static bool fail_result(struct db *db, const PGresult *res, struct err *e)
{
    return connect_fail_result(db->conn, res, e);
}

/* The next result, or NULL when the statement is over (<ok> stays true) or
 * when there will be none (<ok> is false). */
static PGresult *next_result(struct db *db, bool *ok, struct err *e)
{
    *ok = send_all(db, e);
    while (*ok && PQisBusy(db->conn))
        *ok = read_more(db, e);
    return *ok ? PQgetResult(db->conn) : NULL;
}

bool db_run(struct db *db, const char *sql, struct result **rows, size_t n, struct err *e)
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
            rows[got++] = (struct result *)res;
            continue;
        }
        if (ok && status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
            ok = fail_result(db, res, e);
        PQclear(res);
    }
    if (!waiting)
        return false;
    if (ok && got < n)
        return err_set(e, ERR_INTERNAL, "the server gave %zu results where %zu were asked", got, n);
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

    PQfreemem(db->row), db->row = NULL;
    while ((n = PQgetCopyData(db->conn, &db->row, 1)) == 0) {
        if (!read_more(db, e))
            return DB_COPY_FAILED;
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

bool db_send(struct db *db, const char *sql, const char *const *params, size_t n, struct err *e)
{
    return ((n == 0 ? PQsendQuery(db->conn, sql)
                    : PQsendQueryParams(db->conn, sql, (int)n, NULL, params, NULL, NULL, 0)) ||
            fail_connection(db, e)) && send_all(db, e);
}

bool db_answer(struct db *db, struct result **rows, uint64_t *affected, struct err *e)
{
    PGresult *res;

    if (!read_answer(db, &res, e))
        return false;
    *affected = strtoull(PQcmdTuples(res), NULL, 10);
    *rows = (struct result *)res;
    return true;
}

bool db_describe(struct db *db, const char *sql, uint32_t *types, size_t max, size_t *n,
                 struct err *e)
{
    PGresult *res;

    if (!(PQsendPrepare(db->conn, "", sql, 0, NULL) || fail_connection(db, e)) ||
        !read_answer(db, &res, e))
        return false;
    PQclear(res);
    if (!(PQsendDescribePrepared(db->conn, "") || fail_connection(db, e)) ||
        !read_answer(db, &res, e))
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
        if (!wait_socket(db, POLLIN, deadline_ms < 0 ? FOR_EVER : deadline_ms, e))
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
    return (PQputCopyData(db->conn, data, (int)len) == 1 || fail_connection(db, e)) &&
           send_all(db, e);
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
