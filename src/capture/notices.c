/* notices.c -- what a source's reader says for the log.
 * SPDX-License-Identifier: MIT */
#include "capture/notices.h"

#include "base/clock.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

static void send(const struct notices *n, enum log_level level, const struct err *e,
                 int64_t retry_ms)
{
    struct message *m = message_new(MESSAGE_NOTICE, n->source);

    if (m == NULL)
        return;
    m->notice.err = *e;
    m->notice.level = level;
    m->notice.retry_ms = retry_ms;
    message_seal(m, n->lane);
    if (!queue_push(n->queue, &m->item))
        message_free(m);
}

void notices_say(const struct notices *n, enum log_level level, const char *format, ...)
{
    struct err e = { .code = ERR_NONE };
    va_list args;

    if (level == LOG_DEBUG && !n->has_debug)
        return;
    va_start(args, format);
    vsnprintf(e.msg, sizeof e.msg, format, args);
    va_end(args);
    send(n, level, &e, -1);
}

void notices_failed(const struct notices *n, const struct err *e, int64_t retry_ms)
{
    send(n, LOG_WARN, e, retry_ms);
}

void notices_recovered(const struct notices *n, int64_t since_ms)
{
    notices_say(n, LOG_INFO, "works again, after %.1f s",
                (double)(clock_mono_ms() - since_ms) / 1000);
}

void notices_begin_step(struct notices *n)
{
    n->began_ms = clock_mono_ms();
    n->is_slow = false;
}

void notices_end_step(struct notices *n, bool is_range, uint64_t n_rows)
{
    notices_say(n, LOG_DEBUG, "%s: %" PRIu64 " rows in %.3f s", is_range ? "range" : "poll", n_rows,
                (double)(clock_mono_ms() - n->began_ms) / 1000);
    n->was_slow = n->is_slow;
}

void notices_wait(void *arg, const struct conn_wait *w)
{
    struct notices *n = arg;

    if (w->work == LIVENESS_WORKS)
        n->is_slow = true;
    if (w->work == LIVENESS_WORKS && n->was_slow)
        return;
    notices_say(n, w->work == LIVENESS_LOCKED && !w->is_over ? LOG_WARN : LOG_INFO, "%s", w->text);
}
