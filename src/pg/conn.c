/* conn.c -- one connection to a Postgres server.
 * SPDX-License-Identifier: MIT */
#include "pg/conn.h"

#include "base/clock.h"
#include "base/text.h"
#include "pg/liveness.h"

#include <errno.h>
#include <libpq-fe.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

struct conn {
    PGconn *pg;
    char *conninfo;
    int stop_fd;
    enum conn_stop on_stop;
    bool is_stopping; /* the program is to stop, and this connection has noticed it */
    bool is_lost;     /* no answer will come, or none is wanted */
    int64_t deadline_ms; /* of the answer that is read, as wait_socket takes it */
    char statement[64];  /* how the last statement begins, for errors */
    size_t came, most;   /* bytes since something was read of the answer; how many may come */
    size_t came_stopping; /* bytes since the stop */
    size_t n_results;    /* that may still come */
    bool is_in_copy;     /* the server has begun a COPY that was not asked for */
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

/* What may come while nothing of an answer does (notices, parameters, a row that is not whole). The
 * answer to a question of ours is small; a server makes no value, and no line of COPY, beyond
 * 1 GB. */
#define ASKED_MAX RESULT_BYTES_MAX
#define ANY_MAX (((size_t)1 << 30) + RESULT_BYTES_MAX)
#define PARSE_MAX_MS 250 /* of the processor's time, for what comes at once */
#define SEND_MAX ((size_t)16 << 20) /* what may come while the server is to read */

/* In place of a deadline: as long as the server is at work for us (see liveness.h); for ever. */
#define WHILE_AT_WORK (-1)
#define FOR_EVER (-2)
#define END_MS 2000          /* to end a statement at the server, at most */
#define STOPPING_END_MS 700  /* the same after a stop */
#define STOPPING_BYTES ((size_t)1 << 20) /* what may come after a stop */
#define IDLE_READS 1000 /* of a connection on which no statement runs, at once */
#define STOPPING_CONNECT_MS 5000 /* after a stop a connection may take no longer to open */

/* The program is to stop. False if that ends the wait; else *deadline_ms may come nearer. */
static bool begin_stop(struct conn *c, int64_t *deadline_ms, struct err *e)
{
    c->is_stopping = true;
    if (c->on_stop == CONN_STOP_AT_ONCE)
        return err_set(e, ERR_STOPPED, "stopping");
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

/* Ends a statement that is under way. After a stop there is less time for it. */
static void end_backend(struct conn *c)
{
    liveness_end_backend(&c->liveness, c->is_stopping ? STOPPING_END_MS : END_MS);
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
                end_backend(c); /* else it holds its locks until it notices */
            return false;
        }
        if (deadline_ms == WHILE_AT_WORK && !is_long && liveness_is_long(&c->liveness, &left)) {
            is_long = true;
            tell_watcher(c, false);
        }
        n = poll(fds, 3, left > INT_MAX ? INT_MAX : (int)left);
        if (n < 0 && errno != EINTR)
            return err_set(e, ERR_INTERNAL, "poll: %s", strerror(errno));
        /* the stop first: a socket that floods is always ready */
        if (n > 0 && fds[1].revents != 0) {
            is_told = true;
            if (!begin_stop(c, &deadline_ms, e))
                return false;
        }
        if (n > 0 && fds[0].revents != 0) {
            if (is_long)
                tell_watcher(c, true);
            return true;
        }
    }
}

/* ---- what a server may send ---- */

/* A statement is to be sent. <most>: how many bytes may come before something of its answer is
 * read. */
static void begin_statement(struct conn *c, const char *sql, size_t most)
{
    size_t n = strcspn(sql, "'"); /* what is quoted may be a password */
    const char *cut = sql[n] != '\0' || n > sizeof c->statement - 4 ? "..." : "";

    snprintf(c->statement, sizeof c->statement, "%.*s%s", (int)(sizeof c->statement - 4), sql, cut);
    if (n < sizeof c->statement - 4)
        snprintf(c->statement + n, sizeof c->statement - n, "%s", cut);
    c->deadline_ms = WHILE_AT_WORK;
    c->came = 0;
    c->most = most;
    /* a rule can make several statements of one */
    c->n_results = 16;
    for (const char *p = sql; (p = strchr(p, ';')) != NULL; p++)
        c->n_results += 4;
}

