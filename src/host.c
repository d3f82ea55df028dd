/* host.c -- the loop: take a batch, deliver, flush, save, acknowledge. floor 5
 *
 * A stop in the middle of a poll or of a range of the snapshot finishes the
 * change in hand and records exactly that: rows of a poll come by xid and key,
 * so the last one tells; of a range the keys delivered are kept. (The poll
 * that finds a new partition does neither and is finished first.)
 *
 * SPDX-License-Identifier: MIT */
#include "host.h"

#include "output.h"
#include "progress.h"
#include "runtime.h"
#include "store.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE_BYTES ((size_t)14 << 20)
#define LAZY_SAVE_MS 5000 /* a position that only says "nothing happened" may wait this long */

struct tracked {
    struct position position; /* the newest one that was acknowledged */
    bool is_known;            /* there is one */
    bool is_resolved;         /* the source's name is final */
    bool is_unsaved;
    uint64_t count;           /* changes of the poll or range in hand that were delivered */
    struct xidset delivered;  /* the xids of the poll in hand */
    struct {                  /* where what is in hand may be cut: behind its last row delivered */
        bool is_known, is_snapshot;
        uint64_t xid;         /* of that row, in a poll */
        uint32_t leaf, end;   /* of the range */
        struct buf keys;      /* that row's key; of all rows of the range, a newline behind each */
    } last;
    struct progress progress;
    bool is_done;
};

struct host {
    const struct host_options *o;
    struct log *log;
    struct script *script;
    struct store *store;
    struct queue *queue;
    struct reader *reader;
    struct tracked *sources;
    size_t n_sources, n_done;
    int64_t lazy_since_ms; /* 0: no lazy position waits */
    bool is_over;
};

static void log_source(struct host *h, enum log_level level, const char *msg, size_t source)
{
    log_text(h->log, level, msg, "source", h->script->sources[source].name);
}

/* ---- positions ---- */

static bool save(struct host *h, size_t source, struct err *e)
{
    struct tracked *t = &h->sources[source];

    if (!t->is_unsaved)
        return true;
    t->is_unsaved = false;
    return store_save(h->store, h->script->sources[source].name, &t->position, e);
}

static bool save_lazy(struct host *h, struct err *e)
{
    h->lazy_since_ms = 0;
    for (size_t i = 0; i < h->n_sources; i++)
        if (!save(h, i, e))
            return false;
    return true;
}

/* Makes the position of <b> the source's. */
static bool adopt(struct host *h, struct batch *b, struct err *e)
{
    struct tracked *t = &h->sources[b->source];

    position_fini(&t->position);
    t->position = *b->position;
    free(b->position);
    b->position = NULL;
    t->is_known = t->is_unsaved = true;
    xidset_fini(&t->delivered);
    t->count = 0;
    t->last.is_known = false;
    buf_clear(&t->last.keys);
    if (!b->is_lazy)
        return save(h, b->source, e);
    if (h->lazy_since_ms == 0)
        h->lazy_since_ms = clock_mono_ms();
    return true;
}

/* Notes where a batch that was begun may be cut: behind its first <done> rows. */
static bool note_last(struct tracked *t, const struct batch *b, size_t done)
{
    struct buf *keys = &t->last.keys;

    t->last.is_known = t->is_known && (b->is_snapshot || b->is_ordered);
    t->last.is_snapshot = b->is_snapshot;
    if (!t->last.is_known || done == 0)
        return true;
    t->last.xid = b->rows[done - 1].xid;
    t->last.leaf = b->leaf;
    t->last.end = b->end;
    if (!b->is_snapshot)
        buf_clear(keys);
    for (size_t i = b->is_snapshot ? 0 : done - 1; i < done; i++) {
        if (!batch_row_key(b, &b->rows[i], keys))
            return false;
        if (b->is_snapshot)
            buf_putc(keys, '\n');
    }
    return buf_ok(keys);
}

/* Moves the position behind the last row delivered, and no farther. */
static bool cut(struct tracked *t)
{
    const struct buf *keys = &t->last.keys;

    t->is_unsaved = true;
    t->count = 0;
    return t->last.is_snapshot
               ? position_add_done(&t->position, t->last.leaf, t->last.end, keys->data, keys->len)
               : position_cut(&t->position, &t->delivered, t->last.xid, keys->data, keys->len);
}

/* ---- rows ---- */

