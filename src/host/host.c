/* host.c -- the loop: take a message, deliver, flush, save, acknowledge.
 *
 * SPDX-License-Identifier: MIT */
#include "host/host.h"

#include "base/array.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/text.h"
#include "capture/position_text.h"
#include "capture/recording.h"
#include "lua/api_state.h"
#include "lua/api_watch.h"
#include "lua/hooks_check.h"
#include "host/deletes.h"
#include "host/feed.h"
#include "host/output.h"
#include "host/publish.h"
#include "host/report.h"
#include "host/reset.h"
#include "host/rows.h"
#include "host/standby.h"
#include "host/steer.h"
#include "host/workers.h"
#include "serve/notify.h"
#include "lua/load.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STOP_TICK_MS 200 /* between two looks at what holds a stop up */
#define LEASE_TICK_MS 1000 /* so soon it is noticed that the lease is lost */
#define QUEUE_BYTES ((size_t)14 << 20) /* a range of a snapshot, mostly */
#define SMALL_QUEUE_BYTES ((size_t)6 << 20) /* beside outboxes, and what their clients take */

struct host {
    const struct host_options *o;
    struct log *log;
    struct script *script;
    struct queue *queue;
    struct reader *reader;
    struct delivery **deliveries; /* of each source */
    struct checkpoint checkpoint;
    struct publish publish;
    struct steer steer;
    struct role role; /* leader, standby or alone */
    struct standby standby;
    struct feed feed;
    struct server *server;  /* owned; NULL: nobody listens */
    struct recording *recording; /* owned; NULL: nothing is recorded */
    struct notify_wish wish; /* socket: owned */
    struct notify *notify;  /* owned; NULL: systemd did not start us */
    struct pollfd *fds;     /* owned scratch */
    size_t cap_fds;
    size_t n_sources, n_done;
    int64_t began_ms;
    size_t turn;            /* whose messages that wait are looked at first */
};

static void log_source(struct host *h, enum log_level level, const char *msg, size_t source)
{
    log_text(h->log, level, msg, "source", h->script->sources[source].name);
}

/* ---- messages ---- */

/* True if another source has this name, as far as names are known. */
static bool is_taken(const struct host *h, size_t source, const char *name)
{
    for (size_t i = 0; i < h->n_sources; i++)
        if (i != source && strcmp(h->script->sources[i].name, name) == 0 &&
            (delivery_is_restored(h->deliveries[i]) ||
             h->script->sources[i].config->name != NULL))
            return true;
    return false;
}

/* The reader knows now which table is meant: so the name of the source is known. */
static bool resolve(struct host *h, struct message *m, struct err *e)
{
    struct api_source *source = &h->script->sources[m->source];
    struct delivery *d = h->deliveries[m->source];

    if (source->config->name == NULL) {
        free(source->name);
        source->name = m->text; /* moves */
        source->is_named = true;
        m->text = NULL;
    }
    if (is_taken(h, m->source, source->name))
        return err_set(e, ERR_SCRIPT, "two sources are named %s: give one of them another "
                       "name = \"...\"", source->name);
    publish_soon(&h->publish);
    if (h->o->mode != READER_CHECK && !hooks_resolved(h->script, m->source, e))
        return false;
    return delivery_restore(d, h->script->store, source->config, source->name, e) &&
           steer_resolve(&h->steer, m->source, e) &&
           reader_restore(h->reader, m->source, delivery_position(d), e);
}

static bool notice(struct host *h, size_t source, const struct message_notice *n, struct err *e)
{
    report_notice(h->log, h->script->sources[source].name, n);
    return n->retry_ms < 0 || hooks_error(h->script, source, n, e);
}

static bool finish_source(struct host *h, const struct message *m, struct err *e)
{
    h->n_done++;
    publish_done(&h->publish, m->source);
    if (h->o->mode == READER_CHECK && m->text != NULL &&
        !hooks_check_source(h->script, m->source, m->text, NULL, e))
        return false;
    return m->rowtype == NULL || hooks_announce(h->script, m->source, m->rowtype, e);
}

/* A source cannot be read. With --check that is what it has found, and it goes on to others. */
static bool fail_source(struct host *h, const struct message *m, struct err *e)
{
    const struct err *fault = &m->fault;

    if (h->o->mode == READER_CHECK && fault->code != ERR_ANSWER &&
        err_exit_status(fault->code) == 3) {
        h->n_done++;
        return hooks_check_source(h->script, m->source, NULL, fault, e);
    }
    *e = *fault;
    return err_prefix(e, "source %s", h->script->sources[m->source].name);
}