/* The answer is none that the statement can have. What else comes is not read. */
static bool fail_answer(struct conn *c, struct err *e)
{
    if (e->code != ERR_ANSWER)
        return false;
    c->is_lost = true;
    return err_prefix(e, "the server's answer to \"%s\"", c->statement);
}

/* Reads what has come. */
static bool consume(struct conn *c, struct err *e)
{
    int n = 0;

    if (ioctl(PQsocket(c->pg), FIONREAD, &n) < 0 || n < 0)
        n = 0;
    if (!PQconsumeInput(c->pg))
        return fail_connection(c, e);
    c->came += (size_t)n;
    c->came_stopping += c->is_stopping ? (size_t)n : 0;
    if (c->came > c->most) {
        err_set(e, ERR_ANSWER, "%zu MB came that are no part of it", c->came >> 20);
        return fail_answer(c, e);
    }
    if (c->came_stopping <= STOPPING_BYTES)
        return true;
    c->is_lost = true;
    return err_set(e, ERR_STOPPED, "stopping");
}

/* What the thread has used of the processor. */
static int64_t used_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* libpq has found nothing of an answer in what was read, and began at <began_ms> (see used_ms).
 * Millions of parameters make it slow. */
static bool check_parsing(struct conn *c, int64_t began_ms, struct err *e)
{
    if (used_ms() - began_ms <= PARSE_MAX_MS)
        return true;
    err_set(e, ERR_ANSWER, "too much came that is no part of it");
    return fail_answer(c, e);
}

/* Sends all that libpq has not sent yet, and reads what comes meanwhile. */
static bool send_all(struct conn *c, struct err *e)
{
    size_t most = c->most;
    bool ok = true;
    int n;

    if (c->most > SEND_MAX)
        c->most = SEND_MAX;
    while (ok && (n = PQflush(c->pg)) > 0) {
        ok = wait_socket(c, POLLIN | POLLOUT, c->deadline_ms, e) && consume(c, e);
        if (ok)
            (void)PQisBusy(c->pg); /* takes notices out of the buffer */
    }
    c->most = most;
    return ok && (n == 0 || fail_connection(c, e));
}

/* Waits for more of an answer. */
static bool read_more(struct conn *c, struct err *e)
{
    return wait_socket(c, POLLIN, c->deadline_ms, e) && consume(c, e);
}

/* The next result, owned, or NULL: with *ok true the answer is over, with *ok false there is none:
 * the connection is lost or the program stops. Of a statement that gives rows each is a result,
 * and the last has none. <copy>: what a result may be besides, PGRES_COPY_OUT or PGRES_COPY_IN. */
static PGresult *next_result_or(struct conn *c, ExecStatusType copy, bool *ok, struct err *e)
{
    PGresult *res;
    ExecStatusType status;

    for (*ok = send_all(c, e); *ok; *ok = read_more(c, e)) {
        int64_t began_ms = used_ms();

        if (!PQisBusy(c->pg))
            break;
        if (!(*ok = check_parsing(c, began_ms, e)))
            return NULL;
    }
    res = *ok ? PQgetResult(c->pg) : NULL;
    if (res == NULL)
        return NULL;
    status = PQresultStatus(res);
    *ok = false;
    if (status != copy && (status == PGRES_COPY_IN || status == PGRES_COPY_OUT ||
                           status == PGRES_COPY_BOTH)) {
        c->is_in_copy = true;
        err_set(e, ERR_ANSWER, "it is a COPY, which was not asked for");
    } else if (status != PGRES_SINGLE_TUPLE && c->n_results-- == 0) {
        err_set(e, ERR_ANSWER, "it has no end");
    } else {
        *ok = true;
        return res;
    }
    fail_answer(c, e);
    PQclear(res);
    return NULL;
}

static PGresult *next_result(struct conn *c, bool *ok, struct err *e)
{
    return next_result_or(c, PGRES_EMPTY_QUERY, ok, e);
}

/* Sends statements of our own. Their rows come one at a time. */
static bool send_query(struct conn *c, const char *sql, size_t most, struct err *e)
{
    begin_statement(c, sql, most);
    if (!PQsendQuery(c->pg, sql))
        return fail_connection(c, e);
    return PQsetSingleRowMode(c->pg) == 1 || fail_connection(c, e);
}

/* ---- connecting ---- */

