/* conn.c -- one connection to a Postgres server.
 * SPDX-License-Identifier: MIT */
#include "pg/conn.h"

#include "base/clock.h"
#include "base/text.h"
#include "pg/conninfo.h"
#include "pg/liveness.h"

#include <errno.h>
#include <libpq-fe.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct conn {
    PGconn *pg;
    char *conninfo;
    int stop_fd;
    enum conn_stop on_stop;
    bool is_stopping; /* the program is to stop, and this connection has noticed it */
    bool is_lost;     /* no answer will come */
    struct liveness liveness;
    const struct connect_orphan *left; /* while it connects; may be NULL */
    char *line; /* of COPY, the last that conn_copy_next returned; owned, or NULL */
    bool is_doomed; /* the server has said that it closes the connection */
    conn_watcher *watcher; /* or NULL */
    void *watcher_arg;
};

static bool fail_connection(struct conn *c, struct err *e)
{
    const char *msg = PQerrorMessage(c->pg);

    return connect_fail(ERR_CONNECTION, *msg != '\0' ? msg : "the connection is closed", e);
}

/* In place of a deadline: as long as the server is at work for us (see liveness.h); for ever. */
#define WHILE_AT_WORK (-1)
#define FOR_EVER (-2)
#define STOPPING_CONNECT_MS 5000 /* after a stop a connection may take no longer to open */

/* The program is to stop. False if that ends the wait; else *deadline_ms may come nearer. */
static bool begin_stop(struct conn *c, int64_t *deadline_ms, struct err *e)
{
    if (c->on_stop == CONN_STOP_AT_ONCE)
        return err_set(e, ERR_STOPPED, "stopping");
    c->is_stopping = true;
    if (*deadline_ms == WHILE_AT_WORK)
        liveness_hurry(&c->liveness);
    else if (*deadline_ms == FOR_EVER || *deadline_ms > clock_mono_ms() + STOPPING_CONNECT_MS)
        *deadline_ms = clock_mono_ms() + STOPPING_CONNECT_MS;
    return true;
}

/* ---- long waits ---- */

void conn_watch(struct conn *c, conn_watcher *watcher, void *arg)
{
    c->watcher = watcher;
    c->watcher_arg = arg;
    c->liveness.is_curious = watcher != NULL;
}

static void tell_watcher(struct conn *c, bool is_over)
{
    char text[200];

    liveness_describe(&c->liveness, is_over, text, sizeof text);
    c->watcher(c->watcher_arg, &(struct conn_wait){ c->liveness.work, is_over, text });
}

/* Waits until the socket is ready for one of <events>, or the deadline has passed, or the server is
 * known not to answer, or the program stops. */
static bool wait_socket(struct conn *c, short events, int64_t deadline_ms, struct err *e)
{
    bool is_told = false, is_long = false;

    if (deadline_ms == WHILE_AT_WORK)
        liveness_begin_wait(&c->liveness);
    for (;;) {
        struct pollfd fds[3] = {
            { .fd = PQsocket(c->pg), .events = events },
            { .fd = is_told ? -1 : c->stop_fd, .events = POLLIN },
            { .fd = -1 },
        };
        int64_t left = deadline_ms < 0 ? -1 : deadline_ms - clock_mono_ms();
        int n;

        if (deadline_ms >= 0 && left <= 0)
            return err_set(e, ERR_CONNECTION, "the server did not answer in time");
        if (deadline_ms == WHILE_AT_WORK && !liveness_step(&c->liveness, &fds[2], &left, e)) {
            c->is_lost = true;
            if (c->liveness.is_there)
                liveness_end_backend(&c->liveness); /* else it holds its locks until it notices */
            return false;
        }
        if (deadline_ms == WHILE_AT_WORK && !is_long && liveness_is_long(&c->liveness, &left)) {
            is_long = true;
            tell_watcher(c, false);
        }
        n = poll(fds, 3, left > INT_MAX ? INT_MAX : (int)left);
        if (n < 0 && errno != EINTR)
            return err_set(e, ERR_INTERNAL, "poll: %s", strerror(errno));
        if (n > 0 && fds[0].revents != 0) {
            if (is_long)
                tell_watcher(c, true);
            return true;
        }
        if (n > 0 && fds[1].revents != 0) {
            is_told = true;
            if (!begin_stop(c, &deadline_ms, e))
                return false;
        }
    }
}

