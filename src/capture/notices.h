/* notices.h -- what a source's reader says for the log: failures, waits, polls.
 *
 * If there is no memory for a notice, it is lost.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NOTICES_H
#define NOTICES_H

#include "capture/sender.h"
#include "pg/conn.h"

/* What is kept for the notices of one unit. */
struct notices {
    bool has_debug;         /* the log wants to know of every poll */
    /* private: */
    int64_t began_ms;       /* when the step in hand began, by clock_mono_ms */
    bool is_slow;           /* in the step in hand the server was at work for long */
    bool was_slow;          /* so it was in the last step that was not skipped */
};

/* A step has succeeded; the steps before it had failed, the first of them at <since_ms>. */
void notices_recovered(struct sender *to, int64_t since_ms);

/* A step begins; it was skipped, since nothing has committed; or it ends, and has brought <n_rows>
 * rows. <is_range>: it was a range of the snapshot, not a poll. */
void notices_begin_step(struct notices *n);
void notices_skip_step(const struct notices *n, struct sender *to);
void notices_end_step(struct notices *n, struct sender *to, bool is_range, uint64_t n_rows);

/* A long wait begins or ends. If the server is at work for long in every step, only the first step
 * says so. */
void notices_wait(struct notices *n, struct sender *to, const struct conn_wait *w);

#endif
