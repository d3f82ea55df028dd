/* follower.h -- the thread that reads the log of a database for its logical sources.
 *
 * The crew's threads make the steps of these sources: first read, handing over, facts. While such a
 * step is under way, except of a first read, the follower is paused, between two batches. After it
 * the source is the follower's, if its changes come by the log from then on.
 *
 * The server keeps what we have not confirmed. That is never more than what the state file has: of
 * each source the LSN of its saved position (its claim), of all of them the least. Until all claims
 * are known nothing is confirmed.
 *
 * SPDX-License-Identifier: MIT */
#ifndef FOLLOWER_H
#define FOLLOWER_H

#include "capture/sender.h"
#include "capture/source.h"

#include <pthread.h>

struct follower;

/* All borrowed. */
struct follower_job {
    struct queue *queue;
    int stop_fd;
    bool is_once;
    pthread_mutex_t *mutex;   /* of the crew, as is <changed> */
    pthread_cond_t *changed;
    /* Called under the mutex: source <i> is at its end: of --once, or, <e>, by a fault. */
    void (*finish)(void *arg, const struct err *e);
    /* Likewise: a step is to look what is wrong with the slot. */
    void (*look)(void *arg);
};

/* Returns owned, or NULL: out of memory. */
struct follower *follower_new(const struct follower_job *job, const struct config *config);

/* Adds a source, before follower_start; *i: its number here. <arg>: of job.finish. False: out of
 * memory. */
bool follower_add(struct follower *f, const struct config *config, struct sender *sender, void *arg,
                  size_t *i) WARN_UNUSED;

/* True if a source with this config has the same slot. */
bool follower_is_of(const struct follower *f, const struct config *config);

bool follower_start(struct follower *f, struct err *e) WARN_UNUSED;

/* The thread is to end. Under the mutex. */
void follower_stop(struct follower *f);

/* Waits for the thread. NULL is legal. */
void follower_free(struct follower *f);

/* Under the mutex, as all that follow: the position of source <i> with which it begins; NULL: it
 * has none. */
void follower_restore(struct follower *f, size_t i, const struct logical *l);

/* The LSN of its position as it was saved; 0: it does not come by the log. */
void follower_claim(struct follower *f, size_t i, uint64_t lsn);

/* Waits until the follower is paused: it is, until follower_resume; for one source at a time, so
 * that no two of them make a slot at once, see follower_turns.h. Takes the source from it, and
 * tells that what it must know. Where nobody relies on the slot any more it is not in use then. */
void follower_pause(struct follower *f, size_t i, struct source *source);

/* <source>, or NULL: is the follower's from now on. */
void follower_resume(struct follower *f, size_t i, struct source *source);

#endif
