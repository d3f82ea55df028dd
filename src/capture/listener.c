/* listener.c -- hears commits that the triggers announce, and counts them.
 *
 * That notifications arrive is tried out with one of our own, from another
 * connection: through a pooler LISTEN succeeds, but on a connection
 * that others are given.
 *
 * SPDX-License-Identifier: MIT */
#include "capture/listener.h"

#include "base/clock.h"
#include "base/text.h"
#include "pg/conn.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNTERS 64          /* tables that share one are woken together */
#define TRIAL_MS 5000
#define RETRY_MS 1000

struct listener {
    const char *conninfo;
    int stop_fd;
    pthread_mutex_t *mutex;
    pthread_cond_t *changed;
    pthread_t thread;
    uint64_t counts[COUNTERS];
    char mute[160]; /* empty while it may ring */
};

uint64_t listener_count(const struct listener *b, uint64_t number)
{
    return b->counts[number % COUNTERS];
}

const char *listener_why_mute(const struct listener *b)
{
    return b->mute[0] != '\0' ? b->mute : NULL;
}

/* For one table, or for all of them if <text> is none's number. */
static void ring(struct listener *b, const char *text)
{
    uint64_t number;
    bool is_one = text_is_u64(text, &number);

    pthread_mutex_lock(b->mutex);
    for (size_t i = 0; i < COUNTERS; i++)
        b->counts[i] += !is_one || i == number % COUNTERS;
    pthread_cond_broadcast(b->changed);
    pthread_mutex_unlock(b->mutex);
}

static void fall_silent(struct listener *b, const char *why)
{
    pthread_mutex_lock(b->mutex);
    snprintf(b->mute, sizeof b->mute, "commits are not announced here (%.80s): changes are looked "
             "for at the interval", why);
    pthread_cond_broadcast(b->changed);
    pthread_mutex_unlock(b->mutex);
}

/* Says a word of our own on another connection. */
static bool call_out(struct listener *b, const char *word, struct err *e)
{
    struct conn *conn = conn_open(b->conninfo, b->stop_fd, CONN_STOP_AT_ONCE, NULL, e);
    char sql[128];
    bool ok;

    if (conn == NULL)
        return false;
    snprintf(sql, sizeof sql, "SELECT pg_catalog.pg_notify('pgcdc', '%s')", word);
    ok = conn_run(conn, sql, NULL, 0, e);
    conn_close(conn, NULL);
    return ok;
}

/* *arrives: what is announced does. */
static bool try_out(struct listener *b, struct conn *conn, bool *arrives, struct err *e)
{
    int64_t deadline = clock_mono_ms() + TRIAL_MS;
    char word[64], text[64];

    *arrives = false;
    snprintf(word, sizeof word, "hello-%" PRIx64, (uint64_t)clock_mono_ns());
    if (!call_out(b, word, e))
        return false;
    while (!*arrives) {
        if (!conn_wait_notify(conn, deadline, text, sizeof text, e))
            return false;
        if (*text == '\0')
            return true;
        if (strncmp(text, "hello", 5) != 0)
            ring(b, text);
        *arrives = strcmp(text, word) == 0;
    }
    return true;
}

/* Listens until the connection breaks. */
static bool listen(struct listener *b, struct conn *conn, struct err *e)
{
    bool arrives;
    char text[64];

    if (!conn_run(conn, "LISTEN pgcdc", NULL, 0, e) || !try_out(b, conn, &arrives, e))
        return false;
    if (!arrives) {
        fall_silent(b, "what is sent does not arrive; is there a pooler?");
        return true;
    }
    ring(b, ""); /* nobody knows what went by before */
    for (;;) {
        if (!conn_wait_notify(conn, clock_mono_ms() + conn_patience_ms(conn), text, sizeof text, e))
            return false;
        if (*text == '\0') {
            /* whether it is quiet, or dead */
            if (!conn_run(conn, "SELECT 1", NULL, 0, e))
                return false;
        } else if (strncmp(text, "hello", 5) != 0) {
            ring(b, text);
        }
    }
}

static void *run_thread(void *arg)
{
    struct listener *b = arg;
    struct pollfd stop = { .fd = b->stop_fd, .events = POLLIN };
    struct connect_orphan left = { .pid = 0 };

    pthread_setname_np(pthread_self(), "bell");
    for (;;) {
        struct err e = { .code = ERR_NONE };
        struct conn *conn = conn_open(b->conninfo, b->stop_fd, CONN_STOP_AT_ONCE, &left, &e);
        bool is_over = conn != NULL && listen(b, conn, &e);

        conn_close(conn, &left);
        if (is_over || e.code == ERR_STOPPED)
            return NULL;
        if (conn != NULL && e.code == ERR_SQL && strncmp(e.sqlstate, "57", 2) != 0) {
            fall_silent(b, e.msg);
            return NULL;
        }
        if (poll(&stop, 1, RETRY_MS) > 0)
            return NULL;
    }
}

struct listener *listener_new(const char *conninfo, int stop_fd, pthread_mutex_t *mutex,
                              pthread_cond_t *changed)
{
    struct listener *b = calloc(1, sizeof *b);

    if (b == NULL)
        return NULL;
    *b = (struct listener){ .conninfo = conninfo, .stop_fd = stop_fd, .mutex = mutex,
                        .changed = changed };
    if (pthread_create(&b->thread, NULL, run_thread, b) == 0)
        return b;
    free(b);
    return NULL;
}

void listener_free(struct listener *b)
{
    if (b == NULL)
        return;
    pthread_join(b->thread, NULL);
    free(b);
}
