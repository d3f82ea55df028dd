/* notices.h -- what a source's reader says for the log: failures, waits, polls.
 *
 * If there is no memory for a notice, it is lost.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NOTICES_H
#define NOTICES_H

#include "capture/sender.h"
#include "pg/conn.h"

/* Of what a thread works on at a time. */
struct notices {
    bool has_debug;         /* the log wants to know of every poll */
    /* private: */
    int64_t began_ms;       /* when the step in hand began */
    bool is_slow, was_slow; /* this step, the last that read waited long for a server at work */
};

/* A step has succeeded, after some that failed from <since_ms> on. */
void notices_recovered(struct sender *to, int64_t since_ms);

/* A step begins. It was skipped, or ends with so many rows; <is_range>: of the snapshot. */
void notices_begin_step(struct notices *n);
void notices_skip_step(const struct notices *n, struct sender *to);
void notices_end_step(struct notices *n, struct sender *to, bool is_range, uint64_t n_rows);

/* A long wait begins or ends. A server that is at work for long in every step is told of in the
 * first. */
void notices_wait(struct notices *n, struct sender *to, const struct conn_wait *w);

#endif
