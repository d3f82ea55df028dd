/* crew.c -- the threads of one database: schedule, reconnect, retry.
 * SPDX-License-Identifier: MIT */
#include "capture/crew.h"

#include "base/array.h"
#include "capture/announced.h"
#include "capture/notices.h"
#include "capture/sender.h"
#include "capture/unit.h"
#include "pg/sqlstate.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define MAX_THREADS 8          /* as many as any source may ask for */
#define ONCE_TRIES 3           /* --once and --check give up then */
#define PATIENCE_MS 60000      /* for a table that is missing, or a standby that lags */
#define ANSWER_MS 5000         /* a transaction waits no longer for the host's answer */
#define ANNOUNCED_MS 5         /* a poll for an announced commit waits so long after another */

struct crew_source {
    size_t number;
    const struct config *config;
    struct step *step;
    struct sender sender;
    struct crew *crew;
    /* under the crew's mutex: */
    bool is_waiting;       /* the source waits for crew_restore */
    bool is_finished;      /* nothing more will be done for it */
    bool is_asking;        /* the thread waits for crew_answer */
    bool has_asked;        /* the answer asks for keys: <asked> */
    struct tally_request asked;
    struct announced announced;
};

/* The sources that a thread works on at a time, see unit.h. */
struct crew_unit {
    struct unit unit;
    struct crew_source **sources; /* as in <unit> */
    size_t n, cap;
    struct crew *crew;
    /* under the crew's mutex: */
    bool is_busy;          /* a thread works on it */
    int64_t due_ms, polled_ms; /* when the next step is due, and when the last one ended */
    /* used by the thread that works on it; while none does, by any that holds the mutex: */
    int64_t next_ms;       /* due_ms once the step has ended */
    int64_t interval_ms;
    unsigned failures;        /* in a row */
    int64_t failing_since_ms;
    bool has_worked;          /* a step has succeeded, so what was declared fits the tables */
    struct notices notices;
};

struct crew {
    struct crew_job job;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct crew_unit **units;
    size_t n_units, cap_units;
    pthread_t threads[MAX_THREADS];
    size_t n_threads;
    struct listener *listener; /* made when a source wants one */
    bool is_stopping;
};

/* A thread's connection. */
struct thread_conn {
    struct conn *conn; /* NULL: none */
    struct connect_orphan left; /* what the connection before may have left on the server */
};

/* ---- declaring sources ---- */

struct crew *crew_new(const struct crew_job *job)
{
    struct crew *crew = calloc(1, sizeof *crew);

    if (crew == NULL)
        return NULL;
    crew->job = *job;
    pthread_mutex_init(&crew->mutex, NULL);
    clock_init_cond(&crew->changed);
    return crew;
}

/* The unit that the source is to be part of, made on first demand. */
static struct crew_unit *find_unit(struct crew *crew, const struct config *config)
{
    struct crew_unit *u;

    for (size_t i = 0; config->is_joint && i < crew->n_units; i++)
        if (crew->units[i]->unit.is_joint &&
            crew->units[i]->sources[0]->number == config->unit)
            return crew->units[i];
    u = calloc(1, sizeof *u);
    if (u == NULL || !ARRAY_PUSH(crew->units, crew->n_units, crew->cap_units, u)) {
        free(u);
        return NULL;
    }
    u->crew = crew;
    u->notices.has_debug = crew->job.has_debug;
    u->interval_ms = config->interval_max_ms;
    return u;
}

static void free_source(struct crew_source *s)
{
    step_free(s->step);
    sender_fini(&s->sender);
    free(s);
}

struct crew_source *crew_add(struct crew *crew, const struct config *config, size_t number)
{
    struct crew_source *s = calloc(1, sizeof *s);
    struct crew_unit *u = s != NULL ? find_unit(crew, config) : NULL;

