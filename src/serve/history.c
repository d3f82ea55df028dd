/* history.c -- how many changes each source has delivered in the last ten minutes.
 * SPDX-License-Identifier: MIT */
#include "serve/history.h"

#include <stdlib.h>

static uint64_t total_of(const struct figures_source *s)
{
    uint64_t total = 0;

    for (int op = 0; op < OP_COUNT; op++)
        total += s->changes[op];
    return total;
}

static bool begin(struct history *h, const struct figures *f, int64_t now_ms)
{
    h->sources = calloc(f->n_sources + 1, sizeof *h->sources);
    if (h->sources == NULL)
        return false;
    h->n_sources = f->n_sources;
    h->began_ms = now_ms;
    h->n_steps = 1;
    return true;
}

void history_add(struct history *h, const struct figures *f, int64_t now_ms)
{
    if (h->sources == NULL && !begin(h, f, now_ms))
        return;
    h->now_ms = now_ms;
    while (h->step < (now_ms - h->began_ms) / (HISTORY_SECONDS * 1000)) {
        h->step++;
        h->n_steps += h->n_steps < HISTORY_STEPS;
        for (size_t i = 0; i < h->n_sources; i++)
            h->sources[i].steps[h->step % HISTORY_STEPS] = 0;
    }
    for (size_t i = 0; i < h->n_sources && i < f->n_sources; i++) {
        uint64_t total = total_of(&f->sources[i]);

        h->sources[i].steps[h->step % HISTORY_STEPS] += total - h->sources[i].total;
        h->sources[i].total = total;
    }
}

void history_fini(struct history *h)
{
    free(h->sources);
    *h = (struct history){ 0 };
}

uint64_t history_step(const struct history *h, size_t source, size_t i)
{
    int64_t step = h->step - (int64_t)h->n_steps + 1 + (int64_t)i;

    return source < h->n_sources ? h->sources[source].steps[step % HISTORY_STEPS] : 0;
}

double history_rate(const struct history *h, size_t source)
{
    int64_t in_step = h->now_ms - h->began_ms - h->step * HISTORY_SECONDS * 1000;
    uint64_t n;

    if (h->n_steps == 0)
        return 0;
    n = history_step(h, source, h->n_steps - 1);
    if (h->n_steps > 1) {
        n += history_step(h, source, h->n_steps - 2);
        in_step += HISTORY_SECONDS * 1000;
    }
    return (double)n / ((double)(in_step > 1000 ? in_step : 1000) / 1000);
}
