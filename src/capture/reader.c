/* reader.c -- the threads that poll: schedule, reconnect, retry.
 * SPDX-License-Identifier: MIT */
#include "capture/reader.h"

#include "base/array.h"
#include "capture/listener.h"
#include "capture/outbox.h"
#include "pg/sqlstate.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define CREW_MAX 8
#define ONCE_TRIES 3           /* --once and --check give up then */
#define PATIENCE_MS 60000      /* for a table that is missing, or a standby that lags */
#define ANSWER_MS 5000         /* a transaction waits no longer for the host's answer */
#define ANNOUNCED_MS 5         /* a poll for an announced commit waits so long after another */
#define BUSY_STEPS 6           /* an adaptive interval begins at least at max / 2^this */

struct reader_source {
    size_t number;
    const struct config *config;
    struct step *step;
    struct queue_lane lane;
    struct crew *crew;
    struct message *last_message; /* DONE or FAULT, which the host waits for: allocated at first,
                                   * so that it does not fail for want of memory */
    /* under the crew's mutex, except that the thread that works on the source, while it is_busy,
     * sets is_waiting, is_finished and due_ms without it: nobody reads them then */
    bool is_busy;          /* a thread works on it */
    bool is_waiting;       /* for reader_restore */
    bool is_finished;      /* nothing more will be done for it */
    bool is_asking;        /* the thread waits for reader_answer */
    bool has_asked;        /* the answer asks for keys: <asked> */
    struct tally_request asked;
    int64_t due_ms;
    uint64_t announced_as; /* the number that its commits are announced as; 0: they are not */
    uint64_t heard;        /* so many announcements had come when the last poll began */
    int64_t polled_ms;
    bool was_told;         /* the host was told that announcements do not arrive */
    /* of the thread that works on it: */
    int64_t interval_ms;
    unsigned failures;        /* in a row */
    int64_t failing_since_ms;
    bool has_worked;          /* a step has succeeded, so what it asks of the table is right */
};

struct crew {
    struct reader *reader;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct reader_source **sources;
    size_t n_sources, cap_sources;
    pthread_t threads[CREW_MAX];
    size_t n_threads;
    struct listener *listener; /* made when a source wants one */
    bool is_stopping;
};

/* A thread's connection. */
struct thread_conn {
    struct conn *conn; /* NULL: none */
    struct connect_orphan left; /* what the connection before may have left on the server */
};

struct reader {
    struct queue *queue;
    char *spool_dir;
    enum reader_mode mode;
    int stop_fd;
    struct reader_source **sources;
    size_t n_sources, cap_sources;
    struct crew **crews;
    size_t n_crews, cap_crews;
};

struct reader *reader_new(struct queue *queue, const char *spool_dir, enum reader_mode mode,
                          struct err *e)
{
    struct reader *r = calloc(1, sizeof *r);

    if (r == NULL || (r->spool_dir = strdup(spool_dir)) == NULL) {
        free(r);
        err_memory(e);
        return NULL;
    }
    r->queue = queue;
    r->mode = mode;
    r->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (r->stop_fd >= 0)
        return r;
    err_set(e, ERR_INTERNAL, "eventfd: %s", strerror(errno));
    free(r->spool_dir);
    free(r);
    return NULL;
}

/* ---- declaring sources ---- */

/* The crew of the database that <conninfo> names, made on first demand. */
static struct crew *find_crew(struct reader *r, const char *conninfo)
{
    struct crew *crew;

    for (size_t i = 0; i < r->n_crews; i++)
        if (strcmp(r->crews[i]->sources[0]->config->conninfo, conninfo) == 0)
            return r->crews[i];
    crew = calloc(1, sizeof *crew);
    if (crew == NULL || !ARRAY_PUSH(r->crews, r->n_crews, r->cap_crews, crew)) {
        free(crew);
        return NULL;
    }
    crew->reader = r;
    pthread_mutex_init(&crew->mutex, NULL);
    clock_init_cond(&crew->changed);
    return crew;
}

