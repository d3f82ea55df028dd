/* liveness.c -- tells whether the server is still at work for a connection that is silent.
 *
 * A backend is identified by its pid and the time when it began, the server by the
 * time when it was started. A pooler gives a new connection a pid that is not that
 * of a backend. The columns that are read here can be read by the role that the
 * backend belongs to. Checked on 14 to 18.
 *
 * SPDX-License-Identifier: MIT */
#include "pg/liveness.h"

#include "base/clock.h"

#include <libpq-fe.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CURIOUS_MS 5000 /* the silence before an early question: a long wait */
#define ANSWERED_MS 7000 /* when that should have been answered */
#define NAME "pgcdc-lua pulse" /* the second connection's application_name */
/* Times after a stop was asked for: */
#define HURRY_MS 1000      /* the silence before the question */
#define HURRIED_MS 5000    /* for the answer, at most */
#define HURRY_MAX_MS 10000 /* the silence at most, if no answer says anything */

/* The statement that ends a backend, if it is still there. */
static void put_end(char *sql, size_t size, long pid, const char *began)
{
    snprintf(sql, size,
             "SELECT pg_catalog.pg_terminate_backend(pid) FROM"
             " pg_catalog.pg_stat_get_activity(%ld) WHERE"
             " extract(epoch FROM backend_start) = '%s'", pid, began);
}

void liveness_put_question(const struct connect_orphan *left, char sql[LIVENESS_SQL])
{
    int n = snprintf(sql, LIVENESS_SQL,
                     "SELECT pid || ' ' || extract(epoch FROM backend_start) || ' ' ||"
                     " extract(epoch FROM pg_catalog.pg_postmaster_start_time())"
                     " FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid());"
                     "SELECT pg_catalog.set_config('idle_session_timeout', '0', false)"
                     " WHERE pg_catalog.current_setting('idle_session_timeout') <> '0';");

    if (left != NULL && left->pid != 0)
        put_end(sql + n, LIVENESS_SQL - (size_t)n, left->pid, left->began);
}

void liveness_take_answer(struct liveness *p, const char *answer)
{
    long pid = 0;

    /* <began> becomes part of a statement */
    if (answer != NULL &&
        sscanf(answer, "%10ld %31[0-9.] %31[0-9.]", &pid, p->began, p->booted) == 3 &&
        pid == PQbackendPID(p->conn))
        p->pid = pid;
}

void liveness_init(struct liveness *p, const char *conninfo, PGconn *conn)
{
    *p = (struct liveness){ .conninfo = conninfo, .conn = conn };
    connect_read_times(conn, &p->times);
    liveness_begin_wait(p);
}

/* Closes the second connection. */
static void hang_up(struct liveness *p)
{
    PQfinish(p->asking);
    p->asking = NULL;
    p->is_asked = false;
}

void liveness_fini(struct liveness *p)
{
    hang_up(p);
}

void liveness_begin_wait(struct liveness *p)
{
    hang_up(p);
    p->n_bad = 0;
    p->work = LIVENESS_UNKNOWN;
    p->silent_ms = clock_mono_ms();
    p->next_ms = p->silent_ms + (p->is_hurried ? HURRY_MS :
                                 p->is_curious && p->times.idle_ms > CURIOUS_MS
                                     ? CURIOUS_MS : p->times.idle_ms);
}

void liveness_hurry(struct liveness *p)
{
    if (p->is_hurried)
        return;
    p->is_hurried = true;
    liveness_begin_wait(p);
}

/* ---- the question ---- */

static void drop_notice(void *arg, const PGresult *res)
{
    (void)arg;
    (void)res;
}

/* Begins the second connection. False if it failed at once. */
static bool call(struct liveness *p)
{
    struct connect_address to = connect_same(p->conn);
    struct err e;

    p->asked_ms = clock_mono_ms();
    p->is_asked = false;
    p->wants_write = true;
    p->asking = connect_begin(p->conninfo, &to, NAME, &e);
    if (p->asking == NULL || PQstatus(p->asking) == CONNECTION_BAD)
        return false;
    PQsetErrorVerbosity(p->asking, PQERRORS_VERBOSE);
    PQsetNoticeReceiver(p->asking, drop_notice, NULL);
    return true;
}

