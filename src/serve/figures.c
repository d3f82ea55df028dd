/* figures.c -- the state of the running program, as others may see it.
 * SPDX-License-Identifier: MIT */
#include "serve/figures.h"

#include "base/clock.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct figures_board {
    const char *version, *script;
    struct beat *beat;
    int64_t began_us;
    pthread_mutex_t mutex;  /* of all that follows */
    struct figures newest;
    bool has_newest;
    figures_refresh *refresh;
    void *refresh_arg;
    uint64_t turns;         /* that were seen last, */
    int64_t turned_ms;      /* at this time */
    int work;
    size_t work_source;
    int64_t worked_ms;      /* when that work was first seen */
};

void figures_fini(struct figures *f)
{
    free(f->sources);
    script_figures_unref(f->script_half);
    f->sources = NULL;
    f->script_half = NULL;
    f->n_sources = 0;
}

double figures_lag(const struct figures_source *s, int64_t now_us, int64_t now_ms)
{
    double unsaved = s->unsaved_us != 0 ? (double)(now_us - s->unsaved_us) / 1e6 : 0;
    double overdue = s->meter.due_ms != 0 ? (double)(now_ms - s->meter.due_ms) / 1000 : 0;

    if (s->phase == FIGURES_DONE)
        overdue = 0;
    if (s->meter.failing_since_ms != 0 &&
        (double)(now_ms - s->meter.failing_since_ms) / 1000 > overdue)
        overdue = (double)(now_ms - s->meter.failing_since_ms) / 1000;
    if (unsaved > overdue)
        return unsaved;
    return overdue > 0 ? overdue : 0;
}

/* ---- the board ---- */

struct figures_board *figures_board_new(const char *version, const char *script,
                                        struct beat *beat)
{
    struct figures_board *b = calloc(1, sizeof *b);

    if (b == NULL)
        return NULL;
    b->version = version;
    b->script = script;
    b->beat = beat;
    b->began_us = clock_wall_us();
    b->turned_ms = b->worked_ms = clock_mono_ms();
    pthread_mutex_init(&b->mutex, NULL);
    return b;
}

void figures_board_free(struct figures_board *b)
{
    if (b == NULL)
        return;
    figures_fini(&b->newest);
    pthread_mutex_destroy(&b->mutex);
    free(b);
}

void figures_set_refresh(struct figures_board *b, figures_refresh *refresh, void *arg)
{
    pthread_mutex_lock(&b->mutex);
    b->refresh = refresh;
    b->refresh_arg = arg;
    pthread_mutex_unlock(&b->mutex);
}

void figures_publish(struct figures_board *b, struct figures *f)
{
    struct figures before;

    f->at_us = clock_wall_us();
    pthread_mutex_lock(&b->mutex);
    before = b->newest;
    if (f->script_half == NULL) /* it is asked for less often */
        f->script_half = script_figures_ref(before.script_half);
    b->newest = *f;
    b->has_newest = true;
    pthread_mutex_unlock(&b->mutex);
    figures_fini(&before);
    f->sources = NULL;
    f->script_half = NULL;
}

/* How much memory the program takes. */
static uint64_t read_resident(void)
{
    unsigned long long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");

    if (f == NULL)
        return 0;
    if (fscanf(f, "%*s %llu", &pages) != 1)
        pages = 0;
    fclose(f);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Under the mutex. */
static bool copy_newest(struct figures_board *b, struct figures *to)
{
    size_t bytes = (b->newest.n_sources + 1) * sizeof *b->newest.sources;

    *to = b->newest;
    to->sources = malloc(bytes);
    if (to->sources == NULL) {
        to->script_half = NULL;
        to->n_sources = 0;
        return false;
    }
    if (b->newest.sources != NULL)
        memcpy(to->sources, b->newest.sources, b->newest.n_sources * sizeof *to->sources);
    script_figures_ref(to->script_half);
    return true;
}

bool figures_copy(struct figures_board *b, struct figures *to)
{
    int64_t now = clock_mono_ms();
    bool ok;

    pthread_mutex_lock(&b->mutex);
    ok = b->has_newest && copy_newest(b, to);
    if (ok && b->refresh != NULL)
        b->refresh(b->refresh_arg, to);
    if (ok) {
        to->version = b->version;
        to->script = b->script;
        to->began_us = b->began_us;
        to->work = b->work;
        to->work_source = b->work_source;
        to->work_ms = now - b->worked_ms;
        to->turned_ms = now - b->turned_ms;
    }
    pthread_mutex_unlock(&b->mutex);
    if (ok)
        to->resident_bytes = read_resident();
    return ok;
}

int64_t figures_watch(struct figures_board *b)
{
    uint64_t turns = atomic_load_explicit(&b->beat->turns, memory_order_relaxed);
    int work = atomic_load_explicit(&b->beat->work, memory_order_relaxed);
    size_t source = atomic_load_explicit(&b->beat->source, memory_order_relaxed);
    bool is_served = atomic_load_explicit(&b->beat->is_served, memory_order_relaxed);
    int64_t now = clock_mono_ms(), ago;

    pthread_mutex_lock(&b->mutex);
    if (turns != b->turns || is_served)
        b->turned_ms = now;
    if (turns != b->turns || work != b->work || source != b->work_source)
        b->worked_ms = now;
    b->turns = turns;
    b->work = work;
    b->work_source = source;
    ago = now - b->turned_ms;
    pthread_mutex_unlock(&b->mutex);
    return ago;
}

void figures_ask(struct figures_board *b)
{
    atomic_store_explicit(&b->beat->is_asked, true, memory_order_relaxed);
}
