/* quiet.h -- whether statistics counters that stand still may stand in for a scan.
 *
 * Pure functions, no I/O; counters.h asks the server. The server counts the rows of each table that
 * were inserted, updated and deleted, and anybody may ask for these counts. A session reports what
 * it has done late: after a second, or ten; or, in the middle of a transaction or on Postgres 14,
 * never. So what they promise is little, and what is done with them is as little:
 *
 *     A poll is left out if the sum of the counts is what it was before the last scan, and that
 *     began less than <most_ms> ago. It is left out: nothing moves. The floor, what was seen, the
 *     text of the last snapshot, notes of hints stay what the last scan has made of them.
 *
 * So nothing is lost: the next scan asks for all that is new since the last one, just as if no poll
 * had been due meanwhile. It comes at most <most_ms> late. (If the floor moved up to a snapshot
 * that was not scanned, rows whose writer had not reported yet would be below it for ever.)
 *
 * The sum is asked for before the scan's snapshot is taken: what was counted since makes another
 * scan, at worst one too many. A reset, a crash or another server may bring an old sum back, so
 * all of them end in a scan.
 *
 * SPDX-License-Identifier: MIT */
#ifndef QUIET_H
#define QUIET_H

#include "base/warn.h"

#include <stdbool.h>
#include <stdint.h>

/* What the server has told at one time. Zeroed: nothing. */
struct quiet_counters {
    bool is_known;
    uint64_t sum;   /* of all leaves */
    char reset[48]; /* when the counters of the database were reset last */
    int64_t at_ms;  /* not after it was asked, by clock_mono_ms */
};

/* Of one source. Zeroed: the next poll scans. */
struct quiet {
    struct quiet_counters asked;   /* before the step in hand, or the last one */
    struct quiet_counters scanned; /* before the last scan */
    bool is_used;    /* the step in hand is left out */
    const char *why; /* counters cannot stand in for a scan, because of this; NULL: they can */
};

/* True if the poll may be left out. <now_ms>: by clock_mono_ms. */
bool quiet_holds(const struct quiet *q, int64_t most_ms, int64_t now_ms);

/* True if the floor may rise though the step in hand has read nothing: not if it was left out. */
bool quiet_lets_rise(const struct quiet *q);

/* A scan is complete: what was asked before it is what the next poll compares with. */
void quiet_scanned(struct quiet *q);

#endif