static bool ready(struct host *h, size_t source, struct err *e)
{
    const struct position *p = delivery_position(h->deliveries[source]);

    log_source(h, LOG_INFO, "ready", source);
    member_ready(h->o->member);
    publish_soon(&h->publish);
    return hooks_read(h->script, source, p != NULL ? p->rows : 0, e) &&
           hooks_ready(h->script, source, e);
}

/* True if the program stops and the batch that the message is part of is not begun: it comes again
 * with that. */
static bool is_left(const struct host *h, const struct message *m)
{
    return script_should_stop(h->script) && !delivery_is_begun(h->deliveries[m->source]);
}

static bool handle(struct host *h, struct message *m, struct err *e)
{
    switch (m->kind) {
    case MESSAGE_ROWS:
        return rows_handle(&h->checkpoint, m, e);
    case MESSAGE_TALLY:
    case MESSAGE_KEYS:
        return deletes_handle(h->script, h->reader, h->deliveries[m->source], m, e);
    case MESSAGE_RESOLVED:
        return resolve(h, m, e);
    case MESSAGE_NOTICE:
        return notice(h, m->source, &m->notice, e);
    case MESSAGE_SCHEMA:
        log_source(h, LOG_INFO, "the columns changed", m->source);
        return hooks_schema(h->script, m->source, &m->schema, e);
    case MESSAGE_TRUNCATE:
        return is_left(h, m) ||
               deletes_truncate(h->script, h->deliveries[m->source], m, e);
    case MESSAGE_COMMIT:
        return is_left(h, m) || hooks_commit(h->script, m->source, &m->log, e);
    case MESSAGE_EMITTED:
        return is_left(h, m) || hooks_emitted(h->script, m->source, &m->log, e);
    case MESSAGE_REREAD:
        steer_tell_reread(&h->steer, m->source, &m->notice);
        return true;
    case MESSAGE_READING:
        return delivery_begin_reading(h->deliveries[m->source], e) &&
               hooks_reading(h->script, m->source, e);
    case MESSAGE_READY:
        return ready(h, m->source, e);
    case MESSAGE_DONE:
        return finish_source(h, m, e);
    case MESSAGE_FAULT:
        return fail_source(h, m, e);
    }
    return true;
}

/* ---- the loop ---- */

/* Says so if the recording had to end. */
static void tell_recording(struct host *h)
{
    struct err e;

    if (recording_take_failure(h->recording, &e))
        log_text(h->log, LOG_WARN, e.msg, NULL, NULL);
}

static bool flush_output(struct host *h, struct err *e)
{
    return output_flush(h->script->beat, e);
}

/* Sleeps until there is a message, a signal, a timer or a position that has waited long enough. */
static bool sleep_until_news(struct host *h, int64_t wait_ms, struct err *e)
{
    int64_t lazy_ms = checkpoint_wait_ms(&h->checkpoint);
    size_t n = h->script->n_watches;

    if (lazy_ms == 0)
        return checkpoint_save_lazy(&h->checkpoint, e);
    if (!ARRAY_RESERVE(h->fds, 0, h->cap_fds, n + 4))
        return err_memory(e);
    api_watch_put(h->script, h->fds);
    h->fds[n] = (struct pollfd){ .fd = *h->o->script.stop ? -1 : h->o->script.stop_fd,
                                 .events = POLLIN };
    h->fds[n + 1] = (struct pollfd){ .fd = h->queue != NULL ? queue_fd(h->queue) : -1,
                                     .events = POLLIN };
    h->fds[n + 2] = (struct pollfd){ .fd = h->o->news->fd, .events = POLLIN };
    h->fds[n + 3] = (struct pollfd){ .fd = h->steer.reload.fd, .events = POLLIN };
    wait_ms = publish_wait_ms(&h->publish, clock_shorter(wait_ms, lazy_ms));
    wait_ms = clock_shorter(wait_ms, steer_wait_ms(&h->steer));
    if (script_should_stop(h->script))
        wait_ms = clock_shorter(wait_ms, STOP_TICK_MS);
    if (h->script->o.database != NULL)
        wait_ms = clock_shorter(wait_ms, LEASE_TICK_MS);
    beat_set(h->script->beat, BEAT_WAITS, 0);
    if (poll(h->fds, n + 4, wait_ms > 60000 ? 60000 : (int)wait_ms) < 0)
        return errno == EINTR || err_set(e, ERR_INTERNAL, "poll: %s", strerror(errno));
    for (size_t i = 0; i < n; i++)
        if (h->fds[i].revents != 0 && !hooks_watched(h->script, h->fds[i].fd, h->fds[i].revents, e))
            return false;
    return true;
}