/* Sends all that libpq has not sent yet, and reads what comes meanwhile. */
static bool send_all(struct conn *c, struct err *e)
{
    int n;

    while ((n = PQflush(c->pg)) > 0) {
        if (!wait_socket(c, POLLIN | POLLOUT, WHILE_AT_WORK, e))
            return false;
        if (!PQconsumeInput(c->pg))
            return fail_connection(c, e);
    }
    return n == 0 || fail_connection(c, e);
}

/* Waits for more of an answer. */
static bool read_more(struct conn *c, struct err *e)
{
    if (!wait_socket(c, POLLIN, WHILE_AT_WORK, e))
        return false;
    return PQconsumeInput(c->pg) == 1 || fail_connection(c, e);
}

/* ---- connecting ---- */

/* ERR_SQL if the server refused, for which it gives an SQLSTATE; else ERR_CONNECTION. */
static bool fail_connecting(struct conn *c, struct err *e)
{
    fail_connection(c, e);
    if (e->sqlstate[0] != '\0')
        e->code = ERR_SQL;
    if (conninfo_is_confined(c->conninfo))
        connect_hide_files(c->pg, e);
    return false;
}

/* Waits until the connection is made. *deadline_ms: when the time of the host tried last ends. */
static bool finish_connect(struct conn *c, int64_t *deadline_ms, struct err *e)
{
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;
    struct connect_times times;
    const char *host = NULL;

    connect_read_times(c->pg, &times);
    *deadline_ms = 0;
    while (status != PGRES_POLLING_OK) {
        if (PQhost(c->pg) != host)
            *deadline_ms = clock_mono_ms() + times.connect_ms;
        host = PQhost(c->pg);
        if (!wait_socket(c, status == PGRES_POLLING_WRITING ? POLLOUT : POLLIN, *deadline_ms, e))
            return false;
        status = PQconnectPoll(c->pg);
        if (status == PGRES_POLLING_FAILED)
            return fail_connecting(c, e);
    }
    return true;
}

/* Asks the server for the backend's pid, which liveness needs, and ends the backend in c->left. */
static bool identify_backend(struct conn *c, int64_t deadline_ms, struct err *e)
{
    char sql[LIVENESS_SQL];
    PGresult *res;

    connect_keep_alive(c->pg);
    liveness_init(&c->liveness, c->conninfo, c->pg);
    liveness_put_question(c->left, sql);
    if (!PQsendQuery(c->pg, sql))
        return fail_connection(c, e);
    while (PQisBusy(c->pg)) {
        if (!wait_socket(c, POLLIN, deadline_ms, e))
            return false;
        if (!PQconsumeInput(c->pg))
            return fail_connecting(c, e);
    }
    while ((res = PQgetResult(c->pg)) != NULL) {
        if (PQresultStatus(res) == PGRES_TUPLES_OK && PQntuples(res) == 1)
            liveness_take_answer(&c->liveness, PQgetvalue(res, 0, 0));
        PQclear(res); /* if the server refuses the question, the pid stays unknown */
    }
    if (PQstatus(c->pg) == CONNECTION_BAD)
        return fail_connecting(c, e);
    return PQsetnonblocking(c->pg, 1) == 0 || fail_connection(c, e);
}

/* Notices are dropped. But the server's reason to close the connection comes as a notice too, if no
 * statement runs. */
static void on_notice(void *arg, const PGresult *res)
{
    struct conn *c = arg;
    const char *severity = PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED);

    if (severity != NULL && (strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0))
        c->is_doomed = true;
}