static bool send_question(struct liveness *p)
{
    char sql[640];

    snprintf(sql, sizeof sql,
             "SELECT a.pid, a.state, a.wait_event,"
             " extract(epoch FROM pg_catalog.pg_postmaster_start_time()), a.wait_event_type,"
             " (SELECT pg_catalog.string_agg(DISTINCT b::text, ', ')"
             " FROM pg_catalog.unnest(pg_catalog.pg_blocking_pids(a.pid)) b)"
             " FROM (SELECT 1) one LEFT JOIN pg_catalog.pg_stat_get_activity(%ld) a"
             " ON extract(epoch FROM a.backend_start) = '%s'", p->pid,
             p->pid != 0 ? p->began : "0");
    p->is_asked = true;
    /* the first row is read, and no other one */
    return PQsendQuery(p->asking, sql) == 1 && PQsetSingleRowMode(p->asking) == 1;
}

enum answer { GOOD, BAD, UNKNOWN };

#define N_FIELDS 6

static const char *field(const PGresult *res, int col)
{
    return PQgetisnull(res, 0, col) ? NULL : PQgetvalue(res, 0, col);
}

/* What the server does for us, of which it says that it is at work. */
static void read_work(struct liveness *p, const PGresult *res)
{
    const char *type = field(res, 4), *pids = field(res, 5);

    p->work = type != NULL && strcmp(type, "Lock") == 0 ? LIVENESS_LOCKED : LIVENESS_WORKS;
    p->holders[0] = '\0';
    if (pids != NULL)
        snprintf(p->holders, sizeof p->holders, ", which process %.60s holds", pids);
}

static enum answer read_answer(struct liveness *p, const PGresult *res)
{
    const char *state, *event, *booted;

    p->is_there = false;
    if (p->pid == 0 || PQresultStatus(res) != PGRES_SINGLE_TUPLE || PQnfields(res) != N_FIELDS)
        return UNKNOWN;
    state = field(res, 1);
    event = field(res, 2);
    booted = field(res, 3);
    if (booted == NULL || strcmp(booted, p->booted) != 0)
        return UNKNOWN; /* another server; or it was started anew, which TCP finds */
    if (field(res, 0) == NULL) {
        snprintf(p->why, sizeof p->why, "the server knows nothing of it any more");
        return BAD;
    }
    p->is_there = true;
    if (state == NULL)
        return UNKNOWN;
    if (strncmp(state, "idle", 4) != 0 &&
        !(event != NULL &&
          (strcmp(event, "ClientRead") == 0 || strcmp(event, "ClientWrite") == 0))) {
        read_work(p, res);
        return GOOD;
    }
    snprintf(p->why, sizeof p->why, "the server waits for us on it (%.40s)",
             event != NULL ? event : state);
    return BAD;
}

/* ---- what follows from an answer ---- */

/* Counts an answer and plans the next question. False, with <e>, if the connection is lost. */
static bool conclude(struct liveness *p, enum answer answer, struct err *e)
{
    int64_t now = clock_mono_ms();
    unsigned limit = p->is_hurried ? 1 : p->times.count;

    hang_up(p);
    if (!p->is_hurried && now - p->silent_ms < p->times.idle_ms) { /* it was an early one */
        p->next_ms = p->silent_ms + p->times.idle_ms;
        return true;
    }
    if (answer == UNKNOWN && p->is_hurried && now - p->silent_ms >= HURRY_MAX_MS) {
        snprintf(p->why, sizeof p->why, "and the program is to stop");
        answer = BAD;
    }
    if (answer == BAD && ++p->n_bad >= limit)
        return err_set(e, ERR_CONNECTION, "no byte came on this connection for %.1f s: %s",
                       (double)(now - p->silent_ms) / 1000, p->why);
    if (answer != BAD)
        p->n_bad = 0;
    p->next_ms = p->is_hurried ? now + HURRY_MS
               : answer == BAD ? p->asked_ms + p->times.interval_ms : now + p->times.idle_ms;
    return true;
}

