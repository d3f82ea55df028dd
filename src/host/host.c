/* host.c -- the loop: take a batch, deliver, flush, save, acknowledge.
 *
 * Where the script keeps nothing but positions, these are saved here. Else the
 * Lua half decides what may be saved and when (see hooks_settle): it gets the
 * positions of all sources of a group as they are at that moment, also of one
 * in the middle of a poll.
 *
 * A stop in the middle of a poll or of a range of the snapshot finishes the
 * change in hand and records exactly that: rows of a poll come by xid and key,
 * so the last one tells; of a range the keys delivered are kept. (The poll
 * that finds a new partition does neither and is finished first.)
 *
 * SPDX-License-Identifier: MIT */
#include "host/host.h"

#include "base/file.h"
#include "lua/api_state.h"
#include "host/deletes.h"
#include "host/output.h"
#include "host/progress.h"
#include "lua/hooks.h"
#include "host/delivery.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE_BYTES ((size_t)14 << 20)
#define LAZY_SAVE_MS 5000 /* a position that only says "nothing happened" may wait this long */

struct host {
    const struct host_options *o;
    struct log *log;
    struct script *script;
    struct queue *queue;
    struct reader *reader;
    struct delivery *sources;
    struct progress *progress; /* of each source */
    size_t n_sources, n_done;
    size_t turn;           /* whose parked batches are looked at first */
    int64_t lazy_since_ms; /* 0: no lazy position waits */
    bool is_unsettled;     /* settle_all is to be called again */
};

static void log_source(struct host *h, enum log_level level, const char *msg, size_t source)
{
    log_text(h->log, level, msg, "source", h->script->sources[source].name);
}

/* ---- positions ---- */

static bool write_position(struct host *h, size_t source, bool *is_known, struct err *e)
{
    struct api_source *d = &h->script->sources[source];
    bool known;

    free(d->position);
    if (!delivery_write(&h->sources[source], d->name, &d->position, &known))
        return err_memory(e);
    *is_known = *is_known && known;
    return true;
}

/* Hands the positions of the group of <source> to the Lua half. *done false: a sink failed. */
static bool settle(struct host *h, size_t source, bool is_moment, bool *done, struct err *e)
{
    size_t group = h->script->sources[source].group;
    bool is_known = true, taken;

    for (size_t i = 0; i < h->n_sources; i++)
        if (h->script->sources[i].group == group && !write_position(h, i, &is_known, e))
            return false;
    if (!hooks_settle(h->script, source, is_known, is_moment, &taken, done, e))
        return false;
    for (size_t i = 0; taken && i < h->n_sources; i++)
        if (h->script->sources[i].group == group)
            h->sources[i].is_unsaved = false;
    return true;
}

/* Saves the position of a source, or sees that it will be. *done false: to be tried again. */
static bool save(struct host *h, size_t source, bool *done, struct err *e)
{
    struct delivery *t = &h->sources[source];

    *done = true;
    if (!t->is_unsaved)
        return true;
    if (h->script->keeps)
        return settle(h, source, true, done, e);
    t->is_unsaved = false;
    if (!store_save(h->script->store, h->script->sources[source].name, &t->position, e))
        return false;
    h->script->sources[source].saved_note = t->position.last_change;
    return true;
}

static bool save_lazy(struct host *h, struct err *e)
{
    bool done;

    h->lazy_since_ms = 0;
    for (size_t i = 0; i < h->n_sources; i++) {
        if (h->sources[i].count > 0)
            continue; /* it is saved when that is over */
        if (!save(h, i, &done, e))
            return false;
        if (!done)
            h->lazy_since_ms = clock_mono_ms();
    }
    return true;
}

/* What operators held was let go: perhaps what waits can be saved now. Where a sink fails it is
 * tried again when its source is not paused any more; the last time at once. */
static bool settle_all(struct host *h, bool is_last, struct err *e)
{
    h->is_unsettled = false;
    for (size_t i = 0; i < h->n_sources; i++) {
        const struct api_source *d = &h->script->sources[i];
        bool done = is_last || d->pauses <= 0;

        if (d->group != i)
            continue;
        if (done && !settle(h, i, false, &done, e))
            return false;
        h->is_unsettled = h->is_unsettled || !done;
    }
    return true;
}

/* ---- rows ---- */

/* The last change of a poll, a range or, at a stop, a part of one was delivered. */
static bool finish_batch(struct host *h, size_t source, struct err *e)
{
    uint64_t count = h->sources[source].count;

    if (count > 0 && !hooks_batch(h->script, source, count, e))
        return err_prefix(e, "source %s", h->script->sources[source].name);
    return output_flush(e);
}