/* One try, with all hosts of <to>. *is_late: one of them has used up its time. */
static bool try_connect(struct conn *c, const struct connect_address *to, bool *is_late,
                        struct err *e)
{
    int64_t deadline_ms;
    bool ok;

    *is_late = false;
    c->pg = connect_begin(c->conninfo, to, NULL, e);
    if (c->pg == NULL)
        return false;
    /* verbose texts contain the SQLSTATE, which libpq does not give otherwise for a refusal, or for
     * the reason why the server closes the connection */
    PQsetErrorVerbosity(c->pg, PQERRORS_VERBOSE);
    PQsetNoticeReceiver(c->pg, on_notice, c);
    if (PQstatus(c->pg) == CONNECTION_BAD)
        return fail_connecting(c, e);
    ok = finish_connect(c, &deadline_ms, e) && identify_backend(c, deadline_ms, e);
    *is_late = !ok && e->code == ERR_CONNECTION && clock_mono_ms() >= deadline_ms &&
               !c->is_stopping;
    return ok;
}

struct conn *conn_open(const char *conninfo, int stop_fd, enum conn_stop on_stop,
                       struct connect_orphan *left, struct err *e)
{
    struct conn *c = calloc(1, sizeof *c);
    struct connect_address to = { NULL, NULL, NULL };
    bool ok, is_late;

    if (c == NULL || (c->conninfo = strdup(conninfo)) == NULL) {
        free(c);
        err_memory(e);
        return NULL;
    }
    c->stop_fd = stop_fd;
    c->on_stop = on_stop;
    c->left = left;
    /* libpq tries the next host when one refuses, but not when one does not answer */
    while (!(ok = try_connect(c, &to, &is_late, e)) && is_late && connect_others(c->pg, &to)) {
        PQfinish(c->pg);
        c->pg = NULL;
    }
    connect_address_fini(&to);
    if (ok && left != NULL)
        left->pid = 0;
    if (!ok)
        conn_close(c, NULL);
    return ok ? c : NULL;
}

void conn_close(struct conn *c, struct connect_orphan *left)
{
    if (c == NULL)
        return;
    /* a statement that runs, or waits for a lock, would go on although nobody reads its answer */
    if (!c->is_lost && PQtransactionStatus(c->pg) == PQTRANS_ACTIVE)
        liveness_end_backend(&c->liveness);
    if (left != NULL && PQtransactionStatus(c->pg) != PQTRANS_IDLE)
        liveness_record_orphan(&c->liveness, left);
    liveness_fini(&c->liveness);
    PQfreemem(c->line);
    PQfinish(c->pg);
    free(c->conninfo);
    free(c);
}

int64_t conn_patience_ms(const struct conn *c)
{
    return c->liveness.times.idle_ms;
}

const char *conn_database(const struct conn *c)
{
    return PQdb(c->pg) != NULL ? PQdb(c->pg) : "";
}

const char *conn_role(const struct conn *c)
{
    return PQuser(c->pg) != NULL ? PQuser(c->pg) : "";
}

int conn_version(const struct conn *c)
{
    return PQserverVersion(c->pg);
}

static bool fail_result(struct conn *c, const PGresult *res, struct err *e)
{
    return connect_fail_result(c->pg, res, e);
}

/* The next result, owned, or NULL: with *ok true the answer is over, with *ok false the connection
 * is lost or the program stops. */
static PGresult *next_result(struct conn *c, bool *ok, struct err *e)
{
    *ok = send_all(c, e);
    while (*ok && PQisBusy(c->pg))
        *ok = read_more(c, e);
    return *ok ? PQgetResult(c->pg) : NULL;
}