/* The second connection could not be made. */
static bool conclude_refused(struct liveness *p, struct err *e)
{
    struct err why = { .sqlstate = "" };

    if (p->asking != NULL)
        connect_fail(ERR_CONNECTION, PQerrorMessage(p->asking), &why);
    if (why.sqlstate[0] != '\0') { /* somebody is there */
        p->is_refused = strncmp(why.sqlstate, "28", 2) == 0;
        return conclude(p, UNKNOWN, e);
    }
    snprintf(p->why, sizeof p->why, "nor does the server take another one");
    return conclude(p, BAD, e);
}

/* Goes on with the question. False, with <e>, if the connection is lost. */
static bool advance(struct liveness *p, struct err *e)
{
    PGresult *res;
    enum answer answer;

    if (!p->is_asked) {
        PostgresPollingStatusType status = PQconnectPoll(p->asking);

        p->wants_write = status == PGRES_POLLING_WRITING;
        if (status == PGRES_POLLING_FAILED || (status == PGRES_POLLING_OK && !send_question(p)))
            return conclude_refused(p, e);
        return true;
    }
    if (!PQconsumeInput(p->asking)) {
        snprintf(p->why, sizeof p->why, "and another one broke as well");
        return conclude(p, BAD, e);
    }
    if (PQisBusy(p->asking))
        return true;
    res = PQgetResult(p->asking);
    answer = read_answer(p, res);
    PQclear(res);
    return conclude(p, answer, e);
}

static bool is_ready(const PGconn *conn, bool for_write)
{
    struct pollfd fd = { .fd = PQsocket(conn), .events = for_write ? POLLOUT : POLLIN };

    return poll(&fd, 1, 0) > 0;
}

/* Lowers *wait_ms so that the wait ends at <until_ms>. */
static void bound(int64_t *wait_ms, int64_t until_ms, int64_t now)
{
    int64_t left = until_ms > now ? until_ms - now : 0;

    if (*wait_ms < 0 || left < *wait_ms)
        *wait_ms = left;
}

bool liveness_step(struct liveness *p, struct pollfd *fd, int64_t *wait_ms, struct err *e)
{
    int64_t now = clock_mono_ms(), late_ms;

    *fd = (struct pollfd){ .fd = -1 };
    if (p->is_hurried && (p->is_refused || p->times.count == 0)) {
        bound(wait_ms, p->silent_ms + HURRY_MAX_MS, now);
        if (now - p->silent_ms < HURRY_MAX_MS)
            return true;
        snprintf(p->why, sizeof p->why, "and the program is to stop");
        return conclude(p, BAD, e);
    }
    if (p->is_refused || p->times.count == 0)
        return true;
    if (p->asking == NULL && now >= p->next_ms && !call(p) && !conclude_refused(p, e))
        return false;
    if (p->asking != NULL && is_ready(p->asking, p->wants_write) && !advance(p, e))
        return false;
    if (p->asking != NULL) {
        late_ms = p->asked_ms + (p->is_hurried && p->times.interval_ms > HURRIED_MS
                                     ? HURRIED_MS : p->times.interval_ms);
        if (now >= late_ms) {
            snprintf(p->why, sizeof p->why, "nor does the server answer another one");
            if (!conclude(p, BAD, e))
                return false;
        } else {
            fd->fd = PQsocket(p->asking);
            fd->events = p->wants_write ? POLLOUT : POLLIN;
            bound(wait_ms, late_ms, now);
        }
    }
    if (p->asking == NULL)
        bound(wait_ms, p->next_ms, now);
    return true;
}

/* ---- long waits ---- */

bool liveness_is_long(const struct liveness *p, int64_t *wait_ms)
{
    int64_t waited = clock_mono_ms() - p->silent_ms;

    if (!p->is_curious)
        return false;
    if (waited >= ANSWERED_MS || (waited >= CURIOUS_MS && p->work != LIVENESS_UNKNOWN))
        return true;
    bound(wait_ms, p->silent_ms + (waited < CURIOUS_MS ? CURIOUS_MS : ANSWERED_MS),
          p->silent_ms + waited);
    return false;
}