    if (u == NULL || !ARRAY_PUSH(u->sources, u->n, u->cap, s)) {
        free(s);
        return NULL;
    }
    s->number = number;
    s->config = config;
    s->crew = crew;
    s->step = step_new(config, number);
    if (s->step == NULL || !sender_init(&s->sender, crew->job.queue, number) ||
        !unit_add(&u->unit, s->step, config->is_joint))
        return NULL;
    return s;
}

/* ---- one step ---- */

/* The source whose turn it is in the unit's step, or at which the step failed. */
static struct crew_source *source_in_turn(const struct crew_unit *u)
{
    return u->sources[u->unit.turn < u->n ? u->unit.turn : u->n - 1];
}

/* Sets a flag that others look at. */
static void set(struct crew *crew, bool *flag)
{
    pthread_mutex_lock(&crew->mutex);
    *flag = true;
    pthread_cond_broadcast(&crew->changed);
    pthread_mutex_unlock(&crew->mutex);
}

static bool resolve(struct crew_source *s, struct conn *conn, struct err *e)
{
    struct message *m;

    if (!step_resolve(s->step, conn, &m, e))
        return false;
    set(s->crew, &s->is_waiting); /* before the host can answer */
    sender_send(&s->sender, m);
    return true;
}

/* Sends the last message of a source. */
static void finish(struct crew_source *s, enum message_kind kind, const struct err *e)
{
    set(s->crew, &s->is_finished);
    sender_last(&s->sender, kind, e);
}

static bool check(struct crew_source *s, struct conn *conn, struct err *e)
{
    struct message *m;

    if (!step_check(s->step, conn, &m, e))
        return false;
    set(s->crew, &s->is_finished);
    sender_send(&s->sender, m);
    return true;
}

/* Gives a tally to the host and waits for its answer. */
static bool ask_host(struct crew_source *s, struct message *m, struct err *e)
{
    struct crew *crew = s->crew;
    int64_t until = clock_mono_ms() + ANSWER_MS, left;
    bool is_answered, has_asked;

    set(crew, &s->is_asking);
    sender_send(&s->sender, m);
    pthread_mutex_lock(&crew->mutex);
    while (s->is_asking && !crew->is_stopping && (left = until - clock_mono_ms()) > 0)
        clock_wait_cond(&crew->changed, &crew->mutex, left);
    is_answered = !s->is_asking;
    has_asked = s->has_asked;
    s->is_asking = false;
    pthread_mutex_unlock(&crew->mutex);
    return step_answer(s->step, is_answered, has_asked ? &s->asked : NULL, e);
}