/* The batch is delivered and its position adopted. Sees to the rest. */
static bool settle_batch(struct host *h, size_t source, bool is_lazy, bool *parked, struct err *e)
{
    struct delivery *t = &h->sources[source];
    bool done;

    if (is_lazy) {
        if (h->lazy_since_ms == 0)
            h->lazy_since_ms = clock_mono_ms();
        return true;
    }
    if (!save(h, source, &done, e))
        return err_prefix(e, "source %s", h->script->sources[source].name);
    t->is_settling = *parked = !done;
    return true;
}

static bool deliver_rows(struct host *h, size_t source, struct chunk *c, bool *parked,
                         struct err *e)
{
    struct delivery *t = &h->sources[source];
    struct api_source *d = &h->script->sources[source];
    size_t from = t->resume;
    struct hooks_rows rows = { source, c, from, c->is_snapshot || c->is_ordered };
    bool is_lazy;

    if (t->is_settling)
        return settle_batch(h, source, false, parked, e);
    if (script_should_stop(h->script) && t->count == 0)
        return true; /* not begun: it comes again as a whole */
    if (c->begins && from == 0 && !t->has_gone) {
        if (t->count > 0 && !delivery_restart(t))
            return err_memory(e);
        d->seq++;
    }
    if (t->diff != NULL && !diff_note(t->diff, c, d->saved_note, e))
        return err_prefix(e, "source %s", d->name);
    if (!hooks_deliver(h->script, &rows, e)) {
        delivery_name_failure(d->name, c, rows.done, e);
        return false;
    }
    if (!delivery_delivered(t, c, from, rows.done))
        return err_memory(e);
    if (rows.done < c->n_rows || !c->ends) {
        *parked = rows.done < c->n_rows && !script_should_stop(h->script);
        t->resume = *parked ? rows.done : 0;
        return delivery_note_last(t, c, from, rows.done) || err_memory(e);
    }
    t->resume = 0;
    if (c->is_snapshot)
        progress_show(&h->progress[source], h->log, d->name, c->position);
    if (!finish_batch(h, source, e))
        return false;
    is_lazy = c->is_lazy && t->count == 0;
    delivery_adopt(t, c);
    return settle_batch(h, source, is_lazy, parked, e);
}

/* The program was asked to stop: batches that were begun end where they are, if they may.
 * *must_go_on: one may not. */
static bool stop_batches(struct host *h, bool *must_go_on, struct err *e)
{
    *must_go_on = false;
    for (size_t i = 0; i < h->n_sources; i++) {
        struct delivery *t = &h->sources[i];
        bool done;

        if (t->count == 0)
            continue;
        if (!t->last.is_known) {
            *must_go_on = true;
            continue;
        }
        if (!finish_batch(h, i, e))
            return false;
        if (!delivery_cut(t, &t->position))
            return err_memory(e);
        t->is_unsaved = true;
        t->count = 0;
        if (!save(h, i, &done, e))
            return false;
    }
    return true;
}

/* ---- words ---- */

/* The reader knows now which table is meant: so the name of the source is known. */
static bool resolve(struct host *h, struct message *b, struct err *e)
{
    struct api_source *d = &h->script->sources[b->source];
    struct delivery *t = &h->sources[b->source];

    if (d->config->name == NULL) {
        free(d->name);
        d->name = b->text; /* moves */
        b->text = NULL;
    }
    t->is_resolved = true;
    for (size_t i = 0; i < h->n_sources; i++)
        if (i != b->source && strcmp(h->script->sources[i].name, d->name) == 0 &&
            (h->sources[i].is_resolved || h->script->sources[i].config->name != NULL))
            return err_set(e, ERR_SCRIPT, "two sources are named %s: give one of them another "
                           "name = \"...\"", d->name);
    if (h->script->store == NULL)
        return reader_restore(h->reader, b->source, NULL, e);
    if (!store_load(h->script->store, d->name, &t->position, &t->is_known, e))
        return false;
    if (d->config->deletes) {
        d->saved_note = t->position.last_change;
        t->diff = diff_open(h->script->store, d->config, d->name,
                            t->is_known ? &t->position : NULL, e);
        if (t->diff == NULL)
            return false;
    }
    return reader_restore(h->reader, b->source, t->is_known ? &t->position : NULL, e);
}

static bool notice(struct host *h, size_t source, const struct message_notice *n, struct err *e)
{
    struct log_field fields[3];
    const char *name = h->script->sources[source].name;
    const struct err *what = &n->err;
    char retry[32];
    size_t n_fields = 0;

    fields[n_fields++] = (struct log_field){ "source", name, strlen(name), false };
    if (what->sqlstate[0] != '\0')
        fields[n_fields++] = (struct log_field){ "sqlstate", what->sqlstate,
                                                 strlen(what->sqlstate), false };
    if (n->retry_ms >= 0) {
        snprintf(retry, sizeof retry, "%.1f", (double)n->retry_ms / 1000);
        fields[n_fields++] = (struct log_field){ "retry_in", retry, strlen(retry), true };
    }
    log_line(h->log, n->level, what->msg, strlen(what->msg), fields, n_fields);
    return n->retry_ms < 0 || hooks_error(h->script, source, n, e);
}