void liveness_describe(const struct liveness *p, bool is_over, char *text, size_t size)
{
    bool is_locked = p->work == LIVENESS_LOCKED;

    snprintf(text, size, "%s %.1f s for %s%s", is_over ? "goes on, after waiting" : "has waited",
             (double)(clock_mono_ms() - p->silent_ms) / 1000, is_locked ? "a lock" : "the server",
             is_over ? "" : is_locked ? p->holders :
             p->work == LIVENESS_WORKS ? ", which is at work" : "");
}

/* ---- the end ---- */

/* Waits until the connection can be read, or written. False if <until_ms> comes first. */
static bool wait_for(PGconn *conn, bool for_write, int64_t until_ms)
{
    struct pollfd fd = { .fd = PQsocket(conn), .events = for_write ? POLLOUT : POLLIN };
    int64_t left;

    while ((left = until_ms - clock_mono_ms()) > 0) {
        int n = poll(&fd, 1, (int)left);

        if (n > 0)
            return true;
    }
    return false;
}

/* A request to cancel, for which libpq blocks without a limit, hence in a thread of its own. The
 * thread and its maker share this; the one that is done with it last frees it. */
struct cancelling {
    PGcancel *cancel;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool is_over; /* the thread is done with it */
    bool is_left; /* its maker is done with it */
};

/* Unlocks the mutex, which the caller holds. <is_last>: the other side is done with it: frees. */
static void leave_cancelling(struct cancelling *c, bool is_last)
{
    pthread_cond_signal(&c->changed);
    pthread_mutex_unlock(&c->mutex);
    if (!is_last)
        return;
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->mutex);
    PQfreeCancel(c->cancel);
    free(c);
}

static void *run_cancel(void *arg)
{
    struct cancelling *c = arg;
    char text[256];

    pthread_setname_np(pthread_self(), "cancel");
    PQcancel(c->cancel, text, sizeof text);
    pthread_mutex_lock(&c->mutex);
    c->is_over = true;
    leave_cancelling(c, c->is_left);
    return NULL;
}

/* Asks to cancel the statement, and waits for that until <until_ms> at most. */
static void cancel_statement(struct liveness *p, int64_t until_ms)
{
    struct timespec until = { .tv_sec = until_ms / 1000, .tv_nsec = until_ms % 1000 * 1000000 };
    struct cancelling *c = calloc(1, sizeof *c);
    pthread_t thread;

    if (c == NULL)
        return;
    pthread_mutex_init(&c->mutex, NULL);
    clock_init_cond(&c->changed);
    c->cancel = PQgetCancel((PGconn *)p->conn);
    if (c->cancel == NULL || pthread_create(&thread, NULL, run_cancel, c) != 0) {
        pthread_mutex_lock(&c->mutex);
        leave_cancelling(c, true);
        return;
    }
    pthread_detach(thread);
    pthread_mutex_lock(&c->mutex);
    while (!c->is_over && pthread_cond_timedwait(&c->changed, &c->mutex, &until) == 0)
        ;
    c->is_left = true;
    leave_cancelling(c, c->is_over);
}

void liveness_end_backend(struct liveness *p, int64_t most_ms)
{
    int64_t until_ms = clock_mono_ms() + most_ms;
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;
    char sql[256];

    hang_up(p);
    if (p->pid == 0 || p->is_refused) {
        cancel_statement(p, until_ms);
        return;
    }
    if (!call(p))
        status = PGRES_POLLING_FAILED;
    while (status != PGRES_POLLING_OK) {
        if (status == PGRES_POLLING_FAILED ||
            !wait_for(p->asking, status == PGRES_POLLING_WRITING, until_ms)) {
            hang_up(p);
            return;
        }
        status = PQconnectPoll(p->asking);
    }
    put_end(sql, sizeof sql, p->pid, p->began);
    if (PQsendQuery(p->asking, sql) == 1 && PQsetSingleRowMode(p->asking) == 1)
        while (PQisBusy(p->asking) && wait_for(p->asking, false, until_ms) &&
               PQconsumeInput(p->asking))
            ;
    hang_up(p);
}

void liveness_record_orphan(const struct liveness *p, struct connect_orphan *left)
{
    if (p->pid == 0)
        return;
    left->pid = p->pid;
    memcpy(left->began, p->began, sizeof left->began);
}
