/* follower.c -- the thread that reads the log of a database for its logical sources.
 * SPDX-License-Identifier: MIT */
#include "capture/follower.h"

#include "base/clock.h"
#include "capture/failures.h"
#include "capture/follower_members.h"
#include "capture/follower_turns.h"
#include "capture/slot_errors.h"
#include "capture/slot_guard.h"
#include "capture/slot_stuck.h"
#include "capture/sql.h"
#include "capture/stream.h"
#include "pg/sqlstate.h"

#include <stdlib.h>
#include <string.h>

#define WAIT_MS 200        /* for the log, before a pause is looked for */
#define FULL_MS 1000       /* for room in the queue, before the server is told that we are there */
#define BUSY_MS 16         /* for more of a batch, before it is asked whether the host is busy */
#define SEEN_MANY 20000    /* xids: a position with more takes some milliseconds, so */
#define SEEN_MS 100        /* one in this time is enough */
#define STATUS_MS 10000    /* between two statuses, if there is nothing to confirm */
#define CONFIRM_MS 500     /* the same, if there is */
#define MOST_AT_ONCE 64    /* messages of the log, before a stop or a status is looked for */

struct follower {
    struct follower_job job;
    const struct config *config; /* of one of the sources: connections, slot */
    struct buf publications;     /* of all of them, quoted, with commas between */
    struct follower_members members;
    struct slot_claims claims;   /* one for each */
    struct stream *stream;
    pthread_t thread;
    bool has_thread;
    /* under the mutex: */
    bool is_busy, is_stopped;
    struct follower_turns turns;
    int64_t retry_ms;      /* it tries again then */
    /* of the thread: */
    struct conn *conn;
    struct connect_orphan left;
    struct failures failures;
    uint64_t confirmed;
    int64_t status_ms, told_ms, ended_ms; /* when that was done last, and a batch ended */
    struct slot_guard guard;
    struct slot_stuck stuck;
    struct err fault;      /* what ends the source when the log is to be read again */
    struct queue_list out; /* messages on their way to the queue */
};

struct follower *follower_new(const struct follower_job *job, const struct config *config)
{
    struct follower *f = calloc(1, sizeof *f);

    if (f == NULL)
        return NULL;
    f->job = *job;
    f->config = config;
    f->guard = (struct slot_guard){ .slot = config->slot, .on_full = config->on_full };
    buf_init(&f->publications, BUF_SQL_MAX);
    return f;
}

bool follower_is_of(const struct follower *f, const struct config *config)
{
    return config_share_log(f->config, config);
}

/* (One that is named twice does no harm.) */
bool follower_add(struct follower *f, const struct config *config, struct sender *sender, void *arg,
                  size_t *i)
{
    *i = f->members.n;
    if (f->members.n == 0 || strcmp(config->publication, f->config->publication) != 0) {
        if (f->members.n > 0)
            buf_puts(&f->publications, ",");
        sql_put_ident(&f->publications, config->publication);
    }
    slot_guard_heed(&f->guard, config);
    return buf_ok(&f->publications) && slot_claims_add(&f->claims) &&
           follower_members_add(&f->members, sender, arg);
}

/* ---- claims ---- */

void follower_claim(struct follower *f, size_t i, uint64_t lsn)
{
    slot_claims_set(&f->claims, i, lsn);
}

/* The position of the source says that the slot, where it is there, was made by us. */
static void take_name(struct follower *f, size_t i, const struct logical *l)
{
    if (l->slot != NULL && strcmp(l->slot, f->config->slot) == 0)
        f->claims.v[i].names_slot = true;
}

void follower_restore(struct follower *f, size_t i, const struct logical *l)
{
    if (l != NULL)
        take_name(f, i, l);
    follower_claim(f, i, l != NULL ? l->lsn : 0);
}

/* ---- pauses ---- */

/* True if the log can be read, unless somebody pauses us; else *wait_ms is how long it cannot; -1:
 * until something changes. Under the mutex. */
static bool can_follow(const struct follower *f, int64_t *wait_ms)
{
    *wait_ms = -1;
    if (!follower_members_are_there(&f->members, &f->claims))
        return false;
    *wait_ms = f->retry_ms - clock_mono_ms();
    return *wait_ms <= 0;
}

