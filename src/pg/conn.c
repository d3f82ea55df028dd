/* conn.c -- one connection to a Postgres server.
 * SPDX-License-Identifier: MIT */
#include "pg/conn.h"

#include "base/clock.h"
#include "base/text.h"
#include "pg/conninfo.h"
#include "pg/wire.h"

#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct conn {
    struct wire wire;
    char *conninfo;
    const char *replication; /* see struct connect_changes */
    const struct connect_orphan *left; /* while it connects; may be NULL */
    char *line; /* of COPY, the last that conn_copy_next returned; owned, or NULL */
    bool is_doomed; /* the server has said that it closes the connection */
    conn_watcher *watcher; /* or NULL */
    void *watcher_arg;
};

#define IDLE_READS 1000 /* of a connection on which no statement runs, at once */

void conn_watch(struct conn *c, conn_watcher *watcher, void *arg)
{
    c->watcher = watcher;
    c->watcher_arg = arg;
    c->wire.liveness.is_curious = watcher != NULL;
}

void conn_set_beat(struct conn *c, struct beat *beat)
{
    c->wire.beat = beat;
}

static void tell_watcher(void *arg, bool is_over)
{
    struct conn *c = arg;
    char text[200];

    liveness_describe(&c->wire.liveness, is_over, text, sizeof text);
    c->watcher(c->watcher_arg, &(struct conn_wait){ c->wire.liveness.work, is_over, text });
}

/* ---- connecting ---- */

/* ERR_SQL if the server refused, for which it gives an SQLSTATE; else ERR_CONNECTION. */
static bool fail_connecting(struct conn *c, struct err *e)
{
    wire_fail(&c->wire, e);
    if (e->sqlstate[0] != '\0')
        e->code = ERR_SQL;
    if (strcmp(e->sqlstate, "53300") == 0)
        err_prefix(e, "no connection is left for us (connections = N of a source asks for fewer)");
    if (conninfo_is_confined(c->conninfo))
        connect_hide_files(c->wire.pg, e);
    return false;
}

/* Waits until the connection is made. *deadline_ms: when the time of the host tried last ends. */
static bool finish_connect(struct conn *c, int64_t *deadline_ms, struct err *e)
{
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;
    struct connect_times times;
    const char *host = NULL;
    short events;
    size_t before;

    connect_read_times(c->wire.pg, &times);
    wire_begin(&c->wire, "startup", WIRE_ASKED_MAX);
    *deadline_ms = 0;
    while (status != PGRES_POLLING_OK) {
        if (PQhost(c->wire.pg) != host)
            *deadline_ms = clock_mono_ms() + times.connect_ms;
        host = PQhost(c->wire.pg);
        events = status == PGRES_POLLING_WRITING ? POLLOUT : POLLIN;
        if (!wire_wait(&c->wire, events, *deadline_ms, e))
            return false;
        before = wire_unread(&c->wire);
        status = PQconnectPoll(c->wire.pg);
        if (status == PGRES_POLLING_FAILED)
            return fail_connecting(c, e);
        if (!wire_count(&c->wire, before, e))
            return false;
    }
    return true;
}

