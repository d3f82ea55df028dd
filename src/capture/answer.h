/* answer.h -- a reader's question to the host, and its answer.
 *
 * The question is a MESSAGE_TALLY. All fields and functions are under the crew's mutex.
 *
 * SPDX-License-Identifier: MIT */
#ifndef ANSWER_H
#define ANSWER_H

#include "capture/tally.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* Zeroed: nothing was asked. */
struct answer {
    bool is_awaited;   /* a thread waits for it */
    bool asks_back;    /* the host wants keys: those of <asked> */
    struct tally_request asked;
};

/* Waits until the answer is there: true; or <wait_ms> have passed, or *is_stopping comes true. */
bool answer_wait(struct answer *a, pthread_mutex_t *mutex, pthread_cond_t *changed, int64_t wait_ms,
                 const bool *is_stopping);

/* The host's answer; <asked> (copied), or NULL. False if nobody waits for it any more. */
bool answer_give(struct answer *a, const struct tally_request *asked);

#endif
