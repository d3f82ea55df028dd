/* lease.c -- keeps a pipeline in a state's database ours.
 * SPDX-License-Identifier: MIT */
#include "state/lease.h"

#include "base/clock.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#define AGAIN_MS 500 /* after a failure */

struct lease {
    struct lease_options o;
    _Atomic int64_t renewed_ms; /* by clock_boot_ms, when that was asked for */
    atomic_bool is_lost;
    int stop[2];                /* a pipe; what is written to it ends the thread */
    pthread_t thread;
    struct conn *conn;          /* of the thread */
};

/* Waits, or until somebody wishes to lead. False: the thread is to end. */
static bool rest(struct lease *l, int64_t until_ms)
{
    int64_t ms = until_ms - clock_boot_ms();
    struct pollfd p = { .fd = l->stop[0], .events = POLLIN };
    struct err ignored;
    char text[8];

    if (l->conn != NULL && ms > 0 &&
        !conn_wait_notify(l->conn, clock_mono_ms() + ms, text, sizeof text, &ignored)) {
        conn_close(l->conn, NULL); /* which was lost, or the thread is to end */
        l->conn = NULL;
        ms = 0;
    }
    return poll(&p, 1, l->conn == NULL && ms > 0 ? (int)ms : 0) <= 0;
}

static bool connect_to(struct lease *l, struct err *e)
{
    if (l->conn != NULL)
        return true;
    l->conn = conn_open(l->o.conninfo, l->stop[0], CONN_STOP_AT_ONCE, NULL, e);
    return l->conn != NULL && lease_row_listen(l->conn, e);
}

/* Renews the lease if it is still ours: one that another process has taken is left as it is. */
static bool renew(struct lease *l)
{
    int64_t now = clock_boot_ms();
    struct lease_row_standbys standbys;
    struct err ignored;
    bool is_lost;

    if (!connect_to(l, &ignored) ||
        !lease_row_renew(l->conn, &l->o.claim, l->o.epoch, &is_lost, &standbys, &ignored)) {
        conn_close(l->conn, NULL);
        l->conn = NULL;
        return false;
    }
    if (is_lost)
        atomic_store(&l->is_lost, true);
    else
        role_set_standby(l->o.role, standbys.n, &standbys.newest, &standbys.wants, now);
    atomic_store(&l->renewed_ms, now);
    return true;
}

static void *work(void *arg)
{
    struct lease *l = arg;
    int64_t third = (int64_t)l->o.claim.seconds * 1000 / 3;
    bool ok = false;

    do
        ok = renew(l);
    while (rest(l, ok ? atomic_load(&l->renewed_ms) + third : clock_boot_ms() + AGAIN_MS));
    conn_close(l->conn, NULL);
    return NULL;
}

struct lease *lease_new(const struct lease_options *o, int64_t taken_ms, struct err *e)
{
    struct lease *l = calloc(1, sizeof *l);

    if (l == NULL) {
        err_memory(e);
        return NULL;
    }
    l->o = *o;
    atomic_store(&l->renewed_ms, taken_ms);
    if (pipe2(l->stop, O_CLOEXEC) == 0) {
        if (pthread_create(&l->thread, NULL, work, l) == 0)
            return l;
        close(l->stop[0]);
        close(l->stop[1]);
    }
    free(l);
    err_set(e, ERR_INTERNAL, "no thread can be started to keep the lease");
    return NULL;
}

void lease_free(struct lease *l)
{
    if (l == NULL)
        return;
    while (write(l->stop[1], "", 1) < 0) {
        /* a signal came */
    }
    pthread_join(l->thread, NULL);
    close(l->stop[0]);
    close(l->stop[1]);
    free(l);
}

enum lease_hold lease_hold(const struct lease *l)
{
    int64_t age_ms = clock_boot_ms() - atomic_load(&l->renewed_ms);

    if (atomic_load(&l->is_lost))
        return LEASE_LOST;
    return age_ms < (int64_t)l->o.claim.seconds * 1000 * 2 / 3 ? LEASE_SURE : LEASE_UNSURE;
}