/* Asks the server for the backend's pid, which liveness needs, and ends the backend in c->left. */
static bool identify_backend(struct conn *c, int64_t deadline_ms, struct err *e)
{
    char sql[LIVENESS_SQL];
    bool waiting = true;
    PGresult *res;

    connect_keep_alive(c->wire.pg);
    liveness_init(&c->wire.liveness, c->conninfo, c->wire.pg);
    liveness_put_question(c->left, sql);
    if (PQsetnonblocking(c->wire.pg, 1) != 0 || !wire_query(&c->wire, sql, WIRE_ASKED_MAX, e))
        return wire_fail(&c->wire, e);
    c->wire.deadline_ms = deadline_ms;
    while ((res = wire_next(&c->wire, &waiting, e)) != NULL) {
        liveness_take_answer(&c->wire.liveness, res);
        PQclear(res); /* if the server refuses the question, the pid stays unknown */
    }
    if (!waiting && e->code == ERR_CONNECTION && e->sqlstate[0] != '\0')
        e->code = ERR_SQL; /* see fail_connecting */
    return waiting && (PQstatus(c->wire.pg) != CONNECTION_BAD || fail_connecting(c, e));
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
    c->wire.pg = connect_begin(c->conninfo, &(struct connect_changes){
        .to = to, .replication = c->replication }, e);
    if (c->wire.pg == NULL)
        return false;
    /* verbose texts contain the SQLSTATE, which libpq does not give otherwise for a refusal, or for
     * the reason why the server closes the connection */
    PQsetErrorVerbosity(c->wire.pg, PQERRORS_VERBOSE);
    PQsetNoticeReceiver(c->wire.pg, on_notice, c);
    if (PQstatus(c->wire.pg) == CONNECTION_BAD)
        return fail_connecting(c, e);
    ok = finish_connect(c, &deadline_ms, e) && identify_backend(c, deadline_ms, e);
    *is_late = !ok && e->code == ERR_CONNECTION && clock_mono_ms() >= deadline_ms &&
               !c->wire.is_stopping;
    return ok;
}

static struct conn *open_as(const char *replication, const char *conninfo, int stop_fd,
                            enum conn_stop on_stop, struct connect_orphan *left, struct err *e)
{
    struct conn *c = calloc(1, sizeof *c);
    struct connect_address to = { NULL, NULL, NULL };
    bool ok, is_late;

    if (c == NULL || (c->conninfo = strdup(conninfo)) == NULL) {
        free(c);
        err_memory(e);
        return NULL;
    }
    c->replication = replication;
    c->wire.stop_fd = stop_fd;
    conn_on_stop(c, on_stop);
    c->wire.tell = tell_watcher;
    c->wire.tell_arg = c;
    c->left = left;
    /* libpq tries the next host when one refuses, but not when one does not answer */
    while (!(ok = try_connect(c, &to, &is_late, e)) && is_late && connect_others(c->wire.pg, &to)) {
        PQfinish(c->wire.pg);
        c->wire.pg = NULL;
    }
    connect_address_fini(&to);
    if (ok && left != NULL)
        left->pid = 0;
    if (!ok)
        conn_close(c, NULL);
    return ok ? c : NULL;
}

struct conn *conn_open(const char *conninfo, int stop_fd, enum conn_stop on_stop,
                       struct connect_orphan *left, struct err *e)
{
    return open_as(NULL, conninfo, stop_fd, on_stop, left, e);
}

struct conn *conn_open_replication(const struct conn *c, const char *conninfo,
                                   struct connect_orphan *left, struct err *e)
{
    struct conn *r = open_as("database", conninfo != NULL ? conninfo : c->conninfo,
                             c->wire.stop_fd, c->wire.stops_at_once ? CONN_STOP_AT_ONCE
                                                                    : CONN_STOP_GENTLY, left, e);

    if (r != NULL)
        conn_watch(r, c->watcher, c->watcher_arg);
    return r;
}

void conn_on_stop(struct conn *c, enum conn_stop on_stop)
{
    c->wire.stops_at_once = on_stop == CONN_STOP_AT_ONCE;
}

void conn_close(struct conn *c, struct connect_orphan *left)
{
    if (c == NULL)
        return;
    /* a statement that runs, or waits for a lock, would go on although nobody reads its answer */
    if (!c->wire.is_lost && PQtransactionStatus(c->wire.pg) == PQTRANS_ACTIVE)
        wire_end_backend(&c->wire);
    if (left != NULL && PQtransactionStatus(c->wire.pg) != PQTRANS_IDLE)
        liveness_record_orphan(&c->wire.liveness, left);
    liveness_fini(&c->wire.liveness);
    PQfreemem(c->line);
    PQfinish(c->wire.pg);
    free(c->conninfo);
    free(c);
}

int conn_stop_fd(const struct conn *c)
{
    return c->wire.stop_fd;
}

int64_t conn_patience_ms(const struct conn *c)
{
    return c->wire.liveness.times.idle_ms;
}

const char *conn_database(const struct conn *c)
{
    return PQdb(c->wire.pg) != NULL ? PQdb(c->wire.pg) : "";
}

