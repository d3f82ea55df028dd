/* wire.c -- what goes over a connection, with limits.
 * SPDX-License-Identifier: MIT */
#include "pg/wire.h"

#include "base/clock.h"

#include <errno.h>
#include <libpq-fe.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#define PARSE_MAX_MS 100 /* processor time to search what was read at once */
#define SEND_MAX ((size_t)16 << 20) /* what may come while the server is to read */
#define READ_LEAST 8192 /* what libpq reads at once, if there is so much */
/* after a stop: */
#define AT_ONCE_END_MS 700  /* to end a statement at the server, if nothing was waited for */
#define STOPPING_END_MS 200 /* the same, if something was */
#define STOPPING_MS 300     /* how long bytes may come; and how many */
#define STOPPING_BYTES 16384
#define SILENT_MS 600       /* how long nothing may show that the server is at work, or connects */
#define SILENT_AGAIN_MS 100 /* the same once there was such a silence */
#ifndef WIRE_WORK_MS
#define WIRE_WORK_MS 15000  /* how long servers may be at work */
#endif

/* A thread is to stop once, so it has one time for that, whichever connection it waits on. */
static _Thread_local struct {
    int64_t since_ms; /* when one of its connections noticed the stop first; 0: none has yet */
    bool was_silent;  /* one of them was lost by silence since then */
} stopping;

bool wire_fail(struct wire *w, struct err *e)
{
    const char *msg = PQerrorMessage(w->pg);

    return connect_fail(ERR_CONNECTION, *msg != '\0' ? msg : "the connection is closed", e);
}

/* The program is to stop. False if that ends the wait; else *deadline_ms may come nearer. */
static bool begin_stop(struct wire *w, int64_t *deadline_ms, struct err *e)
{
    int64_t most_ms = stopping.was_silent ? SILENT_AGAIN_MS : SILENT_MS;

    if (!w->is_stopping)
        w->stopped_ms = clock_mono_ms();
    w->is_stopping = true;
    if (w->stops_at_once)
        return err_set(e, ERR_STOPPED, "stopping");
    if (stopping.since_ms == 0)
        stopping.since_ms = w->stopped_ms;
    if (*deadline_ms == WIRE_WHILE_AT_WORK)
        liveness_hurry(&w->liveness, most_ms);
    else if (*deadline_ms == WIRE_FOR_EVER || *deadline_ms > w->stopped_ms + most_ms)
        *deadline_ms = w->stopped_ms + most_ms;
    return true;
}

void wire_end_backend(struct wire *w)
{
    liveness_end_backend(&w->liveness, w->stop_fd,
                         w->stops_at_once ? AT_ONCE_END_MS : STOPPING_END_MS);
}

/* True while the wait may go on, for *left milliseconds, or less. */
static bool is_in_time(struct wire *w, int64_t deadline_ms, int64_t *left, struct err *e)
{
    int64_t now = clock_mono_ms();

    *left = deadline_ms < 0 ? -1 : deadline_ms - now;
    if (deadline_ms >= 0 && *left <= 0) {
        stopping.was_silent = stopping.was_silent || w->is_stopping;
        return err_set(e, ERR_CONNECTION, "the server did not answer in time");
    }
    if (!w->is_stopping || deadline_ms != WIRE_WHILE_AT_WORK)
        return true;
    *left = stopping.since_ms + WIRE_WORK_MS - now;
    return *left > 0 || err_set(e, ERR_CONNECTION, "the program is to stop, for which the server"
                                " had %d s", WIRE_WORK_MS / 1000);
}

/* As is_in_time; if the wait is for the server's work, false too if the server is not at work. *fd:
 * what to poll for besides. */