bool reader_add(struct reader *r, const struct config *config, struct err *e)
{
    struct reader_source *s = calloc(1, sizeof *s);

    if (s == NULL || !ARRAY_PUSH(r->sources, r->n_sources, r->cap_sources, s)) {
        free(s);
        return err_memory(e);
    }
    s->number = r->n_sources - 1;
    s->config = config;
    s->interval_ms = config->interval_max_ms;
    s->step = step_new(config, s->number);
    s->last_message = message_new(MESSAGE_DONE, s->number);
    s->crew = find_crew(r, config->conninfo);
    if (s->step == NULL || s->last_message == NULL || s->crew == NULL ||
        !ARRAY_PUSH(s->crew->sources, s->crew->n_sources, s->crew->cap_sources, s))
        return err_memory(e);
    return true;
}

/* ---- waiting ---- */

static void wait_changed(struct crew *crew, int64_t wait_ms)
{
    struct timespec until;

    if (wait_ms < 0) {
        pthread_cond_wait(&crew->changed, &crew->mutex);
        return;
    }
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += wait_ms / 1000;
    until.tv_nsec += wait_ms % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_cond_timedwait(&crew->changed, &crew->mutex, &until);
}

/* ---- messages to the host ---- */

static void tell(struct reader_source *s, struct message *m)
{
    if (m == NULL)
        return;
    message_seal(m, &s->lane);
    if (!queue_push(s->crew->reader->queue, &m->item))
        message_free(m);
}

static void tell_notice(struct reader_source *s, enum log_level level, const struct err *e,
                        int64_t retry_ms)
{
    struct message *m = message_new(MESSAGE_NOTICE, s->number);

    if (m == NULL)
        return;
    m->notice.err = *e;
    m->notice.level = level;
    m->notice.retry_ms = retry_ms;
    tell(s, m);
}

/* Sends the last message of a source: DONE, or FAULT with its error <e>. */
static void tell_last(struct reader_source *s, enum message_kind kind, const struct err *e)
{
    struct message *m = s->last_message;

    s->last_message = NULL;
    s->is_finished = true;
    m->kind = kind;
    if (e != NULL)
        m->fault = *e;
    tell(s, m);
}

/* ---- one step of one source ---- */

static bool resolve(struct reader_source *s, struct conn *conn, struct err *e)
{
    struct message *m;
    struct buf name;

    if (!step_resolve(s->step, conn, e))
        return false;
    m = message_new(MESSAGE_RESOLVED, s->number);
    buf_init(&name, 4096);
    buf_printf(&name, "%s.%s", step_schema(s->step), step_table(s->step));
    if (m == NULL || (m->text = buf_take(&name)) == NULL) {
        message_free(m);
        buf_fini(&name);
        return err_memory(e);
    }
    s->is_waiting = true; /* before the host can answer */
    tell(s, m);
    return true;
}

static bool check(struct reader_source *s, struct conn *conn, struct err *e)
{
    struct message *m = message_new(MESSAGE_DONE, s->number);
    struct buf report;

    buf_init(&report, BUF_SQL_MAX);
    if (m == NULL || !step_check(s->step, conn, &report, e) ||
        (m->text = buf_take(&report)) == NULL) {
        bool no_memory = m == NULL || !buf_ok(&report);

        message_free(m);
        buf_fini(&report);
        return no_memory ? err_memory(e) : false;
    }
    s->is_finished = true;
    tell(s, m);
    return true;
}

/* Gives a tally to the host and waits for its answer. */
static bool ask_host(struct reader_source *s, struct message *m, struct err *e)
{
    struct crew *crew = s->crew;
    int64_t until = clock_mono_ms() + ANSWER_MS, left;
    bool is_answered, has_asked;

    pthread_mutex_lock(&crew->mutex);
    s->is_asking = true;
    pthread_mutex_unlock(&crew->mutex);
    tell(s, m);
    pthread_mutex_lock(&crew->mutex);
    while (s->is_asking && !crew->is_stopping && (left = until - clock_mono_ms()) > 0)
        wait_changed(crew, left);
    is_answered = !s->is_asking;
    has_asked = s->has_asked;
    s->is_asking = false;
    pthread_mutex_unlock(&crew->mutex);
    return step_answer(s->step, is_answered, has_asked ? &s->asked : NULL, e);
}