const char *conn_role(const struct conn *c)
{
    return PQuser(c->wire.pg) != NULL ? PQuser(c->wire.pg) : "";
}

int conn_version(const struct conn *c)
{
    return PQserverVersion(c->wire.pg);
}

static bool fail_result(struct conn *c, const PGresult *res, struct err *e)
{
    connect_fail_result(c->wire.pg, res, e);
    return wire_fail_answer(&c->wire, e);
}

/* Adds the rows of <res>, the next of an answer, to *to, which is made if it is NULL.
 * Takes <res>. */
static bool take_rows(struct conn *c, struct result **to, const struct result_shape *shape,
                      size_t max, PGresult *res, struct err *e)
{
    bool ok;

    if (*to == NULL && (*to = result_new(shape, max, e)) == NULL) {
        PQclear(res);
        return false;
    }
    if (PQresultStatus(res) != PGRES_SINGLE_TUPLE)
        return result_end(*to, res, e) || wire_fail_answer(&c->wire, e);
    ok = result_add(*to, res, e);
    PQclear(res);
    return ok || wire_fail_answer(&c->wire, e);
}

bool conn_run(struct conn *c, const char *sql, const struct result_shape *shapes,
              struct result **rows, size_t n, struct err *e)
{
    bool ok = true, waiting = true;
    PGresult *res;
    size_t got = 0;

    if (!wire_query(&c->wire, sql, WIRE_ASKED_MAX, e))
        return false;
    /* read on after an error too: the answer must be read before the next statement */
    while ((res = wire_next(&c->wire, &waiting, e)) != NULL) {
        ExecStatusType status = PQresultStatus(res);
        bool has_rows = status == PGRES_SINGLE_TUPLE || status == PGRES_TUPLES_OK;

        if (ok && has_rows && got < n) {
            if (!take_rows(c, &rows[got], &shapes[got], RESULT_BYTES_MAX, res, e))
                return false;
            got += status == PGRES_TUPLES_OK;
            c->wire.came = 0;
            continue;
        }
        if (ok && !has_rows && status != PGRES_COMMAND_OK && status != PGRES_EMPTY_QUERY)
            ok = fail_result(c, res, e);
        PQclear(res);
    }
    if (!waiting || !ok || got == n)
        return waiting && ok;
    err_set(e, ERR_ANSWER, "%s: no rows came", shapes[got].what);
    return wire_fail_answer(&c->wire, e);
}

void conn_rollback(struct conn *c)
{
    struct err e;
    PGTransactionStatusType status = PQtransactionStatus(c->wire.pg);

    if (status == PQTRANS_INTRANS || status == PQTRANS_INERROR)
        (void)!conn_run(c, "ROLLBACK", NULL, NULL, 0, &e); /* if it fails the next call fails too */
}

/* Sends a COPY, which the server must answer with <expected>. */
static bool start_copy(struct conn *c, const char *sql, ExecStatusType expected, struct err *e)
{
    bool waiting = true;
    ExecStatusType status;
    PGresult *res;

    wire_begin(&c->wire, sql, WIRE_ANY_MAX);
    if (!PQsendQuery(c->wire.pg, sql))
        return wire_fail(&c->wire, e);
    res = wire_next_or(&c->wire, expected, &waiting, e);
    if (!waiting)
        return false;
    status = PQresultStatus(res);
    if (status == expected && !PQbinaryTuples(res)) {
        PQclear(res);
        return true;
    }
    if (res == NULL || status == expected || status == PGRES_COMMAND_OK ||
        status == PGRES_TUPLES_OK || status == PGRES_EMPTY_QUERY) {
        PQclear(res);
        err_set(e, ERR_ANSWER, "it is not the text of a COPY");
        return wire_fail_answer(&c->wire, e);
    }
    fail_result(c, res, e);
    while (res != NULL) {
        PQclear(res);
        res = wire_next(&c->wire, &waiting, e);
    }
    return false;
}

bool conn_copy(struct conn *c, const char *sql, struct err *e)
{
    return start_copy(c, sql, PGRES_COPY_OUT, e);
}

