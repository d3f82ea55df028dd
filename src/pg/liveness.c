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
#include "pg/result.h"

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
/* While it is hurried, the time before a statement's first question, and from one to the next: */
#define FIRST_HURRIED_MS 100
#define HURRIED_MS 250
#define ANSWER_MAX 4096 /* bytes */
#define END_MS 2000 /* to end a statement at the server, at most */
#define CANCEL_LOOK_MS 20

/* The one row of an answer in pieces, owned; NULL where there is none of this shape. */
static struct result *read_one(const PGresult *res, const struct result_shape *shape)
{
    struct err e;
    struct result *r = PQresultStatus(res) == PGRES_SINGLE_TUPLE
                           ? result_new(shape, ANSWER_MAX, &e) : NULL;

    if (r != NULL && result_add(r, res, &e) && result_count(r) == 1)
        return r;
    result_free(r);
    return NULL;
}

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

void liveness_take_answer(struct liveness *p, const PGresult *res)
{
    struct result *r = read_one(res, &(struct result_shape){ "the backend", "t", 1, 1 });
    long pid = 0;

    /* <began> becomes part of a statement */
    if (r != NULL &&
        sscanf(result_text(r, 0, 0), "%10ld %31[0-9.] %31[0-9.]", &pid, p->began, p->booted) == 3 &&
        pid == PQbackendPID(p->conn))
        p->pid = pid;
    result_free(r);
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
    if (p->hurry_ms != 0)
        return;
    hang_up(p);
    p->n_bad = 0;
    p->work = LIVENESS_UNKNOWN;
    p->silent_ms = clock_mono_ms();
    p->next_ms = p->silent_ms + (p->is_curious && p->times.idle_ms > CURIOUS_MS
                                     ? CURIOUS_MS : p->times.idle_ms);
}

void liveness_begin_statement(struct liveness *p)
{
    hang_up(p);
    p->shown_ms = clock_mono_ms();
    p->next_ms = p->shown_ms + FIRST_HURRIED_MS; /* counts if it is hurried, else a wait sets it */
}

void liveness_take_progress(struct liveness *p)
{
    p->shown_ms = clock_mono_ms();
}