/* ---- paused sources ---- */

static bool is_paused(const struct host *h, size_t source)
{
    return publish_is_paused(h->script, h->deliveries, source);
}

/* What is only for the log tells perhaps why a source is paused, or what comes of it. */
static bool may_pass(const struct message *m)
{
    return m->kind == MESSAGE_NOTICE && m->notice.err.code == ERR_NONE;
}

/* The next one of what the Lua half has brought or, if there is none, of the queue; or NULL. */
static struct message *take_message(struct host *h)
{
    struct message *m = feed_take(&h->feed);
    struct queue_item *item = m == NULL && h->queue != NULL ? queue_take(h->queue) : NULL;

    return item != NULL ? message_of(item) : m;
}

/* What comes of a paused source waits. It is taken from the queue and stays counted there, so that
 * the source soon finds no room; others always do. */
static struct message *next_message(struct host *h)
{
    struct message *m;

    for (size_t n = 0; n < h->n_sources; n++) {
        size_t i = h->turn++ % h->n_sources;

        if (delivery_is_parked(h->deliveries[i]) && !is_paused(h, i))
            return delivery_unpark(h->deliveries[i]);
    }
    while ((m = take_message(h)) != NULL) {
        struct delivery *d = h->deliveries[m->source];

        if ((!delivery_is_parked(d) && !is_paused(h, m->source)) || may_pass(m))
            return m;
        delivery_park(d, m);
    }
    return NULL;
}

/* Handles one message. *is_idle: there was none. */
static bool handle_next(struct host *h, bool *is_idle, struct err *e)
{
    struct message *m = next_message(h);
    struct delivery *d;
    bool ok;

    *is_idle = m == NULL;
    if (m == NULL)
        return true;
    d = h->deliveries[m->source];
    beat_set(h->script->beat, BEAT_DELIVERS, m->source);
    ok = handle(h, m, e);
    if (delivery_take_again(d)) {
        delivery_park_first(d, m);
    } else {
        bool is_news = !m->is_fed && queue_done(h->queue, &m->item);

        message_free(m);
        if (is_news)
            reader_wake(h->reader, delivery_source(d));
    }
    return ok;
}

/* Nothing more is to come, nothing is left to be done. */
static bool is_complete(const struct host *h, const struct hooks_timers *t)
{
    if (h->n_sources == 0)
        return t->wait_ms < 0;
    if (h->n_done < h->n_sources || t->has_windows || h->checkpoint.is_due)
        return false;
    for (size_t i = 0; i < h->n_sources; i++)
        if (delivery_is_parked(h->deliveries[i]))
            return false;
    return true;
}

static bool finish_deliveries(struct host *h, struct err *e)
{
    for (size_t i = 0; i < h->n_sources; i++)
        if (!delivery_finish(h->deliveries[i], e))
            return false;
    return true;
}

/* It ends to be run anew. */
static bool is_reloading(const struct host *h)
{
    return h->o->news->stop == NEWS_RELOAD;
}

static bool loop(struct host *h, struct err *e)
{
    for (;;) {
        struct hooks_timers t;
        bool idle;

        publish_turn(&h->publish);
        member_turn(h->o->member);
        tell_recording(h);
        if (!steer_turn(&h->steer, e) || !rows_wait_for_lease(h->script, e))
            return false;
        beat_set(h->script->beat, BEAT_TIMERS, 0);
        /* timers first: one of them may let a source go on */
        if (!hooks_run_timers(h->script, &t, e))
            return false;
        if ((t.has_released && h->script->is_held_back) || t.is_due || h->checkpoint.is_due ||
            h->script->wants_flush) {
            h->script->wants_flush = false;
            /* which may have set a timer */
            if (!flush_output(h, e) || !checkpoint_retry(&h->checkpoint, false, e) ||
                !hooks_run_timers(h->script, &t, e))
                return false;
            h->checkpoint.is_due = h->checkpoint.is_due || t.is_due;
        }
        if (!handle_next(h, &idle, e) || (idle && !feed_fetch(&h->feed, &idle, e)))
            return false;
        if (script_should_stop(h->script)) {
            bool must_go_on;

            if (!rows_stop(&h->checkpoint, &must_go_on, e))
                return false;
            if (!must_go_on)
                break;
        }
        if (idle && is_complete(h, &t))
            break;
        if (idle && (!flush_output(h, e) || !sleep_until_news(h, t.wait_ms, e)))
            return false;
    }
    beat_set(h->script->beat, is_reloading(h) ? BEAT_RELOADS : BEAT_STOPS, 0);
    /* --check writes nothing to sinks, which know what they would get */
    return hooks_last(h->script, e) && flush_output(h, e) &&
           checkpoint_save_lazy(&h->checkpoint, e) &&
           (h->o->mode == READER_CHECK || checkpoint_retry(&h->checkpoint, true, e)) &&
           hooks_finish(h->script, e) && flush_output(h, e) && finish_deliveries(h, e) &&
           seq_finish(&h->script->seq, e);
}