bool conn_copy_both(struct conn *c, const char *sql, struct err *e)
{
    return start_copy(c, sql, PGRES_COPY_BOTH, e);
}

struct wire *conn_wire(struct conn *c)
{
    return &c->wire;
}

/* The data is over: reads whether the statement as a whole succeeded. */
static enum conn_copy finish_copy(struct conn *c, struct err *e)
{
    bool ok = true, waiting = true;
    PGresult *res;

    while ((res = wire_next(&c->wire, &waiting, e)) != NULL) {
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
    if ((n = wire_copy_next(&c->wire, &c->line, e)) == 0)
        return CONN_COPY_FAILED;
    c->wire.came = 0;
    if (n == -1)
        return finish_copy(c, e);
    if (n < 0) {
        wire_fail(&c->wire, e);
        return CONN_COPY_FAILED;
    }
    *line = c->line;
    *len = (size_t)n - (n > 0 && c->line[n - 1] == '\n');
    if (memchr(c->line, '\n', *len) == NULL && memchr(c->line, '\0', *len) == NULL)
        return CONN_COPY_LINE;
    err_set(e, ERR_ANSWER, "what it sends as one line is none");
    wire_fail_answer(&c->wire, e);
    return CONN_COPY_FAILED;
}

bool conn_fail_answer(struct conn *c, struct err *e)
{
    return wire_fail_answer(&c->wire, e);
}

/* ---- one statement, with parameters ---- */

/* A COPY in the SQL of a script. Closing the connection is simpler than ending the COPY. */
static bool refuse_copy(struct conn *c, struct err *e)
{
    PQfinish(c->wire.pg);
    c->wire.pg = NULL;
    return err_set(e, ERR_SQL, "COPY is not possible here");
}

/* Reads the whole answer into *last, which is NULL before: what of it the last statement has given,
 * owned also after a failure. */
static bool read_answer(struct conn *c, size_t max, struct result **last, uint64_t *affected,
                        struct err *e)
{
    bool ok = true, waiting = true, is_whole = true;
    PGresult *res;

    while ((res = wire_next(&c->wire, &waiting, e)) != NULL) {
        switch (PQresultStatus(res)) {
        case PGRES_SINGLE_TUPLE:
        case PGRES_TUPLES_OK:
        case PGRES_COMMAND_OK:
        case PGRES_EMPTY_QUERY:
            if (is_whole) { /* this is of the next statement */
                result_free(*last);
                *last = NULL;
            }
            is_whole = PQresultStatus(res) != PGRES_SINGLE_TUPLE;
            if (is_whole)
                text_is_u64(PQcmdTuples(res), affected);
            if (!take_rows(c, last, NULL, max, res, e))
                return false;
            continue;
        default:
            if (ok)
                ok = fail_result(c, res, e);
            PQclear(res);
        }
    }
    if (c->wire.is_in_copy)
        return refuse_copy(c, e);
    if (!ok || !waiting || (*last != NULL && is_whole))
        return ok && waiting;
    err_set(e, ERR_ANSWER, "there is none");
    return wire_fail_answer(&c->wire, e);
}

bool conn_send(struct conn *c, const char *sql, const char *const *params, size_t n, struct err *e)
{
    wire_begin(&c->wire, sql, WIRE_ANY_MAX);
    return ((n == 0 ? PQsendQuery(c->wire.pg, sql)
                    : PQsendQueryParams(c->wire.pg, sql, (int)n, NULL, params, NULL, NULL, 0)) &&
            PQsetSingleRowMode(c->wire.pg)) ? wire_send(&c->wire, e) : wire_fail(&c->wire, e);
}

bool conn_answer(struct conn *c, size_t max, struct result **rows, uint64_t *affected,
                 struct err *e)
{
    c->wire.most = max + WIRE_ASKED_MAX;
    liveness_take_progress(&c->wire.liveness); /* until now nobody waited */
    if (read_answer(c, max, rows, affected, e))
        return true;
    result_free(*rows);
    *rows = NULL;
    return false;
}

bool conn_has_answer(const struct conn *c)
{
    return wire_unread(&c->wire) > 0;
}

/* Reads an answer without rows. Returns owned, or NULL. */
static PGresult *read_description(struct conn *c, struct err *e)
{
    bool ok = true, waiting = true;
    PGresult *res, *last = NULL;

    while ((res = wire_next(&c->wire, &waiting, e)) != NULL) {
        if (ok && PQresultStatus(res) != PGRES_COMMAND_OK)
            ok = fail_result(c, res, e);
        PQclear(last);
        last = res;
    }
    if (ok && waiting && last != NULL)
        return last;
    if (ok && waiting) {
        err_set(e, ERR_ANSWER, "there is none");
        wire_fail_answer(&c->wire, e);
    }
    PQclear(last);
    return NULL;
}

bool conn_describe(struct conn *c, const char *sql, uint32_t *types, size_t max, size_t *n,
                   struct err *e)
{
    PGresult *res;

