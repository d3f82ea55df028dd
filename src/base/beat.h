/* beat.h -- shows others that a thread is at work, and at what.
 *
 * One thread writes, any thread reads. The writer takes no lock and asks no clock, so that it can
 * say so as often as it likes: whoever watches looks from time to time whether <turns> has grown.
 *
 * SPDX-License-Identifier: MIT */
#ifndef BEAT_H
#define BEAT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum beat_work {
    BEAT_STARTS,    /* it has not begun to turn */
    BEAT_WAITS,     /* nothing is to be done */
    BEAT_DELIVERS,  /* changes of a source, to handlers and operators */
    BEAT_SAVES,     /* sinks are flushed, and positions saved */
    BEAT_TIMERS,    /* timers of the script, and of operators */
    BEAT_STOPS,     /* the program is about to end, */
    BEAT_RELOADS,   /* or to be run anew */
};

/* Zeroed at birth. */
struct beat {
    _Atomic uint64_t turns;
    atomic_int work;       /* enum beat_work */
    atomic_size_t source;  /* of BEAT_DELIVERS and BEAT_SAVES: its number */
    atomic_bool is_served; /* it waits for a server or a file, with a limit of its own or for as
                            * long as that is at work: this is no standstill */
    atomic_bool is_asked;  /* set by who watches: it is to show what it has done so far */
};

/* The thread is at work. NULL is legal, as below: nobody watches. */
static inline void beat_turn(struct beat *b)
{
    if (b != NULL) /* one thread writes, so the sum need not be atomic */
        atomic_store_explicit(&b->turns,
                              atomic_load_explicit(&b->turns, memory_order_relaxed) + 1,
                              memory_order_relaxed);
}

/* What it does from now on. */
static inline void beat_set(struct beat *b, enum beat_work work, size_t source)
{
    if (b == NULL)
        return;
    atomic_store_explicit(&b->source, source, memory_order_relaxed);
    atomic_store_explicit(&b->work, (int)work, memory_order_relaxed);
    beat_turn(b);
}

/* True if who watches wants to see more than that it is at work. */
static inline bool beat_is_asked(const struct beat *b)
{
    return b != NULL && atomic_load_explicit(&b->is_asked, memory_order_relaxed);
}

/* It waits for a server or a file from now on, or not any more. */
static inline void beat_serve(struct beat *b, bool is_served)
{
    if (b == NULL)
        return;
    atomic_store_explicit(&b->is_served, is_served, memory_order_relaxed);
    beat_turn(b);
}

#endif