static bool is_alive(struct wire *w, int64_t deadline_ms, struct pollfd *fd, int64_t *left,
                     struct err *e)
{
    if (!is_in_time(w, deadline_ms, left, e)) {
        w->is_lost = deadline_ms == WIRE_WHILE_AT_WORK;
    } else if (deadline_ms != WIRE_WHILE_AT_WORK || liveness_step(&w->liveness, fd, left, e)) {
        return true;
    } else {
        w->is_lost = true;
        stopping.was_silent = stopping.was_silent || w->is_stopping;
    }
    if (w->is_lost && w->liveness.is_there)
        wire_end_backend(w); /* else it keeps its locks until it notices that nobody listens */
    return false;
}

bool wire_wait(struct wire *w, short events, int64_t deadline_ms, struct err *e)
{
    bool is_told = false, is_long = false;

    if (deadline_ms == WIRE_WHILE_AT_WORK)
        liveness_begin_wait(&w->liveness);
    for (;;) {
        struct pollfd fds[3] = {
            { .fd = PQsocket(w->pg), .events = events },
            { .fd = is_told ? -1 : w->stop_fd, .events = POLLIN },
            { .fd = -1 },
        };
        int64_t left;
        int n;

        if (!is_alive(w, deadline_ms, &fds[2], &left, e))
            return false;
        if (deadline_ms == WIRE_WHILE_AT_WORK && !is_long &&
            liveness_is_long(&w->liveness, &left)) {
            is_long = true;
            w->tell(w->tell_arg, false);
        }
        beat_serve(w->beat, true);
        n = poll(fds, 3, left > INT_MAX ? INT_MAX : (int)left);
        beat_serve(w->beat, false);
        if (n < 0 && errno != EINTR)
            return err_set(e, ERR_INTERNAL, "poll: %s", strerror(errno));
        /* the stop first: a socket that floods is always ready */
        if (n > 0 && fds[1].revents != 0) {
            is_told = true;
            if (!begin_stop(w, &deadline_ms, e))
                return false;
        }
        if (n > 0 && fds[0].revents != 0) {
            if ((fds[0].revents & POLLOUT) != 0)
                liveness_take_progress(&w->liveness);
            if (is_long)
                w->tell(w->tell_arg, true);
            return true;
        }
    }
}

/* ---- what a server may send ---- */

void wire_begin(struct wire *w, const char *sql, size_t most)
{
    size_t whole = strcspn(sql, "'"), most_text = sizeof w->statement - 4;
    size_t n = whole < most_text ? whole : most_text; /* what is quoted may be a password */

    snprintf(w->statement, sizeof w->statement, "%.*s%s", (int)n, sql, sql[n] != '\0' ? "..." : "");
    w->deadline_ms = WIRE_WHILE_AT_WORK;
    liveness_begin_statement(&w->liveness);
    w->came = 0;
    w->most = most;
    w->read_used_ms = wire_used_ms();
    w->is_timed = false;
    /* a rule can make several statements of one */
    w->n_results = 16;
    for (const char *p = sql; (p = strchr(p, ';')) != NULL; p++)
        w->n_results += 4;
}

bool wire_fail_answer(struct wire *w, struct err *e)
{
    if (e->code != ERR_ANSWER)
        return false;
    w->is_lost = true;
    return err_prefix(e, "the server's answer to \"%s\"", w->statement);
}

size_t wire_unread(const struct wire *w)
{
    int n = 0;

    return ioctl(PQsocket(w->pg), FIONREAD, &n) == 0 && n > 0 ? (size_t)n : 0;
}

bool wire_consume(struct wire *w, struct err *e)
{
    size_t before = wire_unread(w);

    return PQconsumeInput(w->pg) ? wire_count(w, before, e) : wire_fail(w, e);
}

bool wire_count(struct wire *w, size_t before, struct err *e)
{
    size_t after = wire_unread(w);
    size_t n = after < before ? before - after : before < READ_LEAST ? before : READ_LEAST;

    w->came += n;
    w->came_stopping += w->is_stopping ? n : 0;
    if (w->came > w->most) {
        err_set(e, ERR_ANSWER, "%zu MB came that are no part of it", w->came >> 20);
        return wire_fail_answer(w, e);
    }
    if (w->came_stopping <= STOPPING_BYTES || clock_mono_ms() - w->stopped_ms < STOPPING_MS)
        return true;
    w->is_lost = true;
    return err_set(e, ERR_STOPPED, "stopping");
}

