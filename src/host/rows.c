/* rows.c -- from chunks of rows to batches in the script's hands.
 *
 * A stop in the middle of a poll or of a range of the snapshot finishes the
 * change in hand and saves exactly that. (The poll that finds a new partition
 * may not stop in the middle and is finished first; likewise a batch of several
 * sources.)
 *
 * SPDX-License-Identifier: MIT */
#include "host/rows.h"

#include "host/deletes.h"
#include "host/output.h"
#include "lua/hooks_deliver.h"

#include <poll.h>

#define LEASE_MS 100
#define PATIENCE_MS 15000 /* of a stop, with a batch that is held up and may not end where it is */

static bool fail(const struct checkpoint *c, size_t source, struct err *e)
{
    return err_prefix(e, "source %s", c->script->sources[source].name);
}

/* Tells the script that a batch ended, or a part of one at a stop. */
static bool tell_end(struct checkpoint *c, size_t source, struct err *e)
{
    uint64_t count = delivery_count(c->deliveries[source]);

    if (count > 0 && !hooks_batch(c->script, source, count, e))
        return fail(c, source, e);
    return output_flush(c->script->beat, e);
}

static bool save(struct checkpoint *c, size_t source, struct err *e)
{
    struct delivery *d = c->deliveries[source];
    bool is_done;

    if (!checkpoint_save(c, source, &is_done, e))
        return fail(c, source, e);
    delivery_set_saving(d, !is_done);
    if (!is_done)
        delivery_set_again(d);
    return true;
}

/* Delivers the rows from *done on, and moves *done after those that were delivered. */
static bool deliver(struct checkpoint *c, size_t source, const struct chunk *chunk, size_t *done,
                    struct err *e)
{
    const struct delivery *d = c->deliveries[source];
    struct hooks_deliver_rows rows = { source, delivery_batch(d), chunk, *done,
                                       (chunk->is_snapshot || chunk->is_ordered) &&
                                       !delivery_is_whole(d) };
    bool ok = hooks_deliver(c->script, &rows, e);

    *done = rows.done;
    if (!ok)
        delivery_fail(c->deliveries[source], chunk, rows.done);
    return ok;
}

/* The batch of sources that are read together is over: ends the readings that it completed, so that
 * what sinks do at the end of a reading is part of the checkpoint that follows. */
static bool end_readings(struct checkpoint *c, const struct delivery *d, struct err *e)
{
    for (size_t i = 0; i < c->n; i++) {
        struct delivery *other = c->deliveries[i];

        if (delivery_is_with(other, d) && delivery_ends_reading(other) &&
            !hooks_read(c->script, i, delivery_position(other)->rows, e))
            return fail(c, i, e);
    }
    return true;
}

/* All rows of the source's part of the batch were delivered. */
static bool end_batch(struct checkpoint *c, size_t source, struct chunk *chunk, struct err *e)
{
    struct delivery *d = c->deliveries[source];
    bool is_over, is_lazy;

    if (!delivery_add_last_rows(d, chunk))
        return err_memory(e);
    if (chunk->is_snapshot && !chunk->is_reread)
        progress_show(delivery_progress(d), c->script->o.log, c->script->sources[source].name,
                      chunk->position);
    if (!tell_end(c, source, e))
        return false;
    delivery_end(d, chunk, &is_over, &is_lazy);
    if (is_over && delivery_is_whole(d) && !end_readings(c, d, e))
        return false;
    if (is_over && !is_lazy)
        return save(c, source, e);
    if (is_over)
        checkpoint_save_later(c);
    return true;
}

bool rows_handle(struct checkpoint *c, struct message *m, struct err *e)
{
    struct delivery *d = c->deliveries[m->source];
    struct chunk *chunk = &m->chunk;
    bool is_again, is_ready = true;
    size_t done;

    if (delivery_is_saving(d))
        return save(c, m->source, e);
    if (script_should_stop(c->script) && !delivery_is_begun(d))
        return true; /* not begun: it comes again as a whole */
    if (delivery_is_whole(d) && delivery_diff(d) != NULL &&
        !deletes_deliver(c->script, d, &is_ready, e))
        return false;
    if (!is_ready)
        return true;
    if (!delivery_begin_rows(d, chunk, &done, e))
        return fail(c, m->source, e);
    if (!deliver(c, m->source, chunk, &done, e))
        return false;
    if (done == chunk->n_rows && chunk->ends)
        return end_batch(c, m->source, chunk, e);
    is_again = done < chunk->n_rows &&
               (delivery_is_whole(d) || chunk->is_log || !script_should_stop(c->script));
    if (is_again)
        delivery_set_again(d);
    return delivery_add_rows(d, chunk, done, is_again) || err_memory(e);
}

/* True if the rest of the batch of <d> waits for a source that is paused, say, since a handler is
 * to be tried again, and either that lasts or it was long enough since the stop. */
static bool is_held_up(const struct checkpoint *c, const struct delivery *d)
{
    int64_t over_ms = c->stop_ms + PATIENCE_MS, now = clock_mono_ms();

    for (size_t i = 0; i < c->n; i++) {
        const struct api_source *source = &c->script->sources[i];

        if (delivery_is_with(c->deliveries[i], d) && source->pauses > 0 &&
            (now >= over_ms || source->paused_until_ms >= over_ms))
            return true;
    }
    return false;
}

bool rows_stop(struct checkpoint *c, bool *must_go_on, struct err *e)
{
    *must_go_on = false;
    c->stop_ms = c->stop_ms == 0 ? clock_mono_ms() : c->stop_ms;
    for (size_t i = 0; i < c->n; i++) {
        struct delivery *d = c->deliveries[i];
        bool is_done;

        if (!delivery_is_begun(d))
            continue;
        if (!delivery_may_stop(d)) {
            *must_go_on = *must_go_on || !is_held_up(c, d);
            continue;
        }
        if (!tell_end(c, i, e))
            return false;
        if (!delivery_stop(d))
            return err_memory(e);
        if (!checkpoint_save(c, i, &is_done, e))
            return false;
    }
    return true;
}

bool rows_wait_for_lease(struct script *s, struct err *e)
{
    bool may = true;

    while (s->store != NULL && store_may_work(s->store, &may, e) && !may) {
        if (script_should_stop(s))
            return err_set(e, ERR_STOPPED, "stopped while the lease cannot be renewed");
        poll(NULL, 0, LEASE_MS); /* a signal ends it early */
        beat_turn(s->beat);
    }
    return may;
}