void follower_pause(struct follower *f, size_t i, struct source *source)
{
    uint64_t number = follower_turns_ask(&f->turns);
    int64_t wait_ms;

    pthread_cond_broadcast(f->job.changed); /* the log may be to be read before */
    /* a stop does not wait for the batch, but the thread must have let go of the source */
    while (f->is_busy || (!f->is_stopped &&
                          (!follower_turns_may_begin(&f->turns, number, can_follow(f, &wait_ms)) ||
                           stream_is_amid(f->stream))))
        clock_wait_cond(f->job.changed, f->job.mutex, -1);
    follower_turns_begin(&f->turns);
    f->members.v[i].source = NULL;
    stream_detach(f->stream, i);
    source->log_passed = stream_passed(f->stream);
    take_name(f, i, &source->position.logical);
    source->shares_log = slot_claims_has(&f->claims, i);
    source->has_slot = f->config->has_own_slot || slot_claims_is_named(&f->claims);
    if (source->position.logical.lsn == 0 &&
        (!source->shares_log || source->log_leaves.is_stale))
        stream_close(f->stream); /* the source is to make the slot anew, or the stream lacks rows */
}

void follower_resume(struct follower *f, size_t i, struct source *source)
{
    struct follower_members_item *m = &f->members.v[i];

    follower_turns_end(&f->turns);
    if (source != NULL && !f->is_stopped) {
        m->source = source;
        m->target = source->facts.identity.lsn;
        slot_claims_expect(&f->claims, i, source->position.logical.lsn);
        stream_attach(f->stream, i, source);
    }
    pthread_cond_broadcast(f->job.changed);
}

/* ---- the thread ---- */

static bool is_stopping(struct follower *f)
{
    bool is;

    pthread_mutex_lock(f->job.mutex);
    is = f->is_stopped;
    pthread_mutex_unlock(f->job.mutex);
    return is;
}

/* The source of whose changes the least is saved: it is what the slot waits for. */
static struct slot_guard_holder holder_of(struct follower *f)
{
    struct slot_guard_holder h;
    size_t i;

    pthread_mutex_lock(f->job.mutex);
    i = slot_claims_holder(&f->claims);
    h = (struct slot_guard_holder){ .sender = f->members.v[i].sender,
                                    .since_ms = f->claims.v[i].since_ms,
                                    .is_full = !queue_list_is_empty(&f->out) };
    pthread_mutex_unlock(f->job.mutex);
    return h;
}

/* The slot must not fill the server's disk because of us. */
static bool guard(struct follower *f, struct err *e)
{
    const struct slot_guard_holder h = holder_of(f);
    uint64_t retained;
    bool is_full;

    if (!slot_guard_look(&f->guard, f->conn, &h, &retained, &is_full, e))
        return false;
    for (size_t i = 0; i < f->members.n; i++)
        meter_set_slot(&f->members.v[i].sender->meter, retained);
    return !is_full || slot_guard_drop(&f->guard, f->conn, e);
}

/* Tells the server that we are there, and what is saved. */
static bool tell_server(struct follower *f, struct err *e)
{
    int64_t now = clock_mono_ms();
    uint64_t lsn;

    pthread_mutex_lock(f->job.mutex);
    lsn = slot_claims_least(&f->claims);
    pthread_mutex_unlock(f->job.mutex);
    if (lsn > stream_passed(f->stream)) /* it is of a server that was before this one */
        lsn = stream_passed(f->stream);
    if (lsn < f->confirmed)
        lsn = f->confirmed;
    if (!guard(f, e))
        return false;
    if (now < f->status_ms + (lsn > f->confirmed || f->job.is_once ? CONFIRM_MS : STATUS_MS))
        return true;
    f->status_ms = now;
    f->confirmed = lsn;
    return stream_confirm(f->stream, lsn, f->job.is_once, e);
}

/* Waits for room in the queue. */
static void wait_for_room(struct follower *f)
{
    pthread_mutex_lock(f->job.mutex);
    if (!f->is_stopped)
        clock_wait_cond(f->job.changed, f->job.mutex, FULL_MS);
    pthread_mutex_unlock(f->job.mutex);
}