    wire_begin(&c->wire, sql, WIRE_ASKED_MAX);
    if (!(PQsendPrepare(c->wire.pg, "", sql, 0, NULL) || wire_fail(&c->wire, e)) ||
        (res = read_description(c, e)) == NULL)
        return false;
    PQclear(res);
    wire_begin(&c->wire, sql, WIRE_ASKED_MAX);
    if (!(PQsendDescribePrepared(c->wire.pg, "") || wire_fail(&c->wire, e)) ||
        (res = read_description(c, e)) == NULL)
        return false;
    *n = (size_t)PQnparams(res);
    for (size_t i = 0; i < *n && i < max; i++)
        types[i] = PQparamtype(res, (int)i);
    PQclear(res);
    return true;
}

bool conn_is_alive(struct conn *c)
{
    struct pollfd fd = { .fd = PQsocket(c->wire.pg), .events = POLLIN };

    /* there may be to read: a notice, the reason why the server closes the connection, its end */
    for (int i = 0; PQstatus(c->wire.pg) == CONNECTION_OK && poll(&fd, 1, 0) > 0 &&
                    PQconsumeInput(c->wire.pg); i++)
        if (PQisBusy(c->wire.pg) || i == IDLE_READS)
            return false;
    return PQstatus(c->wire.pg) == CONNECTION_OK && !c->is_doomed;
}

bool conn_wait_notify(struct conn *c, int64_t deadline_ms, char *text, size_t size, struct err *e)
{
    PGnotify *n;

    *text = '\0';
    wire_begin(&c->wire, "LISTEN", WIRE_ASKED_MAX);
    while ((n = PQnotifies(c->wire.pg)) == NULL) {
        if (!wire_wait(&c->wire, POLLIN, deadline_ms < 0 ? WIRE_FOR_EVER : deadline_ms, e))
            return deadline_ms >= 0 && clock_mono_ms() >= deadline_ms && e->code == ERR_CONNECTION;
        if (!wire_consume(&c->wire, e))
            return false;
    }
    strncat(text, n->extra, size - 1);
    PQfreemem(n);
    return true;
}

enum conn_transaction conn_transaction(const struct conn *c)
{
    PGTransactionStatusType status = PQtransactionStatus(c->wire.pg);

    return status == PQTRANS_IDLE ? CONN_IDLE
           : status == PQTRANS_INTRANS ? CONN_OPEN
           : status == PQTRANS_INERROR ? CONN_ABORTED
           : CONN_LOST;
}

/* ---- COPY ... FROM STDIN ---- */

bool conn_load(struct conn *c, const char *sql, struct err *e)
{
    return start_copy(c, sql, PGRES_COPY_IN, e);
}

bool conn_load_put(struct conn *c, const char *data, size_t len, struct err *e)
{
    c->wire.came = 0;
    liveness_take_progress(&c->wire.liveness);
    return (PQputCopyData(c->wire.pg, data, (int)len) == 1 || wire_fail(&c->wire, e)) &&
           wire_send(&c->wire, e);
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

    liveness_take_progress(&c->wire.liveness);
    if (PQputCopyEnd(c->wire.pg, NULL) != 1)
        return wire_fail(&c->wire, e);
    while ((res = wire_next(&c->wire, &waiting, e)) != NULL) {
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