int64_t wire_used_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* (A message with millions of parameters makes libpq slow.) */
bool wire_check_parsing(struct wire *w, int64_t began_ms, struct err *e)
{
    if (wire_used_ms() - began_ms <= PARSE_MAX_MS)
        return true;
    err_set(e, ERR_ANSWER, "too much came that is no part of it");
    return wire_fail_answer(w, e);
}

bool wire_send(struct wire *w, struct err *e)
{
    size_t most = w->most;
    bool ok = true;
    int n;

    if (w->most > SEND_MAX)
        w->most = SEND_MAX;
    while (ok && (n = PQflush(w->pg)) > 0) {
        ok = wire_wait(w, POLLIN | POLLOUT, w->deadline_ms, e) && wire_consume(w, e);
        if (ok)
            (void)PQisBusy(w->pg); /* takes notices out of the buffer */
    }
    w->most = most;
    return ok && (n == 0 || wire_fail(w, e));
}

bool wire_read(struct wire *w, struct err *e)
{
    bool ok = wire_wait(w, POLLIN, w->deadline_ms, e) && wire_consume(w, e);

    w->read_used_ms = wire_used_ms();
    return ok;
}

/* To ask for the thread's time is a call of the system, which for each line would take as long as
 * the line. So first the time is taken since something was read, with what the lines before were
 * used for; only where that is long is each look timed by itself. */
int wire_copy_next(struct wire *w, char **line, struct err *e)
{
    for (;;) {
        int64_t began_ms = w->is_timed ? wire_used_ms() : w->read_used_ms;
        int n = PQgetCopyData(w->pg, line, 1);

        if (n != 0)
            return n;
        if (!w->is_timed)
            w->is_timed = wire_used_ms() - began_ms > PARSE_MAX_MS;
        else if (!wire_check_parsing(w, began_ms, e))
            return 0;
        if (!wire_read(w, e))
            return 0;
    }
}

PGresult *wire_next_or(struct wire *w, int copy, bool *ok, struct err *e)
{
    PGresult *res;
    ExecStatusType status;

    for (*ok = wire_send(w, e); *ok; *ok = wire_read(w, e)) {
        int64_t began_ms = wire_used_ms();

        if (!PQisBusy(w->pg))
            break;
        if (!(*ok = wire_check_parsing(w, began_ms, e)))
            return NULL;
    }
    res = *ok ? PQgetResult(w->pg) : NULL;
    if (res == NULL)
        return NULL;
    status = PQresultStatus(res);
    *ok = false;
    if ((int)status != copy && (status == PGRES_COPY_IN || status == PGRES_COPY_OUT ||
                           status == PGRES_COPY_BOTH)) {
        w->is_in_copy = true;
        err_set(e, ERR_ANSWER, "it is a COPY, which was not asked for");
    } else if (status != PGRES_SINGLE_TUPLE && w->n_results-- == 0) {
        err_set(e, ERR_ANSWER, "it has no end");
    } else {
        *ok = true;
        return res;
    }
    wire_fail_answer(w, e);
    PQclear(res);
    return NULL;
}

PGresult *wire_next(struct wire *w, bool *ok, struct err *e)
{
    return wire_next_or(w, PGRES_EMPTY_QUERY, ok, e);
}

bool wire_query(struct wire *w, const char *sql, size_t most, struct err *e)
{
    wire_begin(w, sql, most);
    if (!PQsendQuery(w->pg, sql))
        return wire_fail(w, e);
    return PQsetSingleRowMode(w->pg) == 1 || wire_fail(w, e);
}