/* ---- birth and death ---- */

/* A position was saved: what its source need not read again, the server need not keep. */
static void tell_saved(void *arg, const char *source, const char *position)
{
    struct host *h = arg;

    for (size_t i = 0; h->reader != NULL && i < h->n_sources; i++) {
        if (strcmp(h->script->sources[i].name, source) != 0)
            continue;
        lag_save(delivery_lag(h->deliveries[i]), position, clock_wall_us());
        member_saved(h->o->member, position);
        if (h->script->sources[i].config->capture == CONFIG_BY_LOGICAL)
            reader_saved(h->reader, i, position_text_log_lsn(position));
    }
}

/* A delivery takes its time. */
static void tell_tick(void *arg)
{
    struct host *h = arg;

    publish_tick(&h->publish);
}

/* The Lua half shows what it does. */
static void tell_figures(void *arg, struct script_figures *f)
{
    struct host *h = arg;

    publish_figures(&h->publish, f);
}

/* --listen: opens the socket, and serves. */
static bool start_server(struct host *h, struct err *e)
{
    if ((h->server = server_new(&h->o->listen, h->publish.board, e)) == NULL ||
        !server_start(h->server, e))
        return false;
    log_text(h->log, LOG_INFO, "listening", "address", server_address(h->server));
    return true;
}

/* Figures are published for whoever watches the program. */
static bool start_watchers(struct host *h, struct err *e)
{
    bool listens = h->o->listen.listen != NULL, notifies = h->wish.socket != NULL;

    if (h->o->mode == READER_CHECK || h->o->is_graph)
        return true;
    if (!publish_init(&h->publish, h->script, h->o->script.state, listens || notifies, e))
        return false;
    h->script->tell_figures = listens || notifies ? tell_figures : NULL;
    h->script->tell_tick = tell_tick;
    h->script->tell_arg = h;
    if (listens && !start_server(h, e))
        return false;
    return !notifies ||
           (h->notify = notify_new(&h->wish, h->publish.board, &h->o->listen.health,
                                   e)) != NULL;
}

/* Source <i> is one that brings batches together with others before it. */
static void join_others(struct host *h, size_t i)
{
    const struct config *config = h->script->sources[i].config;

    if (config->is_joint)
        delivery_join(h->deliveries[i], h->deliveries[config->unit]);
    for (size_t first = 0; config->capture == CONFIG_BY_LOGICAL && first <= i; first++)
        if (config_share_log(h->script->sources[first].config, config)) {
            delivery_follow(h->deliveries[i], h->deliveries[first]);
            return;
        }
}

static bool start_reader(struct host *h, struct err *e)
{
    char *folder = file_folder(h->o->state);

    h->queue = queue_new(h->script->has_outboxes ? SMALL_QUEUE_BYTES : QUEUE_BYTES, e);
    h->deliveries = calloc(h->n_sources, sizeof *h->deliveries);
    if (folder == NULL || h->deliveries == NULL)
        err_memory(e);
    else if (h->queue != NULL)
        h->reader = reader_new(h->queue, folder, h->o->mode, h->log->level >= LOG_DEBUG, e);
    free(folder);
    if (h->reader == NULL || !checkpoint_init(&h->checkpoint, h->script, h->deliveries, e))
        return false;
    for (size_t i = 0; i < h->n_sources; i++) {
        struct api_source *d = &h->script->sources[i];

        h->deliveries[i] = delivery_new(i, &h->script->seq);
        d->is_named = d->config->name != NULL;
        d->name = strdup(d->is_named ? d->config->name : d->config->table);
        if (h->deliveries[i] == NULL || d->name == NULL)
            return err_memory(e);
        join_others(h, i);
        if (d->config->capture == CONFIG_BY_LOGICAL && h->script->store != NULL)
            config_lead(d->config, h->o->script.pipeline, store_epoch(h->script->store));
        if (!reader_add(h->reader, d->config, e))
            return false;
    }
    h->script->tell_saved = tell_saved;
    h->script->tell_tick = tell_tick;
    h->script->tell_arg = h;
    publish_begin(&h->publish, h->deliveries, h->queue, h->reader);
    h->steer.reader = h->reader;
    feed_open(&h->feed, h->script, h->o->member);
    return feed_start(&h->feed, h->deliveries, &h->steer, h->o->mode, e) &&
           reader_start(h->reader, e);
}