/* What a failed change was, for its error. */
static void name_failed_change(struct host *h, const struct batch *b, size_t i, struct err *e)
{
    struct buf key;

    buf_init(&key, 200);
    if (i < b->n_rows && batch_row_key(b, &b->rows[i], &key)) {
        for (char *p = key.data; *p != '\0'; p++)
            if (*p == '\t')
                *p = ',';
        err_prefix(e, "source %s, key %s", h->script->sources[b->source].name, key.data);
    } else {
        err_prefix(e, "source %s", h->script->sources[b->source].name);
    }
    buf_fini(&key);
}

/* The reader lost its connection in the middle of a poll and has begun another one, which
 * goes on where that one was; its rows come from the lowest xid again. */
static bool note_restart(struct tracked *t)
{
    uint64_t count = t->count;
    bool ok = !t->last.is_known || cut(t);

    t->count = count;
    t->last.is_known = false;
    xidset_fini(&t->delivered);
    return ok;
}

static bool note_delivered(struct tracked *t, const struct batch *b, size_t done)
{
    uint64_t last = 0;

    t->count += done;
    if (!b->is_ordered)
        return true;
    for (size_t i = 0; i < done; i++)
        if (b->rows[i].xid != last && !xidset_add(&t->delivered, last = b->rows[i].xid))
            return false;
    return true;
}

/* The last change of a poll, a range or, at a stop, a part of one was delivered. */
static bool finish_batch(struct host *h, size_t source, struct err *e)
{
    uint64_t count = h->sources[source].count;

    if (count > 0 && !runtime_batch(h->script, source, count, e))
        return err_prefix(e, "source %s", h->script->sources[source].name);
    return output_flush(e);
}

static bool deliver_rows(struct host *h, struct batch *b, struct err *e)
{
    struct tracked *t = &h->sources[b->source];
    bool may_cut = b->is_snapshot || b->is_ordered;
    size_t done = 0;

    if (script_should_stop(h->script) && t->count == 0)
        return true; /* not begun: it comes again as a whole */
    if (b->begins && t->count > 0 && !note_restart(t))
        return err_memory(e);
    if (!runtime_deliver(h->script, b, &done, may_cut, e)) {
        name_failed_change(h, b, done, e);
        return false;
    }
    if (!note_delivered(t, b, done))
        return err_memory(e);
    if (done < b->n_rows || !b->ends)
        return note_last(t, b, done) || err_memory(e);
    if (b->is_snapshot)
        progress_show(&t->progress, h->log, h->script->sources[b->source].name, b->position);
    return finish_batch(h, b->source, e) && adopt(h, b, e);
}

/* The program was asked to stop: batches that were begun end where they are, if they may.
 * *must_go_on: one may not. */
static bool stop_batches(struct host *h, bool *must_go_on, struct err *e)
{
    *must_go_on = false;
    for (size_t i = 0; i < h->n_sources; i++) {
        struct tracked *t = &h->sources[i];

        if (t->count == 0)
            continue;
        if (!t->last.is_known) {
            *must_go_on = true;
            continue;
        }
        if (!finish_batch(h, i, e))
            return false;
        if (!cut(t))
            return err_memory(e);
        if (!save(h, i, e))
            return false;
    }
    return true;
}

/* ---- words ---- */

/* The reader knows now which table is meant: so the name of the source is known. */
static bool resolve(struct host *h, struct batch *b, struct err *e)
{
    struct declared *d = &h->script->sources[b->source];
    struct tracked *t = &h->sources[b->source];

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
    if (h->store == NULL)
        return reader_restore(h->reader, b->source, NULL, e);
    if (!store_load(h->store, d->name, &t->position, &t->is_known, e))
        return false;
    return reader_restore(h->reader, b->source, t->is_known ? &t->position : NULL, e);
}

static bool notice(struct host *h, struct batch *b, struct err *e)
{
    struct log_field fields[3];
    const char *name = h->script->sources[b->source].name;
    char retry[32];
    size_t n = 0;

    fields[n++] = (struct log_field){ "source", name, strlen(name), false };
    if (b->err.sqlstate[0] != '\0')
        fields[n++] = (struct log_field){ "sqlstate", b->err.sqlstate, strlen(b->err.sqlstate),
                                          false };
    if (b->retry_ms >= 0) {
        snprintf(retry, sizeof retry, "%.1f", (double)b->retry_ms / 1000);
        fields[n++] = (struct log_field){ "retry_in", retry, strlen(retry), true };
    }
    log_line(h->log, b->notice_level, b->err.msg, strlen(b->err.msg), fields, n);
    return b->retry_ms < 0 || runtime_error(h->script, b, e);
}

static bool finish_source(struct host *h, const struct batch *b)
{
    if (b->text != NULL && h->o->mode == READER_CHECK)
        printf("source %s: %s\n", h->script->sources[b->source].name, b->text);
    h->n_done++;
    h->is_over = h->is_over || h->n_done == h->n_sources;
    return true;
}