bool crew_answer(struct crew_source *s, const struct tally_request *asked)
{
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

static bool read_step(struct crew_unit *u, struct conn *conn, uint64_t *n_rows, struct err *e)
{
    bool ok;

    do {
        struct crew_source *s;
        struct message *m;

        if (!unit_next(&u->unit, conn, &m, e))
            return false;
        if (m == NULL)
            return true;
        s = source_in_turn(u);
        if (message_has_rows(m))
            *n_rows += m->chunk.n_rows;
        ok = m->kind == MESSAGE_TALLY ? ask_host(s, m, e) : sender_put(&s->sender, m, e);
    } while (ok);
    return false;
}

static void open_senders(struct crew_unit *u)
{
    for (size_t i = 0; i < u->n; i++)
        sender_open(&u->sources[i]->sender, u->crew->job.spool_dir, OUTBOX_BYTES / u->n,
                    step_is_held(u->sources[i]->step));
}

/* Sends what the step brought: the chunks of all sources, then the news after these. */
static bool flush_senders(struct crew_unit *u, struct err *e)
{
    for (size_t i = 0; i < u->n; i++)
        if (!sender_flush_chunks(&u->sources[i]->sender, e))
            return false;
    for (size_t i = 0; i < u->n; i++)
        if (!sender_flush_rows(&u->sources[i]->sender, e))
            return false;
    return true;
}

static void close_senders(struct crew_unit *u)
{
    for (size_t i = 0; i < u->n; i++)
        sender_close(&u->sources[i]->sender);
}

static void hang_up(struct thread_conn *tc)
{
    conn_close(tc->conn, &tc->left);
    tc->conn = NULL;
}

/* The step has failed with <e>: aborts it, hangs up, and sends what counts as delivered. */
static void give_up_step(struct crew_unit *u, struct thread_conn *tc, struct err *e)
{
    struct crew_source *s = source_in_turn(u);
    bool was_held = step_is_held(s->step);
    struct err later;

    unit_abort(&u->unit, tc->conn);
    step_name_bad_column(s->step, tc->conn, e);
    /* the transaction may be in a COPY and cannot be ended: it must not wait for the host */
    hang_up(tc);
    /* what a poll has handed out counts as delivered, so it must reach the host */
    if (!was_held && !sender_flush_rows(&s->sender, &later) && e->code != ERR_STATE)
        *e = later;
}

static bool poll_step(struct crew_unit *u, struct thread_conn *tc, uint64_t *n_rows,
                      struct err *e)
{
    bool was_in_snapshot = step_is_in_snapshot(u->sources[0]->step), ok;
    struct sender *first = &u->sources[0]->sender;
    enum unit_found found;

    notices_begin_step(&u->notices);
    if (!unit_begin(&u->unit, tc->conn, &found, e)) {
        unit_abort(&u->unit, tc->conn);
        return false;
    }
    if (found == UNIT_NOTHING) {
        notices_skip_step(&u->notices, first);
        return true;
    }
    open_senders(u);
    ok = read_step(u, tc->conn, n_rows, e);
    if (!ok)
        give_up_step(u, tc, e);
    else
        ok = flush_senders(u, e);
    close_senders(u);
    if (ok)
        notices_end_step(&u->notices, first, was_in_snapshot, *n_rows);
    u->has_worked = u->has_worked || ok;
    return ok;
}

/* Resolves those sources of the unit that are not resolved yet. *is_done: there was none. */
static bool resolve_all(struct crew_unit *u, struct conn *conn, bool *is_done, struct err *e)
{
    *is_done = true;
    for (u->unit.turn = 0; u->unit.turn < u->n; u->unit.turn++) {
        struct crew_source *s = source_in_turn(u);

        if (step_is_resolved(s->step))
            continue;
        *is_done = false;
        if (!resolve(s, conn, e))
            return false;
    }
    if (!*is_done)
        unit_start(&u->unit);
    return true;
}

static bool check_all(struct crew_unit *u, struct conn *conn, struct err *e)
{
    for (u->unit.turn = 0; u->unit.turn < u->n; u->unit.turn++)
        if (!source_in_turn(u)->is_finished && !check(source_in_turn(u), conn, e))
            return false;
    return true;
}

/* For conn_watch. */
static void on_wait(void *arg, const struct conn_wait *w)
{
    struct crew_unit *u = arg;

    notices_wait(&u->notices, &source_in_turn(u)->sender, w);
}

/* Does what is due for the unit. The connection is opened on demand. */
static bool do_step(struct crew_unit *u, struct thread_conn *tc, struct err *e)
{
    const struct crew_job *job = &u->crew->job;
    uint64_t n_rows = 0;
    bool is_resolved;

    u->unit.turn = 0;
    if (tc->conn == NULL &&
        (tc->conn = conn_open(u->sources[0]->config->conninfo, job->stop_fd,
                              CONN_STOP_AT_ONCE, &tc->left, e)) == NULL)
        return false;
    conn_watch(tc->conn, on_wait, u);
    if (!resolve_all(u, tc->conn, &is_resolved, e))
        return false;
    if (!is_resolved)
        return true;
    if (job->is_check)
        return check_all(u, tc->conn, e);
    u->next_ms = clock_mono_ms();
    if (!poll_step(u, tc, &n_rows, e))
        return false;
    if (!unit_is_complete(&u->unit))
        return true; /* due again at once */
    u->interval_ms = config_next_interval(u->sources[0]->config, u->interval_ms, n_rows > 0);
    u->next_ms = unit_due_ms(&u->unit, u->next_ms + u->interval_ms);
    for (size_t i = 0; job->is_once && i < u->n; i++)
        finish(u->sources[i], MESSAGE_DONE, NULL);
    return true;
}

/* False if the thread should end. */
static bool handle_failure(struct crew_unit *u, struct thread_conn *tc, const struct err *e)
{
    int64_t now = clock_mono_ms(), wait;
    bool is_impatient;

    if (u->failures++ == 0)
        u->failing_since_ms = now;
    is_impatient = now - u->failing_since_ms >= PATIENCE_MS;
    hang_up(tc);
    switch (sqlstate_action(e, u->has_worked)) {
    case SQLSTATE_STOP:
        return false;
    case SQLSTATE_PATIENCE:
        if (is_impatient)
            break;
        /* fall through */
    case SQLSTATE_RETRY:
        if ((u->crew->job.is_once || u->crew->job.is_check) && u->failures >= ONCE_TRIES)
            break;
        for (size_t i = 0; e->code == ERR_BEHIND && is_impatient && i < u->n; i++)
            step_stop_waiting(u->sources[i]->step);
        wait = sqlstate_backoff_ms(u->failures);
        u->next_ms = now + wait;
        sender_notice(&source_in_turn(u)->sender, LOG_WARN, e, wait);
        return true;
    case SQLSTATE_GIVE_UP:
        break;
    }
    finish(source_in_turn(u), MESSAGE_FAULT, e);
    return true;
}

/* ---- the crew ---- */

/* After a step: starts a listener if the source needs one. Under the mutex. */
static void look_after_listener(struct crew_source *s)
{
    struct crew *crew = s->crew;

    announced_check(&s->announced, crew->listener, &s->sender);
    s->announced.as = crew->job.is_once || crew->job.is_check ? 0 : step_announced_as(s->step);
    if (s->announced.as != 0 && crew->listener == NULL)
        crew->listener = listener_new(s->config->conninfo, crew->job.stop_fd, &crew->mutex,
                                      &crew->changed);
}

/* True if a commit was announced since the last poll. If commits of one source of the unit are not
 * announced, false: the unit goes by its interval, since that source's table is scanned. */
static bool is_announced(const struct crew_unit *u)
{
    bool is_news = false;

    for (size_t i = 0; i < u->n; i++) {
        const struct announced *a = &u->sources[i]->announced;

        if (a->as == 0)
            return false;
        is_news = is_news || announced_is_news(a, u->crew->listener);
    }
    return is_news;
}

/* When the unit is due: at its interval, or soon if a commit was announced for it. */
static int64_t due_ms(const struct crew_unit *u)
{
    int64_t soon = u->polled_ms + ANNOUNCED_MS;

    return u->failures == 0 && soon < u->due_ms && is_announced(u) ? soon : u->due_ms;
}

/* True if a thread may take the unit's next step. */
static bool is_free(const struct crew_unit *u)
{
    for (size_t i = 0; i < u->n; i++) {
        struct crew_source *s = u->sources[i];

        if (u->is_busy || s->is_waiting || s->is_finished)
            return false;
        if ((u->unit.is_joint || !step_is_in_snapshot(s->step)) &&
            !queue_lane_is_empty(u->crew->job.queue, &s->sender.lane))
            return false; /* until crew_wake */
    }
    return true;
}

/* The unit that has been due the longest. NULL: none is due for *wait_ms, or, if that is -1,
 * until something changes. */
static struct crew_unit *choose(struct crew *crew, int64_t *wait_ms)
{
    struct crew_unit *chosen = NULL;
    int64_t now = clock_mono_ms();

    for (size_t i = 0; i < crew->n_units; i++)
        if (is_free(crew->units[i]) &&
            (chosen == NULL || due_ms(crew->units[i]) < due_ms(chosen)))
            chosen = crew->units[i];
    if (chosen != NULL && due_ms(chosen) <= now)
        return chosen;
    *wait_ms = chosen != NULL ? due_ms(chosen) - now : -1;
    return NULL;
}

/* A thread begins to work on the unit. Under the mutex. */
static void take(struct crew_unit *u)
{
    u->is_busy = true;
    for (size_t i = 0; i < u->n; i++)
        announced_begin_poll(&u->sources[i]->announced, u->crew->listener);
}

/* The thread has ended a step of the unit. Under the mutex. */
static void leave(struct crew_unit *u)
{
    u->polled_ms = clock_mono_ms();
    u->due_ms = u->next_ms;
    for (size_t i = 0; i < u->n; i++)
        look_after_listener(u->sources[i]);
    u->is_busy = false;
    pthread_cond_broadcast(&u->crew->changed);
}

static void *run_thread(void *arg)
{
    struct crew *crew = arg;
    struct thread_conn tc = { .conn = NULL };
    int64_t wait_ms;

    pthread_setname_np(pthread_self(), "reader");
    pthread_mutex_lock(&crew->mutex);
    while (!crew->is_stopping) {
        struct crew_unit *u = choose(crew, &wait_ms);
        struct err e = { .code = ERR_NONE };
        bool goes_on = true;

        if (u == NULL) {
            clock_wait_cond(&crew->changed, &crew->mutex, wait_ms);
            continue;
        }
        take(u);
        pthread_mutex_unlock(&crew->mutex);
        if (!do_step(u, &tc, &e)) {
            goes_on = handle_failure(u, &tc, &e);
        } else if (u->failures > 0) {
            u->failures = 0;
            notices_recovered(&u->sources[0]->sender, u->failing_since_ms);
        }
        pthread_mutex_lock(&crew->mutex);
        leave(u);
        if (!goes_on)
            break;
    }
    pthread_mutex_unlock(&crew->mutex);
    hang_up(&tc);
    return NULL;
}

/* How many threads there are to be. */
static size_t count_threads(const struct crew *crew)
{
    size_t n = crew->n_units < MAX_THREADS ? crew->n_units : MAX_THREADS;

    for (size_t i = 0; i < crew->n_units; i++)
        for (size_t k = 0; k < crew->units[i]->n; k++)
            if (crew->units[i]->sources[k]->config->connections < n)
                n = crew->units[i]->sources[k]->config->connections;
    return n;
}

bool crew_start(struct crew *crew, struct err *e)
{
    size_t n = count_threads(crew);

    while (crew->n_threads < n) {
        int rc = pthread_create(&crew->threads[crew->n_threads], NULL, run_thread, crew);

        if (rc != 0)
            return err_set(e, ERR_INTERNAL, "cannot start a thread: %s", strerror(rc));
        crew->n_threads++;
    }
    return true;
}

bool crew_restore(struct crew_source *s, const struct position *kept)
{
    bool ok;

    pthread_mutex_lock(&s->crew->mutex);
    ok = step_restore(s->step, kept);
    s->is_waiting = false;
    pthread_cond_broadcast(&s->crew->changed);
    pthread_mutex_unlock(&s->crew->mutex);
    return ok;
}

void crew_wake(struct crew *crew)
{
    pthread_mutex_lock(&crew->mutex);
    pthread_cond_broadcast(&crew->changed);
    pthread_mutex_unlock(&crew->mutex);
}

void crew_stop(struct crew *crew)
{
    set(crew, &crew->is_stopping);
}

static void free_unit(struct crew_unit *u)
{
    for (size_t i = 0; i < u->n; i++)
        free_source(u->sources[i]);
    unit_fini(&u->unit);
    free(u->sources);
    free(u);
}

void crew_free(struct crew *crew)
{
    for (size_t i = 0; i < crew->n_threads; i++)
        pthread_join(crew->threads[i], NULL);
    listener_free(crew->listener);
    pthread_cond_destroy(&crew->changed);
    pthread_mutex_destroy(&crew->mutex);
    for (size_t i = 0; i < crew->n_units; i++)
        free_unit(crew->units[i]);
    free(crew->units);
    free(crew);
}