bool reader_answer(struct reader *r, size_t source, const struct tally_request *asked)
{
    struct reader_source *s = r->sources[source];
    bool is_asking;

    pthread_mutex_lock(&s->crew->mutex);
    is_asking = s->is_asking;
    s->is_asking = false;
    if ((s->has_asked = is_asking && asked != NULL))
        s->asked = *asked;
    pthread_cond_broadcast(&s->crew->changed);
    pthread_mutex_unlock(&s->crew->mutex);
    return is_asking;
}

/* What a step brings: rows, and the keys of its census, which are sent before the rows. */
struct outboxes {
    struct outbox rows, keys;
};

static bool read_step(struct reader_source *s, struct conn *conn, struct outboxes *out,
                      bool *had_rows, struct err *e)
{
    struct message *m;
    bool ok;

    do {
        if (!step_next(s->step, conn, &m, e))
            return false;
        if (m == NULL)
            return true;
        *had_rows = *had_rows || (message_has_rows(m) && m->chunk.n_rows > 0);
        ok = m->kind == MESSAGE_TALLY
                 ? ask_host(s, m, e)
                 : outbox_put(m->kind == MESSAGE_KEYS ? &out->keys : &out->rows, m, e);
    } while (ok);
    return false;
}

static void hang_up(struct thread_conn *tc)
{
    conn_close(tc->conn, &tc->left);
    tc->conn = NULL;
}

static bool poll_step(struct reader_source *s, struct thread_conn *tc, bool *had_rows,
                      struct err *e)
{
    struct reader *r = s->crew->reader;
    enum step_found found;
    struct outboxes out;
    struct err later;
    bool ok;

    if (!step_begin(s->step, tc->conn, &found, e)) {
        step_abort(s->step, tc->conn);
        return false;
    }
    if (found == STEP_NOTHING)
        return true;
    outbox_init(&out.rows, r->queue, &s->lane, r->spool_dir, step_is_held(s->step));
    outbox_init(&out.keys, r->queue, &s->lane, r->spool_dir, false);
    ok = read_step(s, tc->conn, &out, had_rows, e);
    if (!ok) {
        bool was_held = step_is_held(s->step);

        step_abort(s->step, tc->conn);
        step_name_bad_column(s->step, tc->conn, e);
        /* the transaction may be in a COPY and cannot be ended: it must not wait for the host */
        hang_up(tc);
        /* what a poll has handed out counts as delivered, so it must reach the host */
        if (!was_held && !outbox_flush(&out.rows, &later) && e->code != ERR_STATE)
            *e = later;
    } else {
        ok = outbox_flush(&out.keys, e) && outbox_flush(&out.rows, e);
    }
    outbox_fini(&out.keys);
    outbox_fini(&out.rows);
    s->has_worked = s->has_worked || ok;
    return ok;
}

/* The interval is short after a poll that found rows, and grows while polls find none. */
static void adapt_interval(struct reader_source *s, bool had_rows)
{
    int64_t min = s->config->interval_min_ms, max = s->config->interval_max_ms;
    int64_t next = s->interval_ms + (s->interval_ms > max >> BUSY_STEPS ? s->interval_ms
                                                                        : max >> BUSY_STEPS);

    s->interval_ms = had_rows ? min : next < max ? next : max;
}

