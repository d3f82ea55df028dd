/* meter.c -- what the readers of a source have done, in figures.
 * SPDX-License-Identifier: MIT */
#include "capture/meter.h"

#include "base/clock.h"

#include <stdio.h>
#include <string.h>

void meter_init(struct meter *m)
{
    memset(m, 0, sizeof *m);
    pthread_mutex_init(&m->mutex, NULL);
}

void meter_fini(struct meter *m)
{
    pthread_mutex_destroy(&m->mutex);
}

static struct meter_values *lock(struct meter *m)
{
    pthread_mutex_lock(&m->mutex);
    return &m->v;
}

static void unlock(struct meter *m)
{
    pthread_mutex_unlock(&m->mutex);
}

void meter_read(struct meter *m, struct meter_values *to)
{
    *to = *lock(m);
    unlock(m);
}

/* ---- steps ---- */

void meter_begin_step(struct meter *m)
{
    struct meter_values *v = lock(m);

    v->began_ms = clock_mono_ms();
    m->step_rows = 0;
    unlock(m);
}

void meter_add_changes(struct meter *m, uint64_t n)
{
    lock(m);
    m->step_rows += n;
    unlock(m);
}

static void end_wait(struct meter_values *v)
{
    v->waiting_since_ms = 0;
    v->wait[0] = '\0';
}

void meter_end_step(struct meter *m, bool is_range, bool is_skipped)
{
    struct meter_values *v = lock(m);
    int64_t now = clock_mono_ms();
    enum meter_result result = is_skipped ? METER_SKIPPED :
                               m->step_rows > 0 ? METER_CHANGED : METER_EMPTY;

    if (!is_range)
        v->polls[result]++;
    if (!is_range && !is_skipped)
        histogram_add(&v->poll_seconds, (double)(now - v->began_ms) / 1000, 1);
    v->began_ms = 0;
    v->reached_ms = now;
    end_wait(v);
    unlock(m);
}

void meter_set_due(struct meter *m, int64_t due_ms, int64_t interval_ms)
{
    struct meter_values *v = lock(m);

    v->due_ms = due_ms;
    v->interval_ms = interval_ms;
    unlock(m);
}

/* ---- failures ---- */

void meter_fail(struct meter *m, const struct err *e, int64_t since_ms)
{
    struct meter_values *v = lock(m);

    v->polls[METER_ERROR]++;
    v->retries++;
    v->failing_since_ms = since_ms;
    v->err = *e;
    v->began_ms = 0;
    end_wait(v);
    unlock(m);
}

void meter_recover(struct meter *m)
{
    lock(m)->failing_since_ms = 0;
    unlock(m);
}

void meter_reach(struct meter *m)
{
    struct meter_values *v = lock(m);

    v->reached_ms = clock_mono_ms();
    v->failing_since_ms = 0;
    unlock(m);
}

/* ---- single figures ---- */

void meter_add_scanned(struct meter *m, uint64_t n)
{
    lock(m)->rows_scanned += n;
    unlock(m);
}

void meter_add_reconnect(struct meter *m)
{
    lock(m)->reconnects++;
    unlock(m);
}

void meter_set_spool(struct meter *m, uint64_t bytes)
{
    lock(m)->spool_bytes = bytes;
    unlock(m);
}

void meter_set_slot(struct meter *m, uint64_t bytes)
{
    struct meter_values *v = lock(m);

    v->slot_bytes = bytes;
    v->has_slot = true;
    unlock(m);
}

void meter_set_wait(struct meter *m, const char *why)
{
    struct meter_values *v = lock(m);

    if (why == NULL) {
        end_wait(v);
    } else {
        if (v->waiting_since_ms == 0)
            v->waiting_since_ms = clock_mono_ms();
        snprintf(v->wait, sizeof v->wait, "%s", why);
    }
    unlock(m);
}
