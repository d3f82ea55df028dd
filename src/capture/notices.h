/* notices.h -- what a source's reader says for the log: failures, waits, polls.
 *
 * Everything goes to the host as a message, which never waits for room in the queue. If there is
 * no memory for it, it is lost.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NOTICES_H
#define NOTICES_H

#include "capture/message.h"
#include "pg/conn.h"

struct notices {
    struct queue *queue;      /* borrowed, as is <lane> */
    struct queue_lane *lane;  /* of the source */
    size_t source;            /* its number */
    bool has_debug;           /* the log wants to know of every poll */
    /* private: */
    int64_t began_ms;         /* when the step in hand began */
    bool is_slow, was_slow;   /* this step, the last that read waited long for a server at work */
};

void notices_say(const struct notices *n, enum log_level level, const char *format, ...)
    WARN_PRINTF(3, 4);

/* A step failed, and is tried again in <retry_ms>. */
void notices_failed(const struct notices *n, const struct err *e, int64_t retry_ms);

/* A step has succeeded, after some that failed from <since_ms> on. */
void notices_recovered(const struct notices *n, int64_t since_ms);

/* A step begins. If it reads it ends with so many rows; <is_range>: of the snapshot. */
void notices_begin_step(struct notices *n);
void notices_end_step(struct notices *n, bool is_range, uint64_t n_rows);

/* For conn_watch; <arg> is a struct notices. A server that is at work for long in every poll is
 * told of in the first. */
void notices_wait(void *arg, const struct conn_wait *w);

#endif