/* Does what is due for <s>. The connection is opened on demand. */
static bool do_step(struct reader_source *s, struct thread_conn *tc, struct err *e)
{
    enum reader_mode mode = s->crew->reader->mode;
    bool had_rows = false;

    if (tc->conn == NULL &&
        (tc->conn = conn_open(s->config->conninfo, s->crew->reader->stop_fd, CONN_STOP_AT_ONCE,
                              &tc->left, e)) == NULL)
        return false;
    if (!step_is_resolved(s->step))
        return resolve(s, tc->conn, e);
    if (mode == READER_CHECK)
        return check(s, tc->conn, e);
    s->due_ms = clock_mono_ms();
    if (!poll_step(s, tc, &had_rows, e))
        return false;
    if (step_is_in_snapshot(s->step) || !step_has_polled(s->step) ||
        step_owes_census(s->step))
        return true; /* due again at once */
    adapt_interval(s, had_rows);
    s->due_ms = step_due_ms(s->step, s->due_ms + s->interval_ms);
    if (mode == READER_ONCE)
        tell_last(s, MESSAGE_DONE, NULL);
    return true;
}

/* False if the thread should end. */
static bool handle_failure(struct reader_source *s, struct thread_conn *tc, const struct err *e)
{
    int64_t now = clock_mono_ms(), wait;
    bool is_impatient;

    if (s->failures++ == 0)
        s->failing_since_ms = now;
    is_impatient = now - s->failing_since_ms >= PATIENCE_MS;
    hang_up(tc);
    switch (sqlstate_action(e, s->has_worked)) {
    case SQLSTATE_STOP:
        return false;
    case SQLSTATE_PATIENCE:
        if (is_impatient)
            break;
        /* fall through */
    case SQLSTATE_RETRY:
        if (s->crew->reader->mode != READER_RUN && s->failures >= ONCE_TRIES)
            break;
        if (e->code == ERR_BEHIND && is_impatient)
            step_stop_waiting(s->step);
        wait = sqlstate_backoff_ms(s->failures);
        s->due_ms = now + wait;
        tell_notice(s, LOG_WARN, e, wait);
        return true;
    case SQLSTATE_GIVE_UP:
        break;
    }
    tell_last(s, MESSAGE_FAULT, e);
    return true;
}

/* ---- the crew ---- */

/* After a step of <s>: starts a listener if <s> needs one, and tells the host if it hears nothing.
 * Under the mutex. */
static void look_after_listener(struct reader_source *s)
{
    struct crew *crew = s->crew;
    const char *why = crew->listener != NULL ? listener_why_mute(crew->listener) : NULL;
    struct err e = { .code = ERR_NONE };

    s->polled_ms = clock_mono_ms();
    s->announced_as = crew->reader->mode == READER_RUN ? step_announced_as(s->step) : 0;
    if (s->announced_as == 0)
        return;
    if (crew->listener == NULL)
        crew->listener = listener_new(s->config->conninfo, crew->reader->stop_fd, &crew->mutex,
                                      &crew->changed);
    if (why != NULL && !s->was_told) {
        s->was_told = true;
        err_set(&e, ERR_NONE, "%s", why);
        tell_notice(s, LOG_INFO, &e, -1);
    }
}

/* When <s> is due: at its interval, or soon if a commit was announced for it. */
static int64_t due_ms(const struct reader_source *s)
{
    int64_t soon = s->polled_ms + ANNOUNCED_MS;

    return s->announced_as != 0 && s->failures == 0 && s->crew->listener != NULL &&
                   soon < s->due_ms &&
                   listener_count(s->crew->listener, s->announced_as) != s->heard
               ? soon
               : s->due_ms;
}

/* The source that has been due the longest. NULL: none is due for *wait_ms, or, if that is -1,
 * until something changes. */
static struct reader_source *choose(struct crew *crew, int64_t *wait_ms)
{
    struct reader_source *chosen = NULL;
    int64_t now = clock_mono_ms();

    for (size_t i = 0; i < crew->n_sources; i++) {
        struct reader_source *s = crew->sources[i];

        if (s->is_busy || s->is_waiting || s->is_finished)
            continue;
        if (!step_is_in_snapshot(s->step) &&
            !queue_lane_is_empty(crew->reader->queue, &s->lane))
            continue; /* until reader_wake */
        if (chosen == NULL || due_ms(s) < due_ms(chosen))
            chosen = s;
    }
    if (chosen != NULL && due_ms(chosen) <= now)
        return chosen;
    *wait_ms = chosen != NULL ? due_ms(chosen) - now : -1;
    return NULL;
}