static bool ready(struct host *h, size_t source, struct err *e)
{
    log_source(h, LOG_INFO, "ready", source);
    return runtime_ready(h->script, source, e);
}

static bool handle(struct host *h, struct batch *b, struct err *e)
{
    switch (b->kind) {
    case BATCH_ROWS:
        return deliver_rows(h, b, e);
    case BATCH_RESOLVED:
        return resolve(h, b, e);
    case BATCH_NOTICE:
        return notice(h, b, e);
    case BATCH_SCHEMA:
        log_source(h, LOG_INFO, "the columns changed", b->source);
        return runtime_schema(h->script, b, e);
    case BATCH_READY:
        return ready(h, b->source, e);
    case BATCH_DONE:
        return finish_source(h, b);
    case BATCH_FAULT:
        *e = b->err;
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
        { .fd = *h->o->script.stop ? -1 : h->o->stop_fd, .events = POLLIN },
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

static bool loop(struct host *h, struct err *e)
{
    while (!h->is_over) {
        struct queue_item *item = h->queue != NULL ? queue_take(h->queue) : NULL;
        int64_t wait_ms;
        bool ok = true;

        if (item != NULL) {
            struct batch *b = batch_of(item);
            size_t source = b->source;

            ok = handle(h, b, e);
            queue_done(h->queue, item);
            batch_free(b);
            reader_wake(h->reader, source);
        }
        if (!ok || !runtime_timers(h->script, &wait_ms, e))
            return false;
        if (h->is_over)
            break;
        if (script_should_stop(h->script)) {
            bool must_go_on;

            if (!stop_batches(h, &must_go_on, e))
                return false;
            if (!must_go_on)
                break;
        }
        if (h->n_sources == 0 && wait_ms < 0)
            break;
        if (item == NULL && (!output_flush(e) || !sleep_until_news(h, wait_ms, e)))
            return false;
    }
    return output_flush(e) && (h->store == NULL || save_lazy(h, e));
}

/* ---- birth and death ---- */

static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash == NULL ? strdup(".") : strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

static bool start_reader(struct host *h, struct err *e)
{
    char *folder = folder_of(h->o->state);

    h->queue = queue_new(QUEUE_BYTES, e);
    h->sources = calloc(h->n_sources, sizeof *h->sources);
    if (folder == NULL || h->sources == NULL)
        err_memory(e);
    else if (h->queue != NULL)
        h->reader = reader_new(h->queue, folder, h->o->mode, e);
    free(folder);
    if (h->reader == NULL)
        return false;
    for (size_t i = 0; i < h->n_sources; i++) {
        struct declared *d = &h->script->sources[i];

        buf_init(&h->sources[i].last.keys, SIZE_MAX / 2);
        d->name = strdup(d->config->name != NULL ? d->config->name : d->config->table);
        if (d->name == NULL)
            return err_memory(e);
        if (!reader_add(h->reader, d->config, e))
            return false;
    }
    return reader_start(h->reader, e);
}

static bool reset(struct host *h, struct err *e)
{
    int n;

    if (!h->o->resets)
        return true;
    if (!store_forget(h->store, h->o->reset, &n, e))
        return false;
    if (n == 0 && h->o->reset != NULL)
        log_text(h->log, LOG_WARN, "there was no position to forget", "source", h->o->reset);
    return true;
}

static void fini(struct host *h)
{
    if (h->queue != NULL)
        queue_close(h->queue);
    if (h->reader != NULL)
        reader_stop(h->reader);
    reader_free(h->reader);
    for (struct queue_item *item; h->queue != NULL && (item = queue_take(h->queue)) != NULL;)
        batch_free(batch_of(item));
    queue_free(h->queue);
    for (size_t i = 0; h->sources != NULL && i < h->n_sources; i++) {
        position_fini(&h->sources[i].position);
        xidset_fini(&h->sources[i].delivered);
        buf_fini(&h->sources[i].last.keys);
    }
    free(h->sources);
    store_close(h->store);
    if (h->script != NULL)
        bind_source_free(h->script);
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
    if ((h->script = script_new(&h->o->script, e)) == NULL || !runtime_load(h->script, e))
        return false;
    h->n_sources = h->script->n_sources;
    if (h->n_sources > 0) {
        if (h->o->mode != READER_CHECK &&
            ((h->store = store_open(h->o->state, e)) == NULL || !reset(h, e)))
            return false;
        if (!start_reader(h, e))
            return false;
    }
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