/* ERR_SQL if the server refused, for which it gives an SQLSTATE; else ERR_CONNECTION. */
static bool fail_connecting(struct conn *c, struct err *e)
{
    fail_connection(c, e);
    if (e->sqlstate[0] != '\0')
        e->code = ERR_SQL;
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
    bool waiting = true;
    PGresult *res;

    connect_keep_alive(c->pg);
    liveness_init(&c->liveness, c->conninfo, c->pg);
    liveness_put_question(c->left, sql);
    if (PQsetnonblocking(c->pg, 1) != 0 || !send_query(c, sql, ASKED_MAX, e))
        return fail_connection(c, e);
    c->deadline_ms = deadline_ms;
    while ((res = next_result(c, &waiting, e)) != NULL) {
        if (PQresultStatus(res) == PGRES_SINGLE_TUPLE && PQnfields(res) == 1)
            liveness_take_answer(&c->liveness, PQgetvalue(res, 0, 0));
        PQclear(res); /* if the server refuses the question, the pid stays unknown */
    }
    if (!waiting && e->code == ERR_CONNECTION && e->sqlstate[0] != '\0')
        e->code = ERR_SQL; /* see fail_connecting */
    return waiting && (PQstatus(c->pg) != CONNECTION_BAD || fail_connecting(c, e));
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
        return fail_connection(c, e);
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
        end_backend(c);
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

/* Adds the rows of <res>, the next of an answer, to *to, which is made if it is NULL.
 * Takes <res>. */
static bool take_rows(struct conn *c, struct result **to, const struct result_shape *shape,
                      size_t max, PGresult *res, struct err *e)
{
    if (*to == NULL && (*to = result_new(shape, max, e)) == NULL) {
        PQclear(res);
        return false;
    }
    if (PQresultStatus(res) != PGRES_SINGLE_TUPLE)
        return result_end(*to, res, e) || fail_answer(c, e);
    if (!result_add(*to, res, e)) {
        PQclear(res);
        return fail_answer(c, e);
    }
    PQclear(res);
    return true;
}

bool conn_run(struct conn *c, const char *sql, const struct result_shape *shapes,
              struct result **rows, size_t n, struct err *e)
{
    bool ok = true, waiting = true;
    PGresult *res;
    size_t got = 0;

    if (!send_query(c, sql, ASKED_MAX, e))
        return false;
    /* read on after an error too: the answer must be read before the next statement */
    while ((res = next_result(c, &waiting, e)) != NULL) {
        ExecStatusType status = PQresultStatus(res);
        bool has_rows = status == PGRES_SINGLE_TUPLE || status == PGRES_TUPLES_OK;

        if (ok && has_rows && got < n) {
            if (!take_rows(c, &rows[got], &shapes[got], RESULT_BYTES_MAX, res, e))
                return false;
            got += status == PGRES_TUPLES_OK;
            continue;
        }
        if (ok && !has_rows && status != PGRES_COMMAND_OK && status != PGRES_EMPTY_QUERY)
            ok = fail_result(c, res, e);
        PQclear(res);
    }
    if (!waiting || !ok)
        return false;
    if (got == n)
        return true;
    err_set(e, ERR_ANSWER, "%s: no rows came", shapes[got].what);
    return fail_answer(c, e);
}

void conn_rollback(struct conn *c)
{
    struct err e;
    PGTransactionStatusType status = PQtransactionStatus(c->pg);

    if (status == PQTRANS_INTRANS || status == PQTRANS_INERROR)
        (void)!conn_run(c, "ROLLBACK", NULL, NULL, 0, &e); /* if it fails the next call fails too */
}

/* Sends a COPY, which the server must answer with <expected>. */
static bool start_copy(struct conn *c, const char *sql, ExecStatusType expected, struct err *e)
{
    bool waiting = true;
    ExecStatusType status;
    PGresult *res;

    begin_statement(c, sql, ANY_MAX);
    if (!PQsendQuery(c->pg, sql))
        return fail_connection(c, e);
    res = next_result_or(c, expected, &waiting, e);
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
        return fail_answer(c, e);
    }
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
    for (;;) {
        int64_t began_ms = used_ms();

        if ((n = PQgetCopyData(c->pg, &c->line, 1)) != 0)
            break;
        if (!check_parsing(c, began_ms, e) || !read_more(c, e))
            return CONN_COPY_FAILED;
    }
    c->came = 0;
    if (n == -1)
        return finish_copy(c, e);
    if (n < 0) {
        fail_connection(c, e);
        return CONN_COPY_FAILED;
    }
    *line = c->line;
    *len = (size_t)n - (n > 0 && c->line[n - 1] == '\n');
    if (memchr(c->line, '\n', *len) == NULL && memchr(c->line, '\0', *len) == NULL)
        return CONN_COPY_LINE;
    err_set(e, ERR_ANSWER, "what it sends as one line is none");
    fail_answer(c, e);
    return CONN_COPY_FAILED;
}