/* Pushes what is there to the queue. While that is full the server gets its statuses. */
static bool send(struct follower *f, struct err *e)
{
    while (!queue_list_is_empty(&f->out)) {
        struct message *m = message_of(f->out.first);

        message_seal(m, &follower_members_of(&f->members, m)->sender->lane);
        if (m->kind == MESSAGE_ROWS)
            meter_add_scanned(&follower_members_of(&f->members, m)->sender->meter, m->chunk.n_rows);
        queue_list_take(&f->out);
        while (!queue_try_push(f->job.queue, &m->item)) {
            bool is_over = is_stopping(f);

            if (is_over || !tell_server(f, e)) {
                queue_list_push_first(&f->out, &m->item);
                return is_over ? err_set(e, ERR_STOPPED, "stopping") : false;
            }
            wait_for_room(f);
        }
    }
    return true;
}

/* The sources' steps find out what is wrong. Under the mutex. */
static void let_go(struct follower *f)
{
    for (size_t i = 0; i < f->members.n; i++) {
        if (f->members.v[i].source == NULL)
            continue;
        source_forget_polled(f->members.v[i].source);
        f->members.v[i].source = NULL;
        stream_detach(f->stream, i);
        f->job.look(f->members.v[i].arg);
    }
}

/* Steps may read a range again, for which the log was read far enough. */
static void let_reread(struct follower *f)
{
    pthread_mutex_lock(f->job.mutex);
    follower_members_let_reread(&f->members, f->job.look);
    pthread_mutex_unlock(f->job.mutex);
}

/* With --once: all are finished together, or changes of one would come before earlier ones of
 * another, which the next run brings. But their steps may have partitions to read. */
static void finish_members(struct follower *f)
{
    bool is_over, is_due, is_reread;

    pthread_mutex_lock(f->job.mutex);
    is_over = follower_members_are_at_target(&f->members, &is_due, &is_reread);
    if (is_over && is_due) {
        let_go(f);
        is_over = false;
    }
    is_over = is_over && !is_reread;
    for (size_t i = 0; is_over && i < f->members.n; i++)
        f->job.finish(f->members.v[i].arg, NULL);
    f->is_stopped = f->is_stopped || is_over;
    pthread_mutex_unlock(f->job.mutex);
}

/* Positions of sources for which nothing came are told as often as the slot is looked at. */
static bool tell_positions(struct follower *f, bool is_due, struct err *e)
{
    int64_t now = clock_mono_ms();

    if (stream_is_amid(f->stream) || (!is_due && now < f->told_ms + f->guard.look_ms))
        return true;
    f->told_ms = now;
    return stream_tell(f->stream, &f->out, e) && send(f, e);
}

static bool connect(struct follower *f, struct err *e)
{
    if (f->conn == NULL)
        f->conn = conn_open(f->config->conninfo, f->job.stop_fd, CONN_STOP_AT_ONCE, &f->left, e);
    return f->conn != NULL;
}

/* A step takes long: it may wait for room in the queue, and has perhaps made the slot. What becomes
 * of that is told when the log is read again. */
static void guard_meanwhile(struct follower *f)
{
    struct err e;

    if (f->fault.code != ERR_NONE || (connect(f, &e) && guard(f, &e)))
        return;
    if (e.code == ERR_REFUSED || e.code == ERR_SQL)
        sender_notice(holder_of(f).sender, LOG_WARN, &e, -1);
    if (e.code == ERR_REFUSED)
        f->fault = e;
    conn_close(f->conn, &f->left);
    f->conn = NULL;
}

/* True if somebody waits for the batch in hand: for a pause, or the host, when it has handled all
 * that it got of a source of which the batch has more. (While we catch up it waits for more: each
 * batch has a position, and that names all xids from the floor on.) */
static bool is_awaited(struct follower *f)
{
    bool is = false, is_long = false, is_paused;

    pthread_mutex_lock(f->job.mutex);
    is_paused = follower_turns_are_asked(&f->turns);
    pthread_mutex_unlock(f->job.mutex);
    for (size_t i = 0; i < f->members.n; i++) {
        const struct source *s = f->members.v[i].source;

        is = is || (stream_has(f->stream, i) &&
                    queue_lane_is_empty(f->job.queue, &f->members.v[i].sender->lane));
        is_long = is_long || (s != NULL && s->position.horizon.seen.n > SEEN_MANY);
    }
    return is_paused || (is && (!is_long || clock_mono_ms() - f->ended_ms > SEEN_MS));
}

/* Nothing more is there: ends the batch in hand, unless the host is busy. Then it may grow, since
 * each is saved for itself, and a target that is slow to save can take large ones, where it could
 * not keep up with as many small ones. *rest_ms: how long to wait for more of it. */
