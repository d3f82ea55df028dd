/* crew_thread.c -- the threads of a crew: which unit is due, and who works on it.
 * SPDX-License-Identifier: MIT */
#include "capture/crew_thread.h"

#include "base/clock.h"
#include "capture/round.h"

#include <stdlib.h>
#include <string.h>

#define ANNOUNCED_MS 5     /* a poll for an announced commit waits so long after another */
#define SHORTEST_MS 100    /* a poll of a shorter interval is not made to wait for others */
#define EARLY_MS 100       /* so much earlier a poll may come to be one of a round, */
#define EARLY_PART 2       /* but not earlier than this part of its interval. (With half of it two
                            * groups of a short interval come together, whatever lies between.) */

/* ---- which unit is due ---- */

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

    if (u->is_wanted)
        return 0;
    return u->failures.n == 0 && soon < u->due_ms && is_announced(u) ? soon : u->due_ms;
}

/* True if a thread may take the unit's next step. (Where each source is looked at, one that failed
 * is finished before the others.) */
static bool is_free(const struct crew_unit *u)
{
    size_t n_finished = 0;

    if (u->is_paused && !u->crew->job.is_once)
        return false;
    for (size_t i = 0; i < u->n; i++) {
        struct crew_source *s = u->sources[i];

        n_finished += s->is_finished;
        if (u->is_busy || s->is_waiting || (s->is_finished && !u->crew->job.is_check))
            return false;
        if ((u->unit.is_joint || !step_is_in_snapshot(s->step)) && !s->followed.is_streaming &&
            !queue_lane_is_empty(u->crew->job.queue, &s->sender.lane))
            return false; /* until crew_steer_wake */
    }
    return n_finished < u->n;
}

/* The unit that is due the longest. NULL: none for *wait_ms, or (-1) until something changes. */
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

/* True if the unit may be one of a round, when it is free. */
static bool may_join(const struct crew_unit *u)
{
    const struct crew_job *job = &u->crew->job;

    return u->n == 1 && u->interval_ms >= SHORTEST_MS && u->failures.n == 0 && !u->is_alone &&
           !u->is_wanted && !wish_is_there(&u->sources[0]->wish) && !job->is_once &&
           !job->is_check && round_may_have(u->sources[0]->step);
}

/* Fills <units>, which has room for all of the crew, with <first> and those that can be asked for
 * in common with it (round.h): that are due by now, or nearly. Returns how many they are. */
static size_t gather(struct crew *crew, struct crew_unit *first, struct crew_unit **units)
{
    int64_t now = clock_mono_ms();
    size_t n = 0;

    units[n++] = first;
    for (size_t i = 0; may_join(first) && i < crew->n_units; i++) {
        struct crew_unit *u = crew->units[i];
        int64_t early = u->interval_ms / EARLY_PART;

        if (u != first && is_free(u) && may_join(u) &&
            u->due_ms <= now + (early < EARLY_MS ? early : EARLY_MS))
            units[n++] = u;
    }
    return n;
}

/* ---- the threads ---- */

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

/* A thread begins to work on the unit. Under the mutex. */
static void take(struct crew_unit *u)
{
    u->is_busy = true;
    u->is_wanted = false;
    for (size_t i = 0; i < u->n; i++) {
        wish_take(&u->sources[i]->wish);
        announced_begin_poll(&u->sources[i]->announced, u->crew->listener);
        followers_pause(&u->sources[i]->followed, u->sources[i]->step);
    }
}

/* The thread has ended a step of the unit. Under the mutex. */
static void leave(struct crew_unit *u)
{
    u->polled_ms = clock_mono_ms();
    u->due_ms = u->next_ms;
    for (size_t i = 0; i < u->n; i++) {
        look_after_listener(u->sources[i]);
        meter_set_due(&u->senders[i]->meter, u->due_ms,
                      load_stretch(&u->unit.load, u->interval_ms));
        followers_resume(&u->sources[i]->followed, u->sources[i]->step);
    }
    u->is_busy = false;
    pthread_cond_broadcast(&u->crew->changed);
}

static void *run_thread(void *arg)
{
    struct crew *crew = arg;
    struct thread_conn tc = { .conn = NULL };
    struct crew_unit *one[1], **all = calloc(crew->n_units, sizeof *all);
    bool goes_on = true;
    int64_t wait_ms;

    pthread_setname_np(pthread_self(), "reader");
    pthread_mutex_lock(&crew->mutex);
    while (goes_on && !crew->is_stopping) {
        struct crew_unit *u = choose(crew, &wait_ms), **units = all != NULL ? all : one;
        size_t n;

        if (u == NULL) {
            clock_wait_cond(&crew->changed, &crew->mutex, wait_ms);
            continue;
        }
        one[0] = u;
        n = all != NULL ? gather(crew, u, all) : 1;
        for (size_t i = 0; i < n; i++)
            take(units[i]);
        pthread_mutex_unlock(&crew->mutex);
        goes_on = n > 1 ? crew_round(units, n, &tc) : crew_step(u, &tc);
        pthread_mutex_lock(&crew->mutex);
        for (size_t i = 0; i < n; i++)
            leave(units[i]);
    }
    pthread_mutex_unlock(&crew->mutex);
    thread_conn_close(&tc);
    free(all);
    return NULL;
}

/* How many threads there are to be. */
static size_t count_threads(const struct crew *crew)
{
    size_t n = crew->n_units < CREW_THREADS ? crew->n_units : CREW_THREADS;

    for (size_t i = 0; i < crew->n_units; i++)
        for (size_t k = 0; k < crew->units[i]->n; k++)
            if (crew->units[i]->sources[k]->config->connections < n)
                n = crew->units[i]->sources[k]->config->connections;
    return n;
}

bool crew_thread_start(struct crew *crew, struct err *e)
{
    size_t n = count_threads(crew);

    while (crew->n_threads < n) {
        int rc = pthread_create(&crew->threads[crew->n_threads], NULL, run_thread, crew);

        if (rc != 0)
            return err_set(e, ERR_INTERNAL, "cannot start a thread: %s", strerror(rc));
        crew->n_threads++;
    }
    return crew->job.is_check || followers_start(&crew->followers, e);
}
