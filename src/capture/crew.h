/* crew.h -- the sources of one database, and their steps: reconnect, retry.
 *
 * A thread (crew_thread.h) runs straight-line blocking code and pushes what it finds into the
 * queue. pg/sqlstate.h decides what an error means (retry, give up); the crew does what follows
 * from it.
 *
 * A unit never has two polls in flight: the next one waits until the host
 * is done with all chunks of the last. Ranges of a snapshot follow each
 * other while the queue has room.
 *
 * SPDX-License-Identifier: MIT */
#ifndef CREW_H
#define CREW_H

#include "capture/announced.h"
#include "capture/answer.h"
#include "capture/failures.h"
#include "capture/followers.h"
#include "capture/notices.h"
#include "capture/thread_conn.h"
#include "capture/unit.h"
#include "capture/wish.h"

#include <pthread.h>

#define CREW_THREADS 8 /* as many as any source may ask for */

struct crew;
struct crew_source;

/* All borrowed. */
struct crew_job {
    struct queue *queue;
    const char *spool_dir; /* where spool files go */
    int stop_fd;           /* readable: everything is to end soon */
    bool is_once;          /* until each source has finished its snapshot and polled once */
    bool is_check;         /* look at each table, read nothing */
    bool has_debug;        /* the log wants to know of every poll */
};

/* Returns owned, or NULL: out of memory. */
struct crew *crew_new(const struct crew_job *job);

/* Adds a source, before crew_thread_start. <config> is borrowed until crew_free. Returns what the
 * crew owns, or NULL: out of memory. */
struct crew_source *crew_add(struct crew *crew, const struct config *config, size_t number);

/* Makes every thread end soon. */
void crew_stop(struct crew *crew);

/* Waits for the threads. */
void crew_free(struct crew *crew);

/* ---- what it consists of: for the files of the crew only ---- */

struct crew_source {
    size_t number;
    const struct config *config;
    struct step *step;
    struct sender sender;
    struct crew *crew;
    /* under the crew's mutex: */
    bool is_waiting;       /* the source waits for crew_steer_restore */
    bool is_finished;      /* nothing more will be done for it */
    struct answer answer;  /* crew_steer_answer gives it */
    struct followers_source followed;
    struct wish wish;      /* partly */
    struct crew_unit *unit;
    struct announced announced;
};

/* The sources that a thread works on at a time, see unit.h. */
struct crew_unit {
    struct unit unit;
    struct crew_source **sources; /* as in <unit> */
    struct sender **senders;      /* those of the sources */
    size_t n, cap, cap_senders;
    struct crew *crew;
    /* under the crew's mutex: */
    bool is_busy;          /* a thread works on it */
    bool is_paused;        /* no step is begun */
    bool is_wanted;        /* somebody has asked for a poll, which is due at once */
    bool is_alone;         /* the next step is its own: a round has found that it must poll */
    int64_t due_ms, polled_ms; /* when the next step is due, and when the last one ended */
    /* used by the thread that works on it; while none does, by any that holds the mutex: */
    int64_t next_ms;       /* due_ms once the step has ended */
    struct wish_turns turns;
    int64_t interval_ms;
    struct failures failures; /* of steps */
    struct notices notices;
};

struct crew {
    struct crew_job job;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct crew_unit **units;
    size_t n_units, cap_units;
    pthread_t threads[CREW_THREADS];
    size_t n_threads;
    struct listener *listener; /* made when a source wants one */
    struct followers followers;
    struct load_all load; /* under the mutex, once the threads run */
    bool is_stopping;
};

/* ---- steps, for crew_thread.c: without the mutex. False: the thread should end ---- */

/* Does what is due for the unit, on demand by a new connection. */
bool crew_step(struct crew_unit *u, struct thread_conn *tc);

/* Asks for <n> units in common (round.h), and ends the steps of those that need no more. The others
 * are due at once, alone. */
bool crew_round(struct crew_unit *const *units, size_t n, struct thread_conn *tc);

#endif
