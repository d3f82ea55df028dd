/* checkpoint.c -- saves positions, and all that belongs to them.
 * SPDX-License-Identifier: MIT */
#include "host/checkpoint.h"

#include <stdlib.h>

bool checkpoint_init(struct checkpoint *c, struct script *script, struct delivery **deliveries,
                     struct err *e)
{
    *c = (struct checkpoint){ .script = script, .deliveries = deliveries, .n = script->n_sources };
    c->positions = calloc(c->n + 1, sizeof *c->positions);
    return c->positions != NULL || err_memory(e);
}

void checkpoint_fini(struct checkpoint *c)
{
    free(c->positions);
    c->positions = NULL;
}

/* ---- one group ---- */

/* Writes the positions of a group. *is_known: all of them can be told at this moment. */
static bool write_positions(struct checkpoint *c, size_t group, bool *is_known)
{
    *is_known = true;
    for (size_t i = 0; i < c->n; i++) {
        const struct api_source *source = &c->script->sources[i];
        struct delivery_moment moment;

        c->positions[i] = (struct hooks_position){ .is_member = source->group == group };
        if (!c->positions[i].is_member)
            continue;
        if (!delivery_write(c->deliveries[i], source->name, &moment))
            return false;
        c->positions[i].text = moment.text;
        c->positions[i].last_change = moment.last_change;
        *is_known = *is_known && moment.is_known;
    }
    return true;
}

static void free_positions(struct checkpoint *c)
{
    for (size_t i = 0; i < c->n; i++) {
        free(c->positions[i].text);
        c->positions[i].text = NULL;
    }
}

/* Saves what can be saved of the group of <source>. <is_moment>: one of its batches has ended. */
static bool save_group(struct checkpoint *c, size_t source, bool is_moment, bool *is_done,
                       struct err *e)
{
    struct hooks_checkpoint job = { .source = source, .is_moment = is_moment,
                                    .positions = c->positions };
    bool ok;

    beat_set(c->script->beat, BEAT_SAVES, source);
    ok = write_positions(c, c->script->sources[source].group, &job.is_known) || err_memory(e);
    for (size_t i = 0; ok && i < c->n; i++)
        if (c->positions[i].text != NULL)
            lag_capture(delivery_lag(c->deliveries[i]), c->positions[i].text,
                        delivery_batch(c->deliveries[i]));
    ok = ok && hooks_checkpoint(c->script, &job, e);
    free_positions(c);
    if (!ok)
        return false;
    for (size_t i = 0; job.is_taken && i < c->n; i++)
        if (c->positions[i].is_member)
            delivery_set_saved(c->deliveries[i]);
    *is_done = job.is_done;
    return true;
}

/* ---- all ---- */

bool checkpoint_save(struct checkpoint *c, size_t source, bool *is_done, struct err *e)
{
    *is_done = true;
    return !delivery_is_unsaved(c->deliveries[source]) || save_group(c, source, true, is_done, e);
}

void checkpoint_save_later(struct checkpoint *c)
{
    if (!c->has_lazy)
        c->lazy_since_ms = clock_mono_ms();
    c->has_lazy = true;
}

int64_t checkpoint_wait_ms(const struct checkpoint *c)
{
    int64_t left = c->lazy_since_ms + CHECKPOINT_LAZY_MS - clock_mono_ms();

    return !c->has_lazy ? -1 : left > 0 ? left : 0;
}

/* True if a save of the source's group has failed and is not due yet. An earlier try would be one
 * that the log did not announce, and count for the policy of the source. */
static bool waits_for_retry(const struct checkpoint *c, size_t source, bool has_lazy_failed)
{
    const struct api_source *sources = c->script->sources;

    for (size_t i = 0; i < c->n; i++)
        if (sources[i].group == sources[source].group && delivery_is_saving(c->deliveries[i]))
            return true;
    return has_lazy_failed && sources[source].pauses > 0;
}

bool checkpoint_save_lazy(struct checkpoint *c, struct err *e)
{
    bool is_done, had_failed = c->has_lazy_failed;

    c->has_lazy = c->has_lazy_failed = false;
    for (size_t i = 0; i < c->n; i++) {
        if (delivery_is_begun(c->deliveries[i]))
            continue; /* it is saved when that batch is over */
        if (waits_for_retry(c, i, had_failed)) {
            c->has_lazy_failed = c->has_lazy_failed || had_failed;
            checkpoint_save_later(c);
            continue;
        }
        if (!checkpoint_save(c, i, &is_done, e))
            return false;
        if (!is_done) {
            c->has_lazy_failed = true;
            checkpoint_save_later(c);
        }
    }
    return true;
}

bool checkpoint_retry(struct checkpoint *c, bool is_last, struct err *e)
{
    c->is_due = false;
    for (size_t i = 0; i < c->n; i++) {
        const struct api_source *source = &c->script->sources[i];
        bool is_done = is_last || source->pauses <= 0;

        if (source->group != i)
            continue; /* not the first of its group */
        if (is_done && !save_group(c, i, false, &is_done, e))
            return false;
        c->is_due = c->is_due || !is_done;
    }
    return true;
}