bool conn_run(struct conn *c, const char *sql, struct result **rows, size_t n, struct err *e)
{
    bool ok = true, waiting = true;
    PGresult *res;
    size_t got = 0;

    if (!PQsendQuery(c->pg, sql))
        return fail_connection(c, e);
    /* read on after an error too: the answer must be read before the next statement */
    while ((res = next_result(c, &waiting, e)) != NULL) {
        ExecStatusType status = PQresultStatus(res);

        if (ok && status == PGRES_TUPLES_OK && got < n) {
            rows[got++] = (struct result *)res;
            continue;
        }
        if (ok && status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
            ok = fail_result(c, res, e);
        PQclear(res);
    }
    if (!waiting)
        return false;
    if (ok && got < n)
        return err_set(e, ERR_INTERNAL, "the server gave %zu results where %zu were asked", got, n);
    return ok;
}

void conn_rollback(struct conn *c)
{
    struct err e;
    PGTransactionStatusType status = PQtransactionStatus(c->pg);

    if (status == PQTRANS_INTRANS || status == PQTRANS_INERROR)
        (void)!conn_run(c, "ROLLBACK", NULL, 0, &e); /* if it fails the next call fails too */
}

/* Sends a COPY, which the server must answer with <expected>. */
static bool start_copy(struct conn *c, const char *sql, ExecStatusType expected, struct err *e)
{
    bool waiting = true;
    PGresult *res;

    if (!PQsendQuery(c->pg, sql))
        return fail_connection(c, e);
    res = next_result(c, &waiting, e);
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
        fail_result(c, res, e);
    while (res != NULL) {
        PQclear(res);
        res = next_result(c, &waiting, e);
    }
    return false;
}

bool conn_copy(struct conn *c, const char *sql, struct err *e)
{
    return start_copy(c, sql, PGRES_COPY_OUT, e);
}

/* The data is over: reads whether the statement as a whole succeeded. */
static enum conn_copy finish_copy(struct conn *c, struct err *e)
{
    bool ok = true, waiting = true;
    PGresult *res;

    while ((res = next_result(c, &waiting, e)) != NULL) {
        if (ok && PQresultStatus(res) != PGRES_COMMAND_OK)
            ok = fail_result(c, res, e);
        PQclear(res);
    }
    return ok && waiting ? CONN_COPY_END : CONN_COPY_FAILED;
}

enum conn_copy conn_copy_next(struct conn *c, const char **line, size_t *len, struct err *e)
{
    int n;

    PQfreemem(c->line), c->line = NULL;
    while ((n = PQgetCopyData(c->pg, &c->line, 1)) == 0) {
        if (!read_more(c, e))
            return CONN_COPY_FAILED;
    }
    if (n == -1)
        return finish_copy(c, e);
    if (n < 0) {
        fail_connection(c, e);
        return CONN_COPY_FAILED;
    }
    *line = c->line;
    *len = (size_t)n - (n > 0 && c->line[n - 1] == '\n');
    return CONN_COPY_LINE;
}

/* ---- one statement, with parameters ---- */

/* A COPY in the SQL of a script. Closing the connection is simpler than ending the COPY. */
static bool refuse_copy(struct conn *c, struct err *e)
{
    PQfinish(c->pg);
    c->pg = NULL;
    return err_set(e, ERR_SQL, "COPY is not possible here");
}

/* Reads the whole answer. *last: the last result, owned, or NULL after a failure. */
static bool read_answer(struct conn *c, PGresult **last, struct err *e)
{
    bool ok = true, waiting = true;
    PGresult *res;

    *last = NULL;
    while ((res = next_result(c, &waiting, e)) != NULL) {
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
            return refuse_copy(c, e);
        default:
            if (ok)
                ok = fail_result(c, res, e);
            PQclear(res);
        }
    }
    if (ok && waiting && *last != NULL)
        return true;
    PQclear(*last);
    *last = NULL;
    return ok && waiting ? err_set(e, ERR_INTERNAL, "the server gave no answer") : false;
}

bool conn_send(struct conn *c, const char *sql, const char *const *params, size_t n, struct err *e)
{
    return ((n == 0 ? PQsendQuery(c->pg, sql)
                    : PQsendQueryParams(c->pg, sql, (int)n, NULL, params, NULL, NULL, 0)) ||
            fail_connection(c, e)) && send_all(c, e);
}

