/* follower.c -- the thread that reads the log of a database for its logical sources.
 * SPDX-License-Identifier: MIT */
#include "capture/follower.h"

#include "base/array.h"
#include "base/clock.h"
#include "capture/failures.h"
#include "capture/sql.h"
#include "capture/stream.h"
#include "pg/sqlstate.h"

#include <stdlib.h>
#include <string.h>

#define WAIT_MS 200        /* for the log, before a pause is looked for */
#define FULL_MS 1000       /* for room in the queue, before the server is told that we are there */
#define BUSY_MS 16         /* for more of a batch, before it is asked whether the host is busy */
#define STATUS_MS 10000    /* between two statuses, if there is nothing to confirm */
#define CONFIRM_MS 500     /* the same, if there is */
#define TELL_MS 10000      /* between two positions of a source for which nothing came */
#define IN_USE_MS 90000    /* for a slot that somebody else reads */
#define WARN_MS 60000      /* between two warnings of what the slot holds */
#define UNKNOWN UINT64_MAX

struct member {
    struct sender *sender;
    void *arg;             /* of job.finish */
    bool is_known;         /* <claim> is */
    uint64_t claim;        /* 0: it has none */
    struct source *source; /* it is attached; NULL: it is not */
    uint64_t target;       /* with --once: it is finished once it is there */
};

struct follower {
    struct follower_job job;
    const struct config *config; /* of one of the sources: connection, slot, publication */
    struct member *members;
    size_t n, cap;
    struct stream *stream;
    pthread_t thread;
    bool has_thread;
    /* under the mutex: */
    bool is_busy, is_stopped;
    unsigned n_pauses;     /* that are asked for; one at a time has its turn: */
    bool is_paused;
    int64_t retry_ms;      /* it tries again then */
    /* of the thread: */
    struct conn *conn;
    struct connect_orphan left;
    struct failures failures;
    uint64_t confirmed;
    int64_t status_ms, told_ms, retained_ms, warned_ms; /* when that was done last */
    struct queue_list out; /* messages on their way to the queue */
};

struct follower *follower_new(const struct follower_job *job, const struct config *config)
{
    struct follower *f = calloc(1, sizeof *f);

    if (f == NULL)
        return NULL;
    f->job = *job;
    f->config = config;
    return f;
}

bool follower_is_of(const struct follower *f, const struct config *config)
{
    return config_share_log(f->config, config);
}

bool follower_add(struct follower *f, struct sender *sender, void *arg, size_t *i)
{
    *i = f->n;
    return ARRAY_PUSH(f->members, f->n, f->cap,
                      ((struct member){ .sender = sender, .arg = arg }));
}

/* ---- claims ---- */

void follower_claim(struct follower *f, size_t i, uint64_t lsn)
{
    f->members[i].is_known = true;
    f->members[i].claim = lsn;
}

/* Up to where all is saved; 0: that is not known. */
static uint64_t least_claim(const struct follower *f)
{
    uint64_t least = UNKNOWN;

    for (size_t i = 0; i < f->n; i++) {
        const struct member *m = &f->members[i];

        if (!m->is_known)
            return 0;
        if (m->claim != 0 && m->claim < least)
            least = m->claim;
    }
    return least == UNKNOWN ? 0 : least;
}

static bool has_claims(const struct follower *f, size_t except)
{
    for (size_t i = 0; i < f->n; i++)
        if (i != except && (!f->members[i].is_known || f->members[i].claim != 0))
            return true;
    return false;
}

/* ---- pauses ---- */

void follower_pause(struct follower *f, size_t i, struct source *source)
{
    f->n_pauses++;
    while (!f->is_stopped && (f->is_busy || f->is_paused || stream_is_amid(f->stream)))
        clock_wait_cond(f->job.changed, f->job.mutex, -1);
    f->is_paused = true;
    f->members[i].source = NULL;
    stream_detach(f->stream, i);
    source->log_passed = stream_passed(f->stream);
    source->shares_log = has_claims(f, i);
    if (!source->shares_log && source->position.logical.lsn == 0)
        stream_close(f->stream); /* the source is to make the slot anew */
}

