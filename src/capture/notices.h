/* notices.h -- what a source's reader says of its steps: failures, waits, polls.
 *
 * For the log, as notices, and in figures, see meter.h.
 * If there is no memory for a notice, it is lost.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NOTICES_H
#define NOTICES_H

#include "capture/load.h"
#include "capture/sender.h"
#include "pg/conn.h"

/* What is kept for the notices of one unit. */
struct notices {
    bool has_debug;         /* the log wants to know of every poll */
    struct sender *const *all; /* of the unit's sources, <n_all>; borrowed */
    size_t n_all;
    /* private: */
    int64_t began_ms;       /* when the step in hand began, by clock_mono_ms */
    bool is_slow;           /* in the step in hand the server was at work for long */
    bool was_slow;          /* so it was in the last step that was not skipped */
};

/* The step has failed, for the first time in a row at <since_ms>, at the source of <to>, and is
 * tried again after <wait_ms>; or one has succeeded, and those before it had failed. */
void notices_failed(const struct notices *n, struct sender *to, const struct err *e,
                    int64_t since_ms, int64_t wait_ms);
void notices_recovered(const struct notices *n, int64_t since_ms);

/* A step begins; it was skipped, since nothing has committed; or it ends, and has brought <n_rows>
 * rows. <is_range>: it was a range of the snapshot, not a poll. <how>: how a poll was read. */
void notices_begin_step(struct notices *n);
void notices_skip_step(const struct notices *n);
void notices_end_step(struct notices *n, bool is_range, uint64_t n_rows,
                      const char *how);

/* Polls, which would come every <interval_ms>, have been put off for a while. */
void notices_put_off(const struct notices *n, const struct load *load, int64_t interval_ms);

/* A long wait begins or ends. If the server is at work for long in every step, only the first step
 * says so. */
void notices_wait(struct notices *n, struct sender *to, const struct conn_wait *w);

#endif