static bool end_or_rest(struct follower *f, enum stream_found *found, int64_t *rest_ms,
                        struct err *e)
{
    if (!stream_can_end(f->stream)) {
        *rest_ms = 0;
        return true;
    }
    if (!is_awaited(f)) {
        *rest_ms = *rest_ms == 0 ? 1 : *rest_ms < BUSY_MS ? 2 * *rest_ms : BUSY_MS;
        return true;
    }
    *rest_ms = 0;
    *found = STREAM_BATCH;
    f->ended_ms = clock_mono_ms();
    return stream_end(f->stream, f->conn, &f->out, e);
}

/* Reads messages of the log until something is to be done about what was found. Where tables take
 * turns chunks are small: those of what the server has sent already go to the queue together. */
static bool read_log(struct follower *f, int64_t until_ms, int64_t rest_ms,
                     enum stream_found *found, struct err *e)
{
    bool has_out = false, is_full = false;

    *found = STREAM_SOME;
    for (int n = 0; n < MOST_AT_ONCE && *found == STREAM_SOME && !is_full; n++) {
        if (!stream_read(f->stream, f->conn, has_out ? 0 : until_ms, has_out ? 0 : rest_ms,
                         &f->out, found, e))
            return false;
        has_out = !queue_list_is_empty(&f->out);
        is_full = has_out && !message_is_small(message_of(f->out.last));
    }
    if (has_out && *found == STREAM_NOTHING)
        *found = STREAM_SOME;
    return true;
}

static void give_up(struct follower *f, const struct err *e)
{
    pthread_mutex_lock(f->job.mutex);
    for (size_t i = 0; i < f->members.n; i++) {
        if (f->members.v[i].source == NULL)
            continue;
        f->job.finish(f->members.v[i].arg, e);
        break; /* one is enough: it ends the program */
    }
    f->is_stopped = true;
    pthread_mutex_unlock(f->job.mutex);
}

static void hang_up(struct follower *f)
{
    stream_close(f->stream);
    conn_close(f->conn, &f->left);
    f->conn = NULL;
    f->confirmed = 0;
    f->status_ms = 0;
}

/* What was read before the slot was lost counts as delivered, so it must reach the host. */
static bool end_batch(struct follower *f)
{
    struct err e;
    bool ok;

    do {
        if (stream_is_amid(f->stream)) /* for what rows lack */
            f->conn = conn_open(f->config->conninfo, f->job.stop_fd, CONN_STOP_AT_ONCE, &f->left,
                                &e);
        ok = (f->conn != NULL || !stream_is_amid(f->stream)) &&
             stream_abandon(f->stream, f->conn, &f->out, &e) && send(f, &e);
        hang_up(f);
        if (!ok)
            wait_for_room(f);
    } while (!ok && sqlstate_action(&e, true) == SQLSTATE_RETRY && !is_stopping(f));
    if (ok)
        return true;
    if (e.code != ERR_STOPPED)
        give_up(f, &e);
    return false;
}

/* The stream may be between two changes of a transaction: the sources' steps come first. */
static void hand_back(struct follower *f)
{
    hang_up(f);
    if (!end_batch(f))
        return;
    pthread_mutex_lock(f->job.mutex);
    let_go(f);
    pthread_mutex_unlock(f->job.mutex);
}

/* Reads a batch, or until nothing more comes for now. */
static bool follow(struct follower *f, struct err *e)
{
    int64_t until_ms = clock_mono_ms() + WAIT_MS, rest_ms = 0;
    enum stream_found found;

    *e = f->fault;
    if (e->code != ERR_NONE || !connect(f, e))
        return false;
    do {
        if (!send(f, e) || !read_log(f, until_ms, rest_ms, &found, e))
            return false;
        if (found == STREAM_LEAF) {
            hand_back(f);
            return true;
        }
        if (found != STREAM_NOTHING)
            rest_ms = 0;
        else if (!end_or_rest(f, &found, &rest_ms, e))
            return false;
        if (!send(f, e) || !tell_server(f, e))
            return false;
        if (is_stopping(f))
            return err_set(e, ERR_STOPPED, "stopping");
    } while ((found == STREAM_SOME || rest_ms > 0) &&
             (stream_is_amid(f->stream) || clock_mono_ms() < until_ms));
    if (!tell_positions(f, f->job.is_once, e))
        return false;
    if (!stream_is_amid(f->stream))
        let_reread(f);
    if (f->job.is_once && !stream_is_amid(f->stream))
        finish_members(f);
    f->failures.n = 0;
    f->failures.has_worked = true;
    for (size_t i = 0; i < f->members.n; i++)
        meter_reach(&f->members.v[i].sender->meter);
    return true;
}