void follower_resume(struct follower *f, size_t i, struct source *source)
{
    struct member *m = &f->members[i];

    f->n_pauses--;
    f->is_paused = false;
    if (source != NULL && !f->is_stopped) {
        m->source = source;
        m->target = source->facts.identity.lsn;
        m->is_known = true;
        if (m->claim == 0 || source->position.logical.lsn < m->claim) /* it will be saved */
            m->claim = source->position.logical.lsn;
        stream_attach(f->stream, i, source);
    }
    pthread_cond_broadcast(f->job.changed);
}

/* ---- the thread ---- */

static struct member *member_of(struct follower *f, const struct message *m)
{
    for (size_t i = 0; i < f->n; i++)
        if (f->members[i].sender->source == m->source)
            return &f->members[i];
    return NULL;
}

static bool is_stopping(struct follower *f)
{
    bool is;

    pthread_mutex_lock(f->job.mutex);
    is = f->is_stopped;
    pthread_mutex_unlock(f->job.mutex);
    return is;
}

static struct sender *first_sender(const struct follower *f)
{
    for (size_t i = 0; i < f->n; i++)
        if (f->members[i].source != NULL)
            return f->members[i].sender;
    return f->members[0].sender;
}

static const struct result_shape retained_shape = { "what the slot holds", "U", 0, 1 };

static bool drop_slot(struct follower *f, uint64_t retained, struct err *e)
{
    struct buf sql;
    bool ok;

    stream_close(f->stream);
    buf_init(&sql, BUF_SQL_MAX);
    buf_puts(&sql, "SELECT pg_catalog.pg_terminate_backend(active_pid, 5000)"
                   " FROM pg_catalog.pg_replication_slots WHERE active_pid IS NOT NULL"
                   " AND slot_name = ");
    sql_put_literal(&sql, f->config->slot);
    buf_puts(&sql, ";SELECT pg_catalog.pg_drop_replication_slot(");
    sql_put_literal(&sql, f->config->slot);
    buf_puts(&sql, ")");
    ok = buf_ok(&sql) ? conn_run(f->conn, sql.data, NULL, NULL, 0, e) : err_memory(e);
    buf_fini(&sql);
    if (!ok)
        return false;
    err_set(e, ERR_SQL, "slot %s held %.1f GB of the log, more than max_retained, and was dropped",
            f->config->slot, (double)retained / (1 << 30));
    memcpy(e->sqlstate, "42704", sizeof "42704");
    return false;
}

static void warn_of_retained(struct follower *f, uint64_t retained)
{
    int64_t now = clock_mono_ms();
    struct err what;

    if (f->warned_ms != 0 && now < f->warned_ms + WARN_MS)
        return;
    f->warned_ms = now;
    err_set(&what, ERR_NONE, "slot %s holds %.1f GB of the log, of %.1f GB that it may: what is "
            "delivered is not saved", f->config->slot, (double)retained / (1 << 30),
            (double)f->config->max_retained / (1 << 30));
    sender_notice(first_sender(f), LOG_WARN, &what, -1);
}

/* The slot must not fill the server's disk because of us. */
static bool check_retained(struct follower *f, struct err *e)
{
    struct result *rows = NULL;
    uint64_t retained = 0;
    struct buf sql;
    bool ok;

    buf_init(&sql, BUF_SQL_MAX);
    buf_puts(&sql, "SELECT pg_catalog.pg_current_wal_insert_lsn() - restart_lsn"
                   " FROM pg_catalog.pg_replication_slots WHERE slot_name = ");
    sql_put_literal(&sql, f->config->slot);
    ok = buf_ok(&sql) ? conn_run(f->conn, sql.data, &retained_shape, &rows, 1, e) : err_memory(e);
    buf_fini(&sql);
    if (ok && result_count(rows) > 0)
        retained = result_u64(rows, 0, 0);
    result_free(rows);
    for (size_t i = 0; ok && i < f->n; i++)
        meter_set_slot(&f->members[i].sender->meter, retained);
    if (!ok || retained <= f->config->max_retained / 2)
        return ok;
    if (retained > f->config->max_retained)
        return drop_slot(f, retained, e);
    warn_of_retained(f, retained);
    return true;
}