void liveness_hurry(struct liveness *p, int64_t most_ms)
{
    if (p->hurry_ms == 0)
        p->next_ms = p->shown_ms = clock_mono_ms();
    p->hurry_ms = most_ms;
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
    p->asking = connect_begin(p->conninfo,
                              &(struct connect_changes){ .to = &to, .name = NAME }, &e);
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

/* The server says that it is at work for us: reads whether it waits for a lock. */
static void read_work(struct liveness *p, const struct result *r)
{
    const char *type = result_text(r, 0, 4), *pids = result_text(r, 0, 5);

    p->work = type != NULL && strcmp(type, "Lock") == 0 ? LIVENESS_LOCKED : LIVENESS_WORKS;
    p->holders[0] = '\0';
    if (pids != NULL)
        snprintf(p->holders, sizeof p->holders, ", which process %.60s holds", pids);
}

static enum answer read_row(struct liveness *p, const struct result *r)
{
    const char *state = result_text(r, 0, 1), *event = result_text(r, 0, 2);

    p->is_there = false;
    if (p->pid == 0 || strcmp(result_text(r, 0, 3), p->booted) != 0)
        return UNKNOWN; /* another server; or it was started anew, which TCP finds */
    if (result_text(r, 0, 0) == NULL) {
        snprintf(p->why, sizeof p->why, "the server knows nothing of it any more");
        return BAD;
    }
    p->is_there = true;
    if (state == NULL)
        return UNKNOWN;
    if (strncmp(state, "idle", 4) != 0 &&
        !(event != NULL &&
          (strcmp(event, "ClientRead") == 0 || strcmp(event, "ClientWrite") == 0))) {
        read_work(p, r);
        return GOOD;
    }
    snprintf(p->why, sizeof p->why, "the server waits for us on it (%.40s)",
             event != NULL ? event : state);
    return BAD;
}

static enum answer read_answer(struct liveness *p, const PGresult *res)
{
    struct result *r = read_one(res, &(struct result_shape){ "its work", "TTTtTT", 1, 1 });
    enum answer answer = r != NULL ? read_row(p, r) : UNKNOWN;

    result_free(r);
    return answer;
}

/* ---- what follows from an answer ---- */

/* Counts an answer and plans the next question. False, with <e>, if the connection is lost. */
static bool conclude(struct liveness *p, enum answer answer, struct err *e)
{
    int64_t now = clock_mono_ms();

    hang_up(p);
    if (p->hurry_ms != 0) { /* the time since the last GOOD answer counts, not the number of BAD */
        p->shown_ms = answer == GOOD ? now : p->shown_ms;
        p->next_ms = now + HURRIED_MS;
        return true;
    }
    if (now - p->silent_ms < p->times.idle_ms) { /* it was an early question, see CURIOUS_MS */
        p->next_ms = p->silent_ms + p->times.idle_ms;
        return true;
    }
    if (answer == BAD && ++p->n_bad >= p->times.count)
        return err_set(e, ERR_CONNECTION, "no byte came on this connection for %.1f s: %s",
                       (double)(now - p->silent_ms) / 1000, p->why);
    if (answer != BAD)
        p->n_bad = 0;
    p->next_ms = answer == BAD ? p->asked_ms + p->times.interval_ms : now + p->times.idle_ms;
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
    int64_t now = clock_mono_ms(), late_ms = p->shown_ms + p->hurry_ms;

    *fd = (struct pollfd){ .fd = -1 };
    if (p->hurry_ms != 0 && now >= late_ms)
        return err_set(e, ERR_CONNECTION, "the program is to stop, and the server has not shown for"
                       " %.1f s that it is at work", (double)(now - p->shown_ms) / 1000);
    if (p->hurry_ms != 0)
        bound(wait_ms, late_ms, now);
    if (p->is_refused || p->times.count == 0 || (p->hurry_ms != 0 && p->pid == 0))
        return true;
    if (p->asking == NULL && now >= p->next_ms && !call(p) && !conclude_refused(p, e))
        return false;
    if (p->asking != NULL && is_ready(p->asking, p->wants_write) && !advance(p, e))
        return false;
    if (p->asking != NULL) {
        late_ms = p->asked_ms + p->times.interval_ms;
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

/* How long it may take to end a backend; a stop shortens that. */
struct limit {
    int64_t until_ms, stopping_ms;
    int stop_fd; /* -1: there is none, or the stop was noticed */
};

/* Waits until the connection, if it is not NULL, can be read, or written. False if the time is
 * over, or <most_ms> have passed. */
static bool wait_for(PGconn *conn, bool for_write, struct limit *l, int64_t most_ms)
{
    int64_t now = clock_mono_ms(), until_ms = now + most_ms;

    for (; now < until_ms && now < l->until_ms; now = clock_mono_ms()) {
        struct pollfd fds[2] = {
            { .fd = conn != NULL ? PQsocket(conn) : -1, .events = for_write ? POLLOUT : POLLIN },
            { .fd = l->stop_fd, .events = POLLIN },
        };
        int64_t end_ms = until_ms < l->until_ms ? until_ms : l->until_ms;

        if (poll(fds, 2, (int)(end_ms - now)) <= 0)
            continue;
        if (fds[1].revents != 0) {
            l->stop_fd = -1;
            if (l->until_ms > now + l->stopping_ms)
                l->until_ms = now + l->stopping_ms;
        }
        if (fds[0].revents != 0)
            return true;
    }
    return false;
}

/* A request to cancel, for which libpq blocks without a limit, hence in a thread of its own. The
 * thread and its maker share this; the one that is done with it last frees it. */
struct cancelling {
    PGcancel *cancel;
    pthread_mutex_t mutex;
    bool is_over; /* the thread is done with it */
    bool is_left; /* its maker is done with it */
};

/* Unlocks the mutex, which the caller holds. <is_last>: the other side is done with it: frees. */
static void leave_cancelling(struct cancelling *c, bool is_last)
{
    pthread_mutex_unlock(&c->mutex);
    if (!is_last)
        return;
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

static bool is_over(struct cancelling *c)
{
    bool is;

    pthread_mutex_lock(&c->mutex);
    is = c->is_over;
    pthread_mutex_unlock(&c->mutex);
    return is;
}

/* Asks to cancel the statement, and waits for that. */
static void cancel_statement(struct liveness *p, struct limit *l)
{
    struct cancelling *c = calloc(1, sizeof *c);
    pthread_t thread;

    if (c == NULL)
        return;
    pthread_mutex_init(&c->mutex, NULL);
    c->cancel = PQgetCancel((PGconn *)p->conn);
    if (c->cancel == NULL || pthread_create(&thread, NULL, run_cancel, c) != 0) {
        pthread_mutex_lock(&c->mutex);
        leave_cancelling(c, true);
        return;
    }
    pthread_detach(thread);
    while (clock_mono_ms() < l->until_ms && !is_over(c))
        (void)wait_for(NULL, false, l, CANCEL_LOOK_MS);
    pthread_mutex_lock(&c->mutex);
    c->is_left = true;
    leave_cancelling(c, c->is_over);
}

void liveness_end_backend(struct liveness *p, int stop_fd, int64_t stopping_ms)
{
    struct limit l = { clock_mono_ms() + END_MS, stopping_ms, stop_fd };
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;
    char sql[256];

    hang_up(p);
    if (p->pid == 0 || p->is_refused) {
        cancel_statement(p, &l);
        return;
    }
    if (!call(p))
        status = PGRES_POLLING_FAILED;
    while (status != PGRES_POLLING_OK) {
        if (status == PGRES_POLLING_FAILED ||
            !wait_for(p->asking, status == PGRES_POLLING_WRITING, &l, END_MS)) {
            hang_up(p);
            return;
        }
        status = PQconnectPoll(p->asking);
    }
    put_end(sql, sizeof sql, p->pid, p->began);
    if (PQsendQuery(p->asking, sql) == 1 && PQsetSingleRowMode(p->asking) == 1)
        while (PQisBusy(p->asking) && wait_for(p->asking, false, &l, END_MS) &&
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
