/* crew.c -- the sources of one database, and their steps: reconnect, retry.
 * SPDX-License-Identifier: MIT */
#include "capture/crew.h"

#include "base/array.h"
#include "capture/round.h"

#include <stdlib.h>
#include <string.h>

#define ANSWER_MS 5000         /* a transaction waits no longer for the host's answer */

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
    if (u == NULL || !load_join(&crew->load, &u->unit.load) ||
        !ARRAY_PUSH(crew->units, crew->n_units, crew->cap_units, u)) {
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
    wish_fini(&s->wish);
    free(s);
}

/* The follower that reads the log for it is at its end with a source; under the mutex. */
static void end_following(void *arg, const struct err *e)
{
    struct crew_source *s = arg;

    if (!s->is_finished) /* else a step of it has failed meanwhile */
        sender_last(&s->sender, e != NULL ? MESSAGE_FAULT : MESSAGE_DONE, e);
    s->is_finished = true;
}

/* The log does not bring what it should: a step is to look why; under the mutex. */
static void look_at_source(void *arg)
{
    struct crew_source *s = arg;

    s->unit->next_ms = s->unit->due_ms = 0;
}

static bool follow(struct crew_source *s)
{
    const struct crew_job *job = &s->crew->job;
    const struct follower_job follower = {
        .queue = job->queue, .stop_fd = job->stop_fd, .is_once = job->is_once,
        .mutex = &s->crew->mutex, .changed = &s->crew->changed,
        .finish = end_following, .look = look_at_source,
    };

    return followers_add(&s->crew->followers, &follower, s->config, &s->sender, s, &s->followed);
}

struct crew_source *crew_add(struct crew *crew, const struct config *config, size_t number)
{
    struct crew_source *s = calloc(1, sizeof *s);
    struct crew_unit *u = s != NULL ? find_unit(crew, config) : NULL;

