/* answer.c -- a reader's question to the host, and its answer.
 * SPDX-License-Identifier: MIT */
#include "capture/answer.h"

#include "base/clock.h"

bool answer_wait(struct answer *a, pthread_mutex_t *mutex, pthread_cond_t *changed, int64_t wait_ms,
                 const bool *is_stopping)
{
    int64_t until = clock_mono_ms() + wait_ms, left;
    bool is_given;

    while (a->is_awaited && !*is_stopping && (left = until - clock_mono_ms()) > 0)
        clock_wait_cond(changed, mutex, left);
    is_given = !a->is_awaited;
    a->is_awaited = false;
    return is_given;
}

bool answer_give(struct answer *a, const struct tally_request *asked)
{
    bool is_awaited = a->is_awaited;

    a->is_awaited = false;
    if ((a->asks_back = is_awaited && asked != NULL))
        a->asked = *asked;
    return is_awaited;
}