/* Tells the server that we are there, and what is saved. */
static bool tell_server(struct follower *f, struct err *e)
{
    int64_t now = clock_mono_ms();
    uint64_t lsn;

    pthread_mutex_lock(f->job.mutex);
    lsn = least_claim(f);
    pthread_mutex_unlock(f->job.mutex);
    if (lsn > stream_passed(f->stream)) /* it is of a server that was before this one */
        lsn = stream_passed(f->stream);
    if (lsn < f->confirmed)
        lsn = f->confirmed;
    if (now >= f->retained_ms + STATUS_MS) {
        f->retained_ms = now;
        if (!check_retained(f, e))
            return false;
    }
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

        message_seal(m, &member_of(f, m)->sender->lane);
        if (m->kind == MESSAGE_ROWS)
            meter_add_scanned(&member_of(f, m)->sender->meter, m->chunk.n_rows);
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

/* True if the source is where the log ended when it was looked at. (At the beginning of a page of
 * the log, an LSN of the server may be that of what follows its head.) */
static bool is_at_target(const struct member *m)
{
    uint64_t lsn = m->source != NULL ? m->source->position.logical.lsn : 0;

    return m->source != NULL &&
           (lsn >= m->target || (lsn % 8192 == 0 && lsn + 40 >= m->target));
}

/* With --once: all are finished together, or changes of one would come before earlier ones of
 * another, which the next run brings. */
static void finish_members(struct follower *f)
{
    bool is_over = true;

    pthread_mutex_lock(f->job.mutex);
    for (size_t i = 0; i < f->n; i++)
        is_over = is_over && is_at_target(&f->members[i]);
    for (size_t i = 0; is_over && i < f->n; i++)
        f->job.finish(f->members[i].arg, NULL);
    f->is_stopped = f->is_stopped || is_over;
    pthread_mutex_unlock(f->job.mutex);
}

/* Positions of sources for which nothing came are told now and then. */
static bool tell_positions(struct follower *f, bool is_due, struct err *e)
{
    int64_t now = clock_mono_ms();

    if (stream_is_amid(f->stream) || (!is_due && now < f->told_ms + TELL_MS))
        return true;
    f->told_ms = now;
    return stream_tell(f->stream, &f->out, e) && send(f, e);
}

/* True if somebody waits for the batch in hand: for a pause, or the host, when it has handled all
 * that it got of a source of which the batch has more. */
static bool is_awaited(struct follower *f)
{
    bool is;

    pthread_mutex_lock(f->job.mutex);
    is = f->n_pauses > 0;
    pthread_mutex_unlock(f->job.mutex);
    for (size_t i = 0; !is && i < f->n; i++)
        is = stream_has(f->stream, i) &&
             queue_lane_is_empty(f->job.queue, &f->members[i].sender->lane);
    return is;
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
    return stream_end(f->stream, f->conn, &f->out, e);
}

/* Reads a batch, or until nothing more comes for now. */
static bool follow(struct follower *f, struct err *e)
{
    int64_t until_ms = clock_mono_ms() + WAIT_MS, rest_ms = 0;
    enum stream_found found;

    if (f->conn == NULL &&
        (f->conn = conn_open(f->config->conninfo, f->job.stop_fd, CONN_STOP_AT_ONCE, &f->left,
                             e)) == NULL)
        return false;
    do {
        if (!send(f, e) ||
            !stream_read(f->stream, f->conn, until_ms, rest_ms, &f->out, &found, e))
            return false;
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
    if (f->job.is_once && !stream_is_amid(f->stream))
        finish_members(f);
    f->failures.n = 0;
    f->failures.has_worked = true;
    for (size_t i = 0; i < f->n; i++)
        meter_reach(&f->members[i].sender->meter);
    return true;
}

/* True if the slot cannot bring what follows: the sources are to look what is left of it. */
static bool is_lost(const struct err *e)
{
    return e->code == ERR_SQL &&
           (strcmp(e->sqlstate, "42704") == 0 || strcmp(e->sqlstate, "55000") == 0);
}

/* The sources' steps find out what is wrong. Under the mutex. */
static void let_go(struct follower *f)
{
    for (size_t i = 0; i < f->n; i++) {
        if (f->members[i].source == NULL)
            continue;
        source_forget_polled(f->members[i].source);
        f->members[i].source = NULL;
        stream_detach(f->stream, i);
        f->job.look(f->members[i].arg);
    }
}

static void give_up(struct follower *f, const struct err *e)
{
    pthread_mutex_lock(f->job.mutex);
    for (size_t i = 0; i < f->n; i++) {
        if (f->members[i].source == NULL)
            continue;
        f->job.finish(f->members[i].arg, e);
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

/* Waits before the next try. False: the program stops. */
static bool rest(struct follower *f)
{
    wait_for_room(f);
    return !is_stopping(f);
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
    } while (!ok && sqlstate_action(&e, true) == SQLSTATE_RETRY && rest(f));
    if (ok)
        return true;
    if (e.code != ERR_STOPPED)
        give_up(f, &e);
    return false;
}

/* Somebody else reads the slot: one of us that was killed, which the server has not noticed yet. */
static bool is_waited_for(const struct follower *f, const struct err *e)
{
    return strcmp(e->sqlstate, "55006") == 0 &&
           clock_mono_ms() < f->failures.since_ms + IN_USE_MS;
}

static void handle_failure(struct follower *f, const struct err *e)
{
    int64_t wait_ms;
    bool goes_on;

    hang_up(f);
    if (e->code == ERR_STOPPED || (is_lost(e) && !end_batch(f)))
        return;
    goes_on = failures_add(&f->failures, e, f->job.is_once, &wait_ms);
    if (!goes_on && !is_lost(e) && !is_waited_for(f, e)) {
        give_up(f, e);
        return;
    }
    sender_notice(first_sender(f), LOG_WARN, e, wait_ms);
    for (size_t i = 0; i < f->n; i++)
        meter_fail(&f->members[i].sender->meter, e, f->failures.since_ms);
    pthread_mutex_lock(f->job.mutex);
    f->retry_ms = clock_mono_ms() + wait_ms;
    if (is_lost(e))
        let_go(f);
    pthread_mutex_unlock(f->job.mutex);
}

/* True if a source is there, and all that were at the saved positions: else what one of them brings
 * would come before what another one has to read again. */
static bool is_complete(const struct follower *f)
{
    bool has_source = false;

    for (size_t i = 0; i < f->n; i++) {
        const struct member *m = &f->members[i];

        has_source = has_source || m->source != NULL;
        if (!m->is_known || (m->claim != 0 && m->source == NULL))
            return false;
    }
    return has_source;
}

/* True if there is something to read; else *wait_ms is how long there is not. Under the mutex. */
static bool may_follow(const struct follower *f, int64_t *wait_ms)
{
    *wait_ms = -1;
    if (!is_complete(f) || (f->n_pauses > 0 && !stream_is_amid(f->stream)))
        return false;
    *wait_ms = f->retry_ms - clock_mono_ms();
    return *wait_ms <= 0;
}

static void *run_thread(void *arg)
{
    struct follower *f = arg;
    int64_t wait_ms;

    pthread_setname_np(pthread_self(), "follower");
    pthread_mutex_lock(f->job.mutex);
    while (!f->is_stopped) {
        struct err e = { .code = ERR_NONE };

        if (!may_follow(f, &wait_ms)) {
            clock_wait_cond(f->job.changed, f->job.mutex, wait_ms);
            continue;
        }
        f->is_busy = true;
        pthread_mutex_unlock(f->job.mutex);
        if (!follow(f, &e))
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

    f->stream = stream_new(f->config->slot, f->config->publication, f->n);
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
    free(f->members);
    free(f);
}