static bool finish_source(struct host *h, const struct message *b)
{
    if (b->text != NULL && h->o->mode == READER_CHECK)
        printf("source %s: %s\n", h->script->sources[b->source].name, b->text);
    h->n_done++;
    return true;
}

static bool ready(struct host *h, size_t source, struct err *e)
{
    log_source(h, LOG_INFO, "ready", source);
    return hooks_ready(h->script, source, e);
}

/* *parked: not done with; to be handled again when the source is not paused. */
static bool handle(struct host *h, struct message *b, bool *parked, struct err *e)
{
    *parked = false;
    switch (b->kind) {
    case MESSAGE_ROWS:
        return deliver_rows(h, b->source, &b->chunk, parked, e);
    case MESSAGE_TALLY:
    case MESSAGE_KEYS:
        return deletes_handle(h->script, h->reader, &h->sources[b->source], b, parked, e);
    case MESSAGE_RESOLVED:
        return resolve(h, b, e);
    case MESSAGE_NOTICE:
        return notice(h, b->source, &b->notice, e);
    case MESSAGE_SCHEMA:
        log_source(h, LOG_INFO, "the columns changed", b->source);
        return hooks_schema(h->script, b->source, &b->schema, e);
    case MESSAGE_READY:
        return ready(h, b->source, e);
    case MESSAGE_DONE:
        return finish_source(h, b);
    case MESSAGE_FAULT:
        *e = b->fault;
        return err_prefix(e, "source %s", h->script->sources[b->source].name);
    }
    return true;
}

/* ---- the loop ---- */

static int64_t earlier(int64_t a, int64_t b)
{
    return a < 0 || (b >= 0 && b < a) ? b : a;
}

/* Sleeps until a batch, a signal, a timer or a lazy position is due. */
static bool sleep_until_news(struct host *h, int64_t wait_ms, struct err *e)
{
    struct pollfd fds[2] = {
        { .fd = *h->o->script.stop ? -1 : h->o->script.stop_fd, .events = POLLIN },
        { .fd = h->queue != NULL ? queue_fd(h->queue) : -1, .events = POLLIN },
    };

    if (h->lazy_since_ms != 0) {
        int64_t left = h->lazy_since_ms + LAZY_SAVE_MS - clock_mono_ms();

        if (left <= 0)
            return save_lazy(h, e);
        wait_ms = earlier(wait_ms, left);
    }
    if (poll(fds, 2, wait_ms > 60000 ? 60000 : (int)wait_ms) < 0 && errno != EINTR)
        return err_set(e, ERR_INTERNAL, "poll: %s", strerror(errno));
    return true;
}

/* ---- paused sources ---- */

/* The next batch that may be handled, or NULL. What is taken from the queue stays counted there
 * while it is parked, so that a paused source soon finds no room; others always do. */
static struct message *next_batch(struct host *h)
{
    struct queue_item *item;

    for (size_t n = 0; n < h->n_sources; n++) {
        size_t i = h->turn++ % h->n_sources;

        if (!queue_list_is_empty(&h->sources[i].parked) && h->script->sources[i].pauses <= 0)
            return message_of(queue_list_take(&h->sources[i].parked));
    }
    while (h->queue != NULL && (item = queue_take(h->queue)) != NULL) {
        struct message *b = message_of(item);
        struct delivery *t = &h->sources[b->source];

        if (queue_list_is_empty(&t->parked) && h->script->sources[b->source].pauses <= 0)
            return b;
        queue_list_push(&t->parked, item);
    }
    return NULL;
}

/* Handles one batch. *idle: there was none. */
static bool handle_next(struct host *h, bool *idle, struct err *e)
{
    struct message *b = next_batch(h);
    bool ok, parked;

    *idle = b == NULL;
    if (b == NULL)
        return true;
    ok = handle(h, b, &parked, e);
    if (parked) {
        queue_list_push_first(&h->sources[b->source].parked, &b->item);
    } else {
        size_t source = b->source;

        queue_done(h->queue, &b->item);
        message_free(b);
        reader_wake(h->reader, source);
    }
    return ok;
}

/* Nothing more is to come, nothing is left to be done. */
static bool is_complete(const struct host *h, const struct hooks_timers *t)
{
    if (h->n_sources == 0)
        return t->wait_ms < 0;
    if (h->n_done < h->n_sources || t->has_windows || h->is_unsettled)
        return false;
    for (size_t i = 0; i < h->n_sources; i++)
        if (!queue_list_is_empty(&h->sources[i].parked))
            return false;
    return true;
}