bool conn_answer(struct conn *c, struct result **rows, uint64_t *affected, struct err *e)
{
    PGresult *res;

    if (!read_answer(c, &res, e))
        return false;
    text_is_u64(PQcmdTuples(res), affected);
    *rows = (struct result *)res;
    return true;
}

bool conn_describe(struct conn *c, const char *sql, uint32_t *types, size_t max, size_t *n,
                   struct err *e)
{
    PGresult *res;

    if (!(PQsendPrepare(c->pg, "", sql, 0, NULL) || fail_connection(c, e)) ||
        !read_answer(c, &res, e))
        return false;
    PQclear(res);
    if (!(PQsendDescribePrepared(c->pg, "") || fail_connection(c, e)) ||
        !read_answer(c, &res, e))
        return false;
    *n = (size_t)PQnparams(res);
    for (size_t i = 0; i < *n && i < max; i++)
        types[i] = PQparamtype(res, (int)i);
    PQclear(res);
    return true;
}

bool conn_is_alive(struct conn *c)
{
    struct pollfd fd = { .fd = PQsocket(c->pg), .events = POLLIN };

    /* there may be to read: a notice, the reason why the server closes the connection, its end */
    while (PQstatus(c->pg) == CONNECTION_OK && poll(&fd, 1, 0) > 0 && PQconsumeInput(c->pg))
        if (PQisBusy(c->pg))
            return false;
    return PQstatus(c->pg) == CONNECTION_OK && !c->is_doomed;
}

bool conn_wait_notify(struct conn *c, int64_t deadline_ms, char *text, size_t size, struct err *e)
{
    PGnotify *n;

    *text = '\0';
    while ((n = PQnotifies(c->pg)) == NULL) {
        if (!wait_socket(c, POLLIN, deadline_ms < 0 ? FOR_EVER : deadline_ms, e))
            return deadline_ms >= 0 && clock_mono_ms() >= deadline_ms && e->code == ERR_CONNECTION;
        if (!PQconsumeInput(c->pg))
            return fail_connection(c, e);
    }
    strncat(text, n->extra, size - 1);
    PQfreemem(n);
    return true;
}

enum conn_transaction conn_transaction(const struct conn *c)
{
    switch (PQtransactionStatus(c->pg)) {
    case PQTRANS_IDLE:
        return CONN_IDLE;
    case PQTRANS_INTRANS:
        return CONN_OPEN;
    case PQTRANS_INERROR:
        return CONN_ABORTED;
    case PQTRANS_ACTIVE:
    case PQTRANS_UNKNOWN:
        break;
    }
    return CONN_LOST;
}

/* ---- COPY ... FROM STDIN ---- */

bool conn_load(struct conn *c, const char *sql, struct err *e)
{
    return start_copy(c, sql, PGRES_COPY_IN, e);
}

bool conn_load_put(struct conn *c, const char *data, size_t len, struct err *e)
{
    return (PQputCopyData(c->pg, data, (int)len) == 1 || fail_connection(c, e)) &&
           send_all(c, e);
}

/* The context tells the place of the mistake in the data: "COPY t, line 3, column c: "x"". */
static void add_context(const PGresult *res, struct err *e)
{
    const char *context = PQresultErrorField(res, PG_DIAG_CONTEXT);
    struct err why = *e;

    if (context == NULL || why.code != ERR_SQL)
        return;
    err_set(e, why.code, "%s; %s", why.msg, context);
    memcpy(e->sqlstate, why.sqlstate, sizeof why.sqlstate);
}

bool conn_load_end(struct conn *c, uint64_t *rows, struct err *e)
{
    bool ok = true, waiting = true;
    PGresult *res;

    if (PQputCopyEnd(c->pg, NULL) != 1)
        return fail_connection(c, e);
    while ((res = next_result(c, &waiting, e)) != NULL) {
        if (PQresultStatus(res) == PGRES_COMMAND_OK) {
            text_is_u64(PQcmdTuples(res), rows);
        } else if (ok) {
            ok = fail_result(c, res, e);
            add_context(res, e);
        }
        PQclear(res);
    }
    return ok && waiting;
}
