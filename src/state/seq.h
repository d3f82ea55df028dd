/* seq.h -- the number of a change, which only grows.
 *
 * One count for all sources of a state file: each number is greater than that
 * of every change that was ever delivered, whether it was saved or not. It is
 * the microseconds since 1970, or one more than the last one where that is
 * not greater. So it also grows where the state file was lost.
 *
 * A *ceiling* is saved before a change beyond it is delivered, and a start
 * goes on from there: the clock may have been set back meanwhile. It is a
 * second ahead of the clock at most, or near the last number, and after a clean
 * end it is that: if each start went far ahead of the clock, what is given
 * after the file was lost would be lower than what was delivered.
 *
 * SPDX-License-Identifier: MIT */
#ifndef SEQ_H
#define SEQ_H

#include "state/store.h"

#define SEQ_LIMIT ((uint64_t)1 << 53) /* what a double holds exactly */

struct seq {
    struct store *store; /* borrowed; NULL: nothing is kept */
    uint64_t last;       /* that was given, or may have been by an earlier run */
    uint64_t now_us;     /* when that was */
    uint64_t ceiling;    /* what is saved */
    uint64_t ahead;      /* how far after <last> the next one is, at least */
    uint64_t next;       /* what the open transaction saves; 0: nothing */
};

/* Goes on from what <store> keeps. */
bool seq_open(struct seq *s, struct store *store, struct err *e) WARN_UNUSED;

/* Numbers for <n> changes, at least one, that are delivered next: *first and those after it.
 * <now_us>: microseconds since 1970. What must be durable before that is. Not to be called while a
 * transaction of the store is open. */
bool seq_take(struct seq *s, uint64_t now_us, size_t n, uint64_t *first,
              struct err *e) WARN_UNUSED;

/* Saves a ceiling with other records, between store_begin and store_commit. Then: whether that
 * succeeded. */
bool seq_put(struct seq *s, struct err *e) WARN_UNUSED;
void seq_end(struct seq *s, bool is_saved);

/* The program ends in good order: the next start goes on from the last number. */
bool seq_finish(struct seq *s, struct err *e) WARN_UNUSED;

#endif
