/* seq.h -- the number of a change, which only grows.
 *
 * One count for all sources of a state file: each number is greater than that
 * of every change that was ever delivered, whether it was saved or not. It is
 * the microseconds since 1970, or one more than the last one where that is
 * not greater. So it also grows where the state file was lost.
 *
 * A *ceiling* is saved before a change beyond it is delivered, and a start
 * goes on from there: the clock may have been set back meanwhile. The ceiling
 * is at most a second ahead of the clock, or of the last number where that is
 * ahead of the clock; after a clean end it is the last number. (If each start
 * went further ahead, and then the file was lost, the numbers that the clock
 * gives would be lower than those that were delivered.)
 *
 * SPDX-License-Identifier: MIT */
#ifndef SEQ_H
#define SEQ_H

#include "state/store.h"

#define SEQ_LIMIT ((uint64_t)1 << 53) /* what a double holds exactly */

struct seq {
    struct store *store; /* borrowed; NULL: nothing is kept */
    uint64_t last;       /* the last number that was given, or may have been by an earlier run */
    uint64_t now_us;     /* when that was, by the wall clock; 0: none was given in this run */
    uint64_t ceiling;    /* the saved one */
    uint64_t ahead;      /* how far after <last> the next ceiling is, at least */
    uint64_t next;       /* the ceiling that the open transaction saves; 0: it saves none */
};

/* Goes on from what <store> keeps. */
bool seq_open(struct seq *s, struct store *store, struct err *e) WARN_UNUSED;

/* Numbers for <n> changes, at least one, that are delivered next: *first and those after it.
 * <now_us>: microseconds since 1970. Saves a ceiling first if the numbers need a higher one. Not to
 * be called while a transaction of the store is open. */
bool seq_take(struct seq *s, uint64_t now_us, size_t n, uint64_t *first,
              struct err *e) WARN_UNUSED;

/* seq_put saves a ceiling with other records, between store_begin and store_commit. seq_end must be
 * called when that is over; <is_saved>: whether it was committed. */
bool seq_put(struct seq *s, struct err *e) WARN_UNUSED;
void seq_end(struct seq *s, bool is_saved);

/* The program ends in good order: the next start goes on from the last number. */
bool seq_finish(struct seq *s, struct err *e) WARN_UNUSED;

#endif
