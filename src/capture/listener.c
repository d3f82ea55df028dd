/* listener.c -- hears commits that the triggers announce, and counts them.
 *
 * Whether notifications arrive is tried out with one of our own, from another connection: through a
 * pooler LISTEN succeeds, but on a server's connection that others are given next.
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

#define N_COUNTS 64       /* sources whose tables share a count are woken together */
#define TRIAL_MS 5000
#define RETRY_MS 1000

struct listener {
    const char *conninfo;
    int stop_fd;
    pthread_mutex_t *mutex;
    pthread_cond_t *changed;
    pthread_t thread;
    uint64_t counts[N_COUNTS];
    char mute[160]; /* why nothing is announced here; "" while something may be */
};

uint64_t listener_count(const struct listener *l, uint64_t number)
{
    return l->counts[number % N_COUNTS];
}

const char *listener_why_mute(const struct listener *l)
{
    return l->mute[0] != '\0' ? l->mute : NULL;
}

/* Counts an announcement of the table whose number <text> is; if it is no number, of all tables. */
static void count(struct listener *l, const char *text)
{
    uint64_t number;
    bool is_one = text_is_u64(text, &number);

    pthread_mutex_lock(l->mutex);
    for (size_t i = 0; i < N_COUNTS; i++)
        l->counts[i] += !is_one || i == number % N_COUNTS;
    pthread_cond_broadcast(l->changed);
    pthread_mutex_unlock(l->mutex);
}

static void become_mute(struct listener *l, const char *why)
{
    pthread_mutex_lock(l->mutex);
    snprintf(l->mute, sizeof l->mute, "commits are not announced here (%.80s): changes are looked "
             "for at the interval", why);
    pthread_cond_broadcast(l->changed);
    pthread_mutex_unlock(l->mutex);
}

/* Announces <word> from another connection. */
static bool announce(struct listener *l, const char *word, struct err *e)
{
    struct conn *conn = conn_open(l->conninfo, l->stop_fd, CONN_STOP_AT_ONCE, NULL, e);
    char sql[128];
    bool ok;

    if (conn == NULL)
        return false;
    snprintf(sql, sizeof sql, "SELECT pg_catalog.pg_notify('pgcdc', '%s')", word);
    ok = conn_run(conn, sql, NULL, NULL, 0, e);
    conn_close(conn, NULL);
    return ok;
}

/* Tries whether announcements arrive: *arrives. Blocks for up to TRIAL_MS. */
static bool try_out(struct listener *l, struct conn *conn, bool *arrives, struct err *e)
{
    int64_t deadline = clock_mono_ms() + TRIAL_MS;
    char word[64], text[64];

    *arrives = false;
    snprintf(word, sizeof word, "hello-%" PRIx64, (uint64_t)clock_mono_ns());
    if (!announce(l, word, e))
        return false;
    while (!*arrives) {
        if (!conn_wait_notify(conn, deadline, text, sizeof text, e))
            return false;
        if (*text == '\0')
            return true;
        if (strncmp(text, "hello", 5) != 0)
            count(l, text);
        *arrives = strcmp(text, word) == 0;
    }
    return true;
}

/* Listens until the connection breaks: false. True: announcements do not arrive. */
static bool listen(struct listener *l, struct conn *conn, struct err *e)
{
    bool arrives;
    char text[64];

    if (!conn_run(conn, "LISTEN pgcdc", NULL, NULL, 0, e) || !try_out(l, conn, &arrives, e))
        return false;
    if (!arrives) {
        become_mute(l, "what is sent does not arrive; is there a pooler?");
        return true;
    }
    count(l, ""); /* commits before this were not heard: all tables may have changed */
    for (;;) {
        if (!conn_wait_notify(conn, clock_mono_ms() + conn_patience_ms(conn), text, sizeof text, e))
            return false;
        if (*text == '\0') {
            /* nothing was announced: finds out whether the connection is alive */
            if (!conn_run(conn, "SELECT 1", NULL, NULL, 0, e))
                return false;
        } else if (strncmp(text, "hello", 5) != 0) {
            count(l, text);
        }
    }
}

static void *run_thread(void *arg)
{
    struct listener *l = arg;
    struct pollfd stop = { .fd = l->stop_fd, .events = POLLIN };
    struct connect_orphan left = { .pid = 0 };

    pthread_setname_np(pthread_self(), "bell");
    for (;;) {
        struct err e = { .code = ERR_NONE };
        struct conn *conn = conn_open(l->conninfo, l->stop_fd, CONN_STOP_AT_ONCE, &left, &e);
        bool is_over = conn != NULL && listen(l, conn, &e);

        conn_close(conn, &left);
        if (is_over || e.code == ERR_STOPPED)
            return NULL;
        if (conn != NULL && e.code == ERR_SQL && strncmp(e.sqlstate, "57", 2) != 0) {
            become_mute(l, e.msg);
            return NULL;
        }
        if (poll(&stop, 1, RETRY_MS) > 0)
            return NULL;
    }
}

struct listener *listener_new(const char *conninfo, int stop_fd, pthread_mutex_t *mutex,
                              pthread_cond_t *changed)
{
    struct listener *l = calloc(1, sizeof *l);

    if (l == NULL)
        return NULL;
    *l = (struct listener){ .conninfo = conninfo, .stop_fd = stop_fd, .mutex = mutex,
                            .changed = changed };
    if (pthread_create(&l->thread, NULL, run_thread, l) == 0)
        return l;
    free(l);
    return NULL;
}

void listener_free(struct listener *l)
{
    if (l == NULL)
        return;
    pthread_join(l->thread, NULL);
    free(l);
}