static void fini(struct host *h)
{
    server_free(h->server);
    steer_close(&h->steer);
    notify_free(h->notify, is_reloading(h));
    free(h->wish.socket);
    publish_end(&h->publish);
    if (h->queue != NULL)
        queue_close(h->queue);
    if (h->reader != NULL)
        reader_stop(h->reader);
    reader_free(h->reader);
    h->reader = NULL;
    for (struct queue_item *item; h->queue != NULL && (item = queue_take(h->queue)) != NULL;)
        message_free(message_of(item));
    queue_free(h->queue);
    feed_close(&h->feed);
    for (size_t i = 0; h->deliveries != NULL && i < h->n_sources; i++)
        delivery_free(h->deliveries[i]);
    free(h->deliveries);
    checkpoint_fini(&h->checkpoint);
    free(h->fds);
    if (h->script != NULL)
        api_source_free(h->script);
    script_free(h->script);
    recording_close(h->recording);
    publish_fini(&h->publish);
    log_bar(h->log, NULL);
}

static bool open_state(struct host *h, struct err *e)
{
    h->standby = (struct standby){ h->script, &h->publish, &h->steer, h->server, {
        .state = h->o->state, .version = h->o->script.version, .board = h->publish.board,
        .health = &h->o->listen.health, .is_shared = h->o->script.database != NULL,
        .bells = { &h->o->news->stop, h->o->news->stop_fd, h->o->news->fd } } };
    return standby_open(&h->standby, e);
}

/* Opens the recording, if one is asked for. */
static bool start_recording(struct host *h, struct err *e)
{
    const struct script_options *o = &h->o->script;

    if (o->record == NULL || h->o->mode == READER_CHECK)
        return true;
    h->script->recording = h->recording = recording_open(o->record, o->version, o->path, e);
    return h->recording != NULL;
}

static bool run(struct host *h, struct err *e)
{
    if (!notify_take(&h->wish, e) || (h->script = script_new(&h->o->script, e)) == NULL)
        return false;
    h->script->role = &h->role;
    if (!load_script(h->script, e))
        return false;
    h->n_sources = h->script->n_sources;
    h->steer.script = h->script;
    if (!start_watchers(h, e))
        return false;
    if (h->o->is_graph)
        return hooks_graph(h->script, e) && flush_output(h, e);
    if (h->script->is_member && h->o->mode != READER_CHECK)
        return open_state(h, e) &&
               workers_run(&(struct workers){ h->script, &h->steer, &h->publish,
                                              h->o->listen.listen, h->o->mode }, e);
    if (h->n_sources > 0 && h->o->mode != READER_CHECK &&
        (!open_state(h, e) || !reset_source(h->script, e)))
        return false;
    if (!start_recording(h, e) || !hooks_wire(h->script, e) ||
        (h->o->mode != READER_CHECK && !hooks_start(h->script, e)))
        return false;
    if (!seq_open(&h->script->seq, h->script->store, e))
        return false;
    if (h->n_sources > 0 && !start_reader(h, e))
        return false;
    standby_end(&h->standby);
    if (!loop(h, e) ||
        (h->o->mode == READER_CHECK && !(hooks_check(h->script, e) && flush_output(h, e))))
        return false;
    for (size_t i = 0; h->o->mode == READER_ONCE && i < h->n_sources; i++)
        report_total(h->log, h->script->sources[i].name, h->deliveries[i], h->began_ms);
    return true;
}

bool host_run(const struct host_options *o, int *status, struct err *e)
{
    struct host h = { .o = o, .log = o->script.log, .began_ms = clock_mono_ms(),
                      .steer = { .lead = { &h.role, o->news, o->script.log, 0, 0 },
                                 .news = o->news, .command = o->command,
                                 .publish = &h.publish, .reload.fd = -1 } };
    bool ok = role_init(&h.role, o->news->fd, e) && run(&h, e);

    *status = ok && h.script->is_stopping ? h.script->stop_status : 0;
    if (ok && h.script->is_stopping)
        o->news->stop = NEWS_STOP; /* the script wants it, so it is not run anew */
    if (!ok && e->code != ERR_STOPPED && e->code != ERR_USAGE)
        report_failure(h.script, h.log, e);
    member_end(o->member, ok && h.script->is_stopping ? *status : -1);
    fini(&h);
    role_fini(&h.role);
    return ok || e->code == ERR_STOPPED;
}