    if (u == NULL || !ARRAY_RESERVE(u->senders, u->n, u->cap_senders, 1) ||
        !ARRAY_PUSH(u->sources, u->n, u->cap, s)) {
        free(s);
        return NULL;
    }
    u->senders[u->n - 1] = &s->sender;
    u->notices.all = u->senders;
    u->notices.n_all = u->n;
    s->number = number;
    s->config = config;
    s->crew = crew;
    s->unit = u;
    s->step = step_new(config, number);
    if (s->step == NULL || !sender_init(&s->sender, crew->job.queue, number) ||
        !unit_add(&u->unit, s->step, config->is_joint) || !follow(s))
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

/* Sends the last message of a source, unless the log's thread has done so. */
static void finish(struct crew_source *s, enum message_kind kind, const struct err *e)
{
    bool is_last;

    pthread_mutex_lock(&s->crew->mutex);
    is_last = !s->is_finished;
    s->is_finished = true;
    pthread_cond_broadcast(&s->crew->changed);
    pthread_mutex_unlock(&s->crew->mutex);
    if (is_last)
        sender_last(&s->sender, kind, e);
}

/* --once is over for the unit. Returns true. */
static bool finish_all(struct crew_unit *u)
{
    for (size_t i = 0; i < u->n; i++)
        finish(u->sources[i], MESSAGE_DONE, NULL);
    return true;
}

/* Gives a tally to the host and waits for its answer. */
static bool ask_host(struct crew_source *s, struct message *m, struct err *e)
{
    struct crew *crew = s->crew;
    bool is_answered;

    set(crew, &s->answer.is_awaited);
    sender_send(&s->sender, m);
    pthread_mutex_lock(&crew->mutex);
    is_answered = answer_wait(&s->answer, &crew->mutex, &crew->changed, ANSWER_MS,
                              &crew->is_stopping);
    pthread_mutex_unlock(&crew->mutex);
    return step_answer(s->step, is_answered, s->answer.asks_back ? &s->answer.asked : NULL, e);
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

/* The step has failed with <e>: aborts it, hangs up, and sends what counts as delivered. */
static void give_up_step(struct crew_unit *u, struct thread_conn *tc, struct err *e)
{
    struct crew_source *s = source_in_turn(u);
    bool was_held = step_is_held(s->step);
    struct err later;

    unit_abort(&u->unit, tc->conn);
    step_name_bad_column(s->step, tc->conn, e);
    /* the transaction may be in a COPY and cannot be ended: it must not wait for the host */
    thread_conn_close(tc);
    /* what a poll has handed out counts as delivered, so it must reach the host */
    if (!was_held && !sender_flush_rows(&s->sender, &later) && e->code != ERR_STATE)
        *e = later;
}

/* The step has begun: what it brings. */
static bool end_step(struct crew_unit *u, struct thread_conn *tc, uint64_t *n_rows, struct err *e)
{
    bool was_in_snapshot = step_is_in_snapshot(u->sources[0]->step), ok;

    for (size_t i = 0; i < u->n; i++)
        sender_open(u->senders[i], u->crew->job.spool_dir, OUTBOX_BYTES / u->n,
                    step_is_held(u->sources[i]->step));
    ok = read_step(u, tc->conn, n_rows, e);
    if (!ok)
        give_up_step(u, tc, e);
    else
        ok = sender_flush_all(u->senders, u->n, e);
    for (size_t i = 0; i < u->n; i++) {
        sender_close(u->senders[i]);
        meter_add_scanned(&u->senders[i]->meter, step_take_lines(u->sources[i]->step));
    }
    if (ok)
        notices_end_step(&u->notices, was_in_snapshot, *n_rows, unit_figures(&u->unit));
    u->failures.has_worked = u->failures.has_worked || ok;
    return ok;
}

static bool poll_step(struct crew_unit *u, struct thread_conn *tc, uint64_t *n_rows,
                      struct err *e)
{
    enum unit_found found;

    notices_begin_step(&u->notices);
    if (!unit_begin(&u->unit, tc->conn, &found, e)) {
        unit_abort(&u->unit, tc->conn);
        return false;
    }
    if (found == UNIT_BEGUN)
        return end_step(u, tc, n_rows, e);
    notices_skip_step(&u->notices, found == UNIT_QUIET);
    return true;
}

/* Resolves those sources of the unit that are not resolved yet. *is_done: there was none. */
static bool resolve_all(struct crew_unit *u, struct conn *conn, bool *is_done, struct err *e)
{
    *is_done = true;
    for (u->unit.turn = 0; u->unit.turn < u->n; u->unit.turn++) {
        struct crew_source *s = source_in_turn(u);
        struct message *m;

        if (s->is_finished || step_is_resolved(s->step))
            continue;
        *is_done = false;
        if (!step_resolve(s->step, conn, &m, e))
            return false;
        set(s->crew, &s->is_waiting); /* before the host can answer */
        sender_send(&s->sender, m);
    }
    if (!*is_done)
        unit_start(&u->unit);
    return true;
}

static bool check_all(struct crew_unit *u, struct conn *conn, struct err *e)
{
    for (u->unit.turn = 0; u->unit.turn < u->n; u->unit.turn++) {
        struct crew_source *s = source_in_turn(u);
        struct message *m;

        if (s->is_finished)
            continue;
        if (!step_check(s->step, conn, &m, e))
            return false;
        set(s->crew, &s->is_finished);
        sender_send(&s->sender, m);
    }
    return true;
}

/* For conn_watch. */
static void on_wait(void *arg, const struct conn_wait *w)
{
    struct crew_unit *u = arg;

    notices_wait(&u->notices, &source_in_turn(u)->sender, w);
}

/* A poll is complete: the next one is put off, if scans would take too much of the time. */
static void put_off(struct crew_unit *u)
{
    struct crew *crew = u->crew;
    struct load load;
    bool is_news;

    pthread_mutex_lock(&crew->mutex);
    unit_put_off(&u->unit, &crew->load, u->interval_ms, &u->next_ms);
    load = u->unit.load;
    is_news = load_is_news(&load, &crew->load, clock_mono_ms());
    pthread_mutex_unlock(&crew->mutex);
    if (is_news)
        notices_put_off(&u->notices, &load, u->interval_ms);
}

/* A poll is complete: when the next one is due. <next_ms> is when this one was. */
static void plan_next(struct crew_unit *u, bool had_rows)
{
    u->interval_ms = config_next_interval(u->sources[0]->config, u->interval_ms, had_rows);
    u->next_ms = unit_due_ms(&u->unit, u->next_ms + u->interval_ms);
    put_off(u);
    u->next_ms = wish_end_poll(&u->turns, &u->unit, u->next_ms);
}

/* Does what is due for the unit. The connection is opened on demand. */
static bool do_step(struct crew_unit *u, struct thread_conn *tc, struct err *e)
{
    const struct crew_job *job = &u->crew->job;
    uint64_t n_rows = 0;
    bool is_resolved, is_reread, was_asked = u->is_alone;

    u->unit.turn = 0;
    u->is_alone = false;
    if (!thread_conn_open(tc, u->sources[0]->config->conninfo, job->stop_fd,
                          &u->senders[0]->meter, e))
        return false;
    conn_watch(tc->conn, on_wait, u);
    if (!resolve_all(u, tc->conn, &is_resolved, e))
        return false;
    if (!is_resolved)
        return true;
    if (job->is_check)
        return check_all(u, tc->conn, e);
    u->next_ms = was_asked ? u->due_ms : clock_mono_ms(); /* so it is one of the next round, too */
    if (job->is_once && u->is_paused)
        return finish_all(u);
    for (size_t i = 0; i < u->n; i++)
        wish_give(&u->sources[i]->wish, u->sources[i]->step, u->senders[i]);
    is_reread = wish_choose(&u->turns, &u->unit);
    if (!poll_step(u, tc, &n_rows, e))
        return false;
    if (is_reread) {
        if (!job->is_once) /* else a poll follows, or the next range, at once */
            u->next_ms = wish_end_range(&u->turns, &u->unit, u->next_ms);
        return true;
    }
    if (!unit_is_complete(&u->unit))
        return true; /* due again at once */
    plan_next(u, n_rows > 0);
    return !job->is_once || u->next_ms == 0 || step_is_streaming(u->sources[0]->step) ||
           finish_all(u);
}

/* False if the thread should end. */
static bool handle_failure(struct crew_unit *u, struct thread_conn *tc, const struct err *e)
{
    bool is_brief = u->crew->job.is_once || u->crew->job.is_check;
    int64_t wait_ms;

    thread_conn_close(tc);
    if (sqlstate_action(e, u->failures.has_worked) == SQLSTATE_STOP)
        return false;
    if (wish_drop(&u->turns, &u->unit, u->senders, e)) {
        u->next_ms = 0;
        return true;
    }
    if (!failures_add(&u->failures, e, is_brief, &wait_ms)) {
        finish(source_in_turn(u), MESSAGE_FAULT, e);
        return true;
    }
    for (size_t i = 0; e->code == ERR_BEHIND && u->failures.is_impatient && i < u->n; i++)
        step_stop_waiting(u->sources[i]->step);
    u->next_ms = clock_mono_ms() + wait_ms;
    notices_failed(&u->notices, &source_in_turn(u)->sender, e, u->failures.since_ms, wait_ms);
    return true;
}

bool crew_step(struct crew_unit *u, struct thread_conn *tc)
{
    struct err e = { .code = ERR_NONE };

    if (!do_step(u, tc, &e))
        return handle_failure(u, tc, &e);
    if (u->failures.n > 0) {
        u->failures.n = 0;
        notices_recovered(&u->notices, u->failures.since_ms);
    }
    return true;
}

/* ---- a round ---- */

/* What a round that began at <began_ms> has found of one of its units. False if the thread should
 * end. */
static bool end_round(struct crew_unit *u, enum round_found found, int64_t began_ms,
                      struct thread_conn *tc)
{
    uint64_t n_rows = 0;
    struct err e;

    u->next_ms = began_ms;
    u->is_alone = found == ROUND_POLLS;
    if (u->is_alone)
        return true; /* due at once */
    notices_begin_step(&u->notices);
    unit_take_round(&u->unit, found == ROUND_MOVES);
    if (found != ROUND_MOVES)
        notices_skip_step(&u->notices, found == ROUND_QUIET);
    else if (!end_step(u, tc, &n_rows, &e))
        return handle_failure(u, tc, &e);
    plan_next(u, false);
    return true;
}

bool crew_round(struct crew_unit *const *units, size_t n, struct thread_conn *tc)
{
    struct step **steps = calloc(n, sizeof(struct step *));
    enum round_found *found = calloc(n, sizeof *found); /* ROUND_POLLS */
    struct err e = { .code = ERR_NONE };
    bool ok = steps != NULL && found != NULL, goes_on = true;
    int64_t began_ms = clock_mono_ms();
    size_t at = 0;

    for (size_t i = 0; ok && i < n; i++)
        steps[i] = units[i]->sources[0]->step;
    ok = ok && thread_conn_open(tc, units[0]->sources[0]->config->conninfo,
                                units[0]->crew->job.stop_fd, &units[0]->senders[0]->meter, &e);
    if (ok)
        conn_watch(tc->conn, on_wait, units[0]);
    ok = ok && round_ask(steps, n, tc->conn, found, &at, &e);
    if (!ok)
        thread_conn_close(tc);
    for (size_t i = 0; i < n; i++) {
        if (!ok && i == at && e.code == ERR_INTERNAL)
            goes_on = handle_failure(units[i], tc, &e) && goes_on;
        else
            goes_on = end_round(units[i], found != NULL ? found[i] : ROUND_POLLS, began_ms, tc) &&
                      goes_on;
    }
    free(steps);
    free(found);
    return goes_on;
}

/* ---- the crew ---- */

void crew_stop(struct crew *crew)
{
    pthread_mutex_lock(&crew->mutex);
    followers_stop(&crew->followers);
    pthread_mutex_unlock(&crew->mutex);
    set(crew, &crew->is_stopping);
}

static void free_unit(struct crew_unit *u)
{
    for (size_t i = 0; i < u->n; i++)
        free_source(u->sources[i]);
    unit_fini(&u->unit);
    free(u->sources);
    free(u->senders);
    free(u);
}

void crew_free(struct crew *crew)
{
    for (size_t i = 0; i < crew->n_threads; i++)
        pthread_join(crew->threads[i], NULL);
    followers_free(&crew->followers);
    listener_free(crew->listener);
    pthread_cond_destroy(&crew->changed);
    pthread_mutex_destroy(&crew->mutex);
    for (size_t i = 0; i < crew->n_units; i++)
        free_unit(crew->units[i]);
    free(crew->units);
    load_fini(&crew->load);
    free(crew);
}