static void *run_thread(void *arg)
{
    struct crew *crew = arg;
    struct thread_conn tc = { .conn = NULL };
    int64_t wait_ms;

    pthread_setname_np(pthread_self(), "reader");
    pthread_mutex_lock(&crew->mutex);
    while (!crew->is_stopping) {
        struct reader_source *s = choose(crew, &wait_ms);
        struct err e = { .code = ERR_NONE };
        bool goes_on = true;

        if (s == NULL) {
            wait_changed(crew, wait_ms);
            continue;
        }
        s->is_busy = true;
        if (crew->listener != NULL)
            s->heard = listener_count(crew->listener, s->announced_as);
        pthread_mutex_unlock(&crew->mutex);
        if (do_step(s, &tc, &e))
            s->failures = 0;
        else
            goes_on = handle_failure(s, &tc, &e);
        pthread_mutex_lock(&crew->mutex);
        look_after_listener(s);
        s->is_busy = false;
        pthread_cond_broadcast(&crew->changed);
        if (!goes_on)
            break;
    }
    pthread_mutex_unlock(&crew->mutex);
    hang_up(&tc);
    return NULL;
}

bool reader_start(struct reader *r, struct err *e)
{
    for (size_t i = 0; i < r->n_crews; i++) {
        struct crew *crew = r->crews[i];
        size_t n = crew->n_sources < CREW_MAX ? crew->n_sources : CREW_MAX;

        while (crew->n_threads < n) {
            int rc = pthread_create(&crew->threads[crew->n_threads], NULL, run_thread, crew);

            if (rc != 0)
                return err_set(e, ERR_INTERNAL, "cannot start a thread: %s", strerror(rc));
            crew->n_threads++;
        }
    }
    return true;
}

bool reader_restore(struct reader *r, size_t source, const struct position *kept, struct err *e)
{
    struct reader_source *s = r->sources[source];
    bool ok;

    pthread_mutex_lock(&s->crew->mutex);
    ok = step_restore(s->step, kept) || err_memory(e);
    s->is_waiting = false;
    pthread_cond_broadcast(&s->crew->changed);
    pthread_mutex_unlock(&s->crew->mutex);
    return ok;
}

void reader_wake(struct reader *r, size_t source)
{
    struct crew *crew = r->sources[source]->crew;

    pthread_mutex_lock(&crew->mutex);
    pthread_cond_broadcast(&crew->changed);
    pthread_mutex_unlock(&crew->mutex);
}

void reader_stop(struct reader *r)
{
    uint64_t one = 1;

    if (write(r->stop_fd, &one, sizeof one) < 0) {
        /* only a full counter can refuse, and a full counter is readable */
    }
    for (size_t i = 0; i < r->n_crews; i++) {
        pthread_mutex_lock(&r->crews[i]->mutex);
        r->crews[i]->is_stopping = true;
        pthread_cond_broadcast(&r->crews[i]->changed);
        pthread_mutex_unlock(&r->crews[i]->mutex);
    }
}

void reader_free(struct reader *r)
{
    if (r == NULL)
        return;
    for (size_t i = 0; i < r->n_crews; i++) {
        struct crew *crew = r->crews[i];

        for (size_t j = 0; j < crew->n_threads; j++)
            pthread_join(crew->threads[j], NULL);
        listener_free(crew->listener);
        pthread_cond_destroy(&crew->changed);
        pthread_mutex_destroy(&crew->mutex);
        free(crew->sources);
        free(crew);
    }
    for (size_t i = 0; i < r->n_sources; i++) {
        step_free(r->sources[i]->step);
        message_free(r->sources[i]->last_message);
        free(r->sources[i]);
    }
    free(r->crews);
    free(r->sources);
    free(r->spool_dir);
    close(r->stop_fd);
    free(r);
}
