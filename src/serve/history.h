/* history.h -- how many changes each source has delivered in the last ten minutes.
 *
 * Belongs to one thread, which adds what it sees of the figures about once a second.
 *
 * SPDX-License-Identifier: MIT */
#ifndef HISTORY_H
#define HISTORY_H

#include "serve/figures.h"

#define HISTORY_SECONDS 5
#define HISTORY_STEPS 120

struct history_source {
    uint64_t steps[HISTORY_STEPS]; /* changes in each step, in a ring */
    uint64_t total;                /* all that were delivered when it was added to last */
};

/* Zeroed at birth. */
struct history {
    struct history_source *sources; /* owned */
    size_t n_sources;
    int64_t step;                   /* the number of the newest step; its place is step % STEPS */
    size_t n_steps;                 /* how many have begun, at most HISTORY_STEPS */
    int64_t began_ms;               /* of the first one */
    int64_t now_ms;                 /* when it was added to last */
};

/* Adds what was delivered until now. Without memory nothing is added. */
void history_add(struct history *h, const struct figures *f, int64_t now_ms);
void history_fini(struct history *h);

/* The changes in step <i> of those that there are, 0 being the oldest, n_steps - 1 the one that is
 * under way. */
uint64_t history_step(const struct history *h, size_t source, size_t i);

/* Changes a second, in the last five to ten seconds. */
double history_rate(const struct history *h, size_t source);

#endif
