/* notices.c -- what a source's reader says for the log.
 * SPDX-License-Identifier: MIT */
#include "capture/notices.h"

#include "base/clock.h"

#include <inttypes.h>

static double seconds_since(int64_t since_ms)
{
    return (double)(clock_mono_ms() - since_ms) / 1000;
}

void notices_failed(const struct notices *n, struct sender *to, const struct err *e,
                    int64_t since_ms, int64_t wait_ms)
{
    for (size_t i = 0; i < n->n_all; i++)
        meter_fail(&n->all[i]->meter, e, since_ms);
    sender_notice(to, LOG_WARN, e, wait_ms);
}

void notices_recovered(const struct notices *n, int64_t since_ms)
{
    struct err e;

    for (size_t i = 0; i < n->n_all; i++)
        meter_recover(&n->all[i]->meter);
    err_set(&e, ERR_NONE, "works again, after %.1f s", seconds_since(since_ms));
    sender_notice(n->all[0], LOG_INFO, &e, -1);
}

void notices_begin_step(struct notices *n)
{
    n->began_ms = clock_mono_ms();
    n->is_slow = false;
    for (size_t i = 0; i < n->n_all; i++)
        meter_begin_step(&n->all[i]->meter);
}

void notices_skip_step(const struct notices *n)
{
    struct err e;

    for (size_t i = 0; i < n->n_all; i++)
        meter_end_step(&n->all[i]->meter, false, true);
    if (!n->has_debug)
        return;
    err_set(&e, ERR_NONE, "no poll: nothing has committed since the last one");
    sender_notice(n->all[0], LOG_DEBUG, &e, -1);
}

void notices_end_step(struct notices *n, bool is_range, uint64_t n_rows,
                      const char *how)
{
    bool has_how = !is_range && *how != '\0';
    struct err e;

    n->was_slow = n->is_slow;
    for (size_t i = 0; i < n->n_all; i++)
        meter_end_step(&n->all[i]->meter, is_range, false);
    if (!n->has_debug)
        return;
    err_set(&e, ERR_NONE, "%s: %" PRIu64 " rows in %.3f s%s%s", is_range ? "range" : "poll", n_rows,
            seconds_since(n->began_ms), has_how ? ", " : "", has_how ? how : "");
    sender_notice(n->all[0], LOG_DEBUG, &e, -1);
}

void notices_put_off(const struct notices *n, const struct load *load, int64_t interval_ms)
{
    struct err e;

    err_set(&e, ERR_NONE, "scans would take %.2g of the time, of this table %.2g, so that it is "
            "polled every %.2g s, not %.2g s: make them rare (capture = \"trigger\" or "
            "\"logical\") or short (hints), take a longer interval, or allow more (max_load)",
            load->sum, load->share, (double)load_stretch(load, interval_ms) / 1000,
            (double)interval_ms / 1000);
    sender_notice(n->all[0], LOG_WARN, &e, -1);
}

void notices_wait(struct notices *n, struct sender *to, const struct conn_wait *w)
{
    struct err e;

    if (w->work == LIVENESS_WORKS)
        n->is_slow = true;
    for (size_t i = 0; i < n->n_all; i++)
        meter_set_wait(&n->all[i]->meter, w->is_over ? NULL : w->text);
    if (w->work == LIVENESS_WORKS && n->was_slow)
        return;
    err_set(&e, ERR_NONE, "%s", w->text);
    sender_notice(to, w->work == LIVENESS_LOCKED && !w->is_over ? LOG_WARN : LOG_INFO, &e, -1);
}