static void handle_failure(struct follower *f, struct err *e)
{
    int64_t wait_ms;
    bool is_free = false, goes_on;

    if (e->code == ERR_DECODING &&
        slot_stuck_add(&f->stuck, stream_passed(f->stream), clock_mono_ms(), f->job.is_once))
        slot_guard_drop_stuck(&f->guard, f->conn, e);
    else
        is_free = slot_errors_explain(f->config, f->conn, e);
    hang_up(f);
    if (e->code == ERR_STOPPED || (slot_errors_is_lost(e) && !end_batch(f)))
        return;
    goes_on = failures_add(&f->failures, e, f->job.is_once, &wait_ms);
    if (slot_errors_is_in_use(e))
        goes_on = clock_mono_ms() < f->failures.since_ms + SLOT_ERRORS_IN_USE_MS;
    if (e->code == ERR_DECODING) {
        goes_on = true; /* until the slot is dropped */
        wait_ms = sqlstate_backoff_ms(f->stuck.n);
    }
    if (!goes_on && !slot_errors_is_lost(e)) {
        if (slot_errors_is_in_use(e))
            e->code = ERR_REFUSED;
        give_up(f, e);
        return;
    }
    if (is_free)
        wait_ms = 0;
    sender_notice(follower_members_sender(&f->members), LOG_WARN, e, wait_ms);
    for (size_t i = 0; i < f->members.n; i++)
        meter_fail(&f->members.v[i].sender->meter, e, f->failures.since_ms);
    pthread_mutex_lock(f->job.mutex);
    f->retry_ms = clock_mono_ms() + wait_ms;
    if (slot_errors_is_lost(e))
        let_go(f);
    pthread_mutex_unlock(f->job.mutex);
}

/* True if there is something to read; else *wait_ms is how long there is not. Under the mutex. */
static bool may_follow(const struct follower *f, int64_t *wait_ms)
{
    *wait_ms = -1;
    return (follower_turns_may_follow(&f->turns) || stream_is_amid(f->stream)) &&
           can_follow(f, wait_ms);
}

static void *run_thread(void *arg)
{
    struct follower *f = arg;
    int64_t wait_ms;
    bool is_waiting;

    pthread_setname_np(pthread_self(), "follower");
    pthread_mutex_lock(f->job.mutex);
    while (!f->is_stopped) {
        struct err e = { .code = ERR_NONE };

        is_waiting = !may_follow(f, &wait_ms);
        if (is_waiting &&
            !follower_turns_are_long(&f->turns, f->guard.look_ms, &wait_ms)) {
            clock_wait_cond(f->job.changed, f->job.mutex, wait_ms);
            continue;
        }
        f->is_busy = !is_waiting;
        if (!is_waiting)
            follower_turns_follow(&f->turns);
        pthread_mutex_unlock(f->job.mutex);
        if (is_waiting)
            guard_meanwhile(f);
        else if (!follow(f, &e))
            handle_failure(f, &e);
        pthread_mutex_lock(f->job.mutex);
        f->is_busy = false;
        pthread_cond_broadcast(f->job.changed);
    }
    pthread_mutex_unlock(f->job.mutex);
    hang_up(f);
    return NULL;
}

bool follower_start(struct follower *f, struct err *e)
{
    int rc;

    f->stream = stream_new(f->config, f->publications.data, f->members.n);
    if (f->stream == NULL)
        return err_memory(e);
    rc = pthread_create(&f->thread, NULL, run_thread, f);
    if (rc != 0)
        return err_set(e, ERR_INTERNAL, "cannot start a thread: %s", strerror(rc));
    f->has_thread = true;
    return true;
}

void follower_stop(struct follower *f)
{
    f->is_stopped = true;
}

void follower_free(struct follower *f)
{
    if (f == NULL)
        return;
    if (f->has_thread)
        pthread_join(f->thread, NULL);
    while (!queue_list_is_empty(&f->out))
        message_free(message_of(queue_list_take(&f->out)));
    stream_free(f->stream);
    buf_fini(&f->publications);
    slot_claims_fini(&f->claims);
    free(f->members.v);
    free(f);
}