/* ---- one statement, with parameters ---- */

/* A COPY in the SQL of a script. Closing the connection is simpler than ending the COPY. */
static bool refuse_copy(struct conn *c, struct err *e)
{
    PQfinish(c->pg);
    c->pg = NULL;
    return err_set(e, ERR_SQL, "COPY is not possible here");
}

/* Reads the whole answer into *last, which is NULL before: what of it the last statement has given,
 * owned also after a failure. */
static bool read_answer(struct conn *c, size_t max, struct result **last, uint64_t *affected,
                        struct err *e)
{
    bool ok = true, waiting = true, is_whole = true;
    PGresult *res;

    while ((res = next_result(c, &waiting, e)) != NULL) {
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
    if (c->is_in_copy)
        return refuse_copy(c, e);
    if (!ok || !waiting)
        return false;
    if (*last != NULL && is_whole)
        return true;
    err_set(e, ERR_ANSWER, "there is none");
    return fail_answer(c, e);
}

bool conn_send(struct conn *c, const char *sql, const char *const *params, size_t n, struct err *e)
{
    begin_statement(c, sql, ANY_MAX);
    return ((n == 0 ? PQsendQuery(c->pg, sql)
                    : PQsendQueryParams(c->pg, sql, (int)n, NULL, params, NULL, NULL, 0)) &&
            PQsetSingleRowMode(c->pg)) ? send_all(c, e) : fail_connection(c, e);
}

bool conn_answer(struct conn *c, size_t max, struct result **rows, uint64_t *affected,
                 struct err *e)
{
    c->most = max + ASKED_MAX;
    if (read_answer(c, max, rows, affected, e))
        return true;
    result_free(*rows);
    *rows = NULL;
    return false;
}

/* Reads an answer without rows. Returns owned, or NULL. */
static PGresult *read_description(struct conn *c, struct err *e)
{
    bool ok = true, waiting = true;
    PGresult *res, *last = NULL;

    while ((res = next_result(c, &waiting, e)) != NULL) {
        if (ok && PQresultStatus(res) != PGRES_COMMAND_OK)
            ok = fail_result(c, res, e);
        PQclear(last);
        last = res;
    }
    if (ok && waiting && last != NULL)
        return last;
    if (ok && waiting) {
        err_set(e, ERR_ANSWER, "there is none");
        fail_answer(c, e);
    }
    PQclear(last);
    return NULL;
}

bool conn_describe(struct conn *c, const char *sql, uint32_t *types, size_t max, size_t *n,
                   struct err *e)
{
    PGresult *res;

    begin_statement(c, sql, ASKED_MAX);
    if (!(PQsendPrepare(c->pg, "", sql, 0, NULL) || fail_connection(c, e)) ||
        (res = read_description(c, e)) == NULL)
        return false;
    PQclear(res);
    begin_statement(c, sql, ASKED_MAX);
    if (!(PQsendDescribePrepared(c->pg, "") || fail_connection(c, e)) ||
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
    struct pollfd fd = { .fd = PQsocket(c->pg), .events = POLLIN };

    /* there may be to read: a notice, the reason why the server closes the connection, its end */
    for (int i = 0; PQstatus(c->pg) == CONNECTION_OK && poll(&fd, 1, 0) > 0 &&
                    PQconsumeInput(c->pg); i++)
        if (PQisBusy(c->pg) || i == IDLE_READS)
            return false;
    return PQstatus(c->pg) == CONNECTION_OK && !c->is_doomed;
}

bool conn_wait_notify(struct conn *c, int64_t deadline_ms, char *text, size_t size, struct err *e)
{
    PGnotify *n;

    *text = '\0';
    begin_statement(c, "LISTEN", ASKED_MAX);
    while ((n = PQnotifies(c->pg)) == NULL) {
        if (!wait_socket(c, POLLIN, deadline_ms < 0 ? FOR_EVER : deadline_ms, e))
            return deadline_ms >= 0 && clock_mono_ms() >= deadline_ms && e->code == ERR_CONNECTION;
        if (!consume(c, e))
            return false;
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
    c->came = 0;
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
