/* load.h -- how much of the time scans of a database take, and how far polls are put off for it.
 *
 * A unit's share is the time that its scans take, of its interval. Where the shares of a database's
 * units make more than <max_load>, there is a level such that those below it, whole, and those
 * above it, cut to it, make max_load. Units above it are polled less often: their interval counts
 * as interval * share / level. So all of them together take max_load of the time, and a small table
 * does not wait because of a big one.
 *
 *   10M rows, a scan takes 0.4 s, interval 1 s, max_load 0.1: a poll every 4 s
 *   the same, and ten tables of 100 rows: they are polled every second
 *   two such tables: a poll of each every 8 s
 *
 * What must not wait is not put off by this: first reads and polls, polls that ended early, commits
 * that were announced, what a user asks for.
 *
 * The time of a scan is that of its COPY, and of the COPYs that count keys. (Not that of the
 * transaction: to wait for a lock is no load.) Of the last two polls the shorter one counts: what a
 * single poll brings, a million rows after a bulk load, say, has to travel anyway, and the next
 * poll need not wait for it. A poll that found that nothing has committed takes no time; the poll
 * after it still keeps its distance from the last scan. The distance is from beginning to
 * beginning.
 *
 * No I/O; the crew calls it under its mutex.
 *
 * SPDX-License-Identifier: MIT */
#ifndef LOAD_H
#define LOAD_H

#include "base/warn.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How long the last two polls took, the newest first. */
struct load_times {
    int64_t us[2];
};

/* What is kept of a unit. Zeroed: it has not polled. */
struct load {
    struct load_times scan, census;
    double share;        /* its own; 0: it rests, or may take any */
    double sum;          /* that of all, when a poll was added last */
    double stretch;      /* by which its interval counts as longer; 0 is 1 */
    int64_t until_ms;    /* its next scan is not to begin before that; 0: at any time */
    unsigned n_far;      /* polls in a row that were put off far */
};

/* All units of a database. Zeroed is empty. */
struct load_all {
    struct load **v;     /* borrowed; the array is owned */
    size_t n, cap;
    int64_t told_ms;     /* when a user was told last; 0: never */
};

/* A poll that is complete. */
struct load_poll {
    double max_load;     /* 1: it is never put off, and does not count for others */
    int64_t interval_ms; /* from poll to poll */
    int64_t check_ms;    /* from census to census; 0: one in every poll that makes any */
    int64_t began_ms;    /* by clock_mono_ms */
    int64_t scan_us;     /* that its scan took; 0: it has read nothing */
    int64_t census_us;   /* that its census took; 0: it made none */
};

/* Adds a unit, <l>, borrowed. False: out of memory. */
bool load_join(struct load_all *all, struct load *l) WARN_UNUSED;
void load_fini(struct load_all *all);

/* Moves the times of <from> to <to>. */
void load_add_times(struct load_poll *to, struct load_poll *from);

/* Adds a poll. The next step is due at *due_ms, which becomes later if it is to be put off. */
void load_add(struct load *l, const struct load_all *all, const struct load_poll *poll,
              int64_t *due_ms);

/* The unit does not poll for now. */
void load_rest(struct load *l);

/* <interval_ms>, as long as it counts. */
int64_t load_stretch(const struct load *l, int64_t interval_ms);

/* True if a user is to be told now that the unit is put off far, and has been for some polls: at
 * most once an hour of all units. */
bool load_is_news(const struct load *l, struct load_all *all, int64_t now_ms);

#endif