/* All is saved: the next start need not read what is known. */
static bool keep_ledgers(struct host *h, struct err *e)
{
    for (size_t i = 0; i < h->n_sources; i++)
        if (h->sources[i].diff != NULL &&
            !diff_keep(h->sources[i].diff, h->script->sources[i].saved_note, e))
            return false;
    return true;
}

static bool loop(struct host *h, struct err *e)
{
    for (;;) {
        struct hooks_timers t;
        bool idle;

        /* timers first: one of them may let a source go on */
        if (!hooks_run_timers(h->script, &t, e))
            return false;
        if ((t.has_released && h->script->is_waiting) || h->is_unsettled) {
            /* which may have set a timer */
            if (!settle_all(h, false, e) || !hooks_run_timers(h->script, &t, e))
                return false;
        }
        if (!handle_next(h, &idle, e))
            return false;
        if (script_should_stop(h->script)) {
            bool must_go_on;

            if (!stop_batches(h, &must_go_on, e))
                return false;
            if (!must_go_on)
                break;
        }
        if (idle && is_complete(h, &t))
            break;
        if (idle && (!output_flush(e) || !sleep_until_news(h, t.wait_ms, e)))
            return false;
    }
    return hooks_last(h->script, e) && output_flush(e) && save_lazy(h, e) &&
           (!h->script->keeps || settle_all(h, true, e)) && hooks_finish(h->script, e) &&
           output_flush(e) && keep_ledgers(h, e);
}

/* ---- birth and death ---- */

static bool start_reader(struct host *h, struct err *e)
{
    char *folder = file_folder(h->o->state);

    h->queue = queue_new(QUEUE_BYTES, e);
    h->sources = calloc(h->n_sources, sizeof *h->sources);
    h->progress = calloc(h->n_sources, sizeof *h->progress);
    if (folder == NULL || h->sources == NULL || h->progress == NULL)
        err_memory(e);
    else if (h->queue != NULL)
        h->reader = reader_new(h->queue, folder, h->o->mode, e);
    free(folder);
    if (h->reader == NULL)
        return false;
    for (size_t i = 0; i < h->n_sources; i++) {
        struct api_source *d = &h->script->sources[i];

        delivery_init(&h->sources[i]);
        d->name = strdup(d->config->name != NULL ? d->config->name : d->config->table);
        if (d->name == NULL)
            return err_memory(e);
        if (!reader_add(h->reader, d->config, e))
            return false;
    }
    return reader_start(h->reader, e);
}

static void fini(struct host *h)
{
    if (h->queue != NULL)
        queue_close(h->queue);
    if (h->reader != NULL)
        reader_stop(h->reader);
    reader_free(h->reader);
    for (struct queue_item *item; h->queue != NULL && (item = queue_take(h->queue)) != NULL;)
        message_free(message_of(item));
    queue_free(h->queue);
    for (size_t i = 0; h->sources != NULL && i < h->n_sources; i++)
        delivery_fini(&h->sources[i]);
    free(h->progress);
    free(h->sources);
    if (h->script != NULL)
        api_source_free(h->script);
    script_free(h->script);
    log_bar(h->log, NULL);
}

static void log_failure(struct host *h, const struct err *e)
{
    struct log_field fields[2];
    size_t n = 0;

    if (e->sqlstate[0] != '\0')
        fields[n++] = (struct log_field){ "sqlstate", e->sqlstate, strlen(e->sqlstate), false };
    if (e->code == ERR_SCRIPT && h->script != NULL && h->script->traceback != NULL)
        fields[n++] = (struct log_field){ "traceback", h->script->traceback,
                                          strlen(h->script->traceback), false };
    log_line(h->log, LOG_ERROR, e->msg, strlen(e->msg), fields, n);
}

static bool run(struct host *h, struct err *e)
{
    if ((h->script = script_new(&h->o->script, e)) == NULL || !hooks_load(h->script, e))
        return false;
    h->n_sources = h->script->n_sources;
    if (h->o->is_graph)
        return hooks_graph(h->script, e) && output_flush(e);
    if (h->n_sources > 0 && h->o->mode != READER_CHECK && !api_state_open(h->script, e))
        return false;
    if (h->o->mode != READER_CHECK && !hooks_start(h->script, e))
        return false;
    if (h->n_sources > 0 && !start_reader(h, e))
        return false;
    return loop(h, e);
}

bool host_run(const struct host_options *o, int *status, struct err *e)
{
    struct host h = { .o = o, .log = o->script.log };
    bool ok = run(&h, e);

    *status = ok && h.script->is_stopping ? h.script->stop_status : 0;
    if (!ok && e->code != ERR_STOPPED && e->code != ERR_USAGE)
        log_failure(&h, e);
    fini(&h);
    return ok || e->code == ERR_STOPPED;
}
