/* notices.c -- what a source's reader says for the log.
 * SPDX-License-Identifier: MIT */
#include "capture/notices.h"

#include "base/clock.h"

#include <inttypes.h>

static double seconds_since(int64_t since_ms)
{
    return (double)(clock_mono_ms() - since_ms) / 1000;
}

void notices_recovered(struct sender *to, int64_t since_ms)
{
    struct err e;

    err_set(&e, ERR_NONE, "works again, after %.1f s", seconds_since(since_ms));
    sender_notice(to, LOG_INFO, &e, -1);
}

void notices_begin_step(struct notices *n)
{
    n->began_ms = clock_mono_ms();
    n->is_slow = false;
}

void notices_skip_step(const struct notices *n, struct sender *to)
{
    struct err e;

    if (!n->has_debug)
        return;
    err_set(&e, ERR_NONE, "no poll: nothing has committed since the last one");
    sender_notice(to, LOG_DEBUG, &e, -1);
}

void notices_end_step(struct notices *n, struct sender *to, bool is_range, uint64_t n_rows)
{
    struct err e;

    n->was_slow = n->is_slow;
    if (!n->has_debug)
        return;
    err_set(&e, ERR_NONE, "%s: %" PRIu64 " rows in %.3f s", is_range ? "range" : "poll", n_rows,
            seconds_since(n->began_ms));
    sender_notice(to, LOG_DEBUG, &e, -1);
}

void notices_wait(struct notices *n, struct sender *to, const struct conn_wait *w)
{
    struct err e;

    if (w->work == LIVENESS_WORKS)
        n->is_slow = true;
    if (w->work == LIVENESS_WORKS && n->was_slow)
        return;
    err_set(&e, ERR_NONE, "%s", w->text);
    sender_notice(to, w->work == LIVENESS_LOCKED && !w->is_over ? LOG_WARN : LOG_INFO, &e, -1);
}
