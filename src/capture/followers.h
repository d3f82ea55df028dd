/* followers.h -- the followers of a crew, and which of them a source has.
 *
 * One for each slot. Functions that take a struct followers_source do nothing for a source whose
 * changes do not come by the log.
 *
 * SPDX-License-Identifier: MIT */
#ifndef FOLLOWERS_H
#define FOLLOWERS_H

#include "capture/follower.h"
#include "capture/step.h"

/* Zeroed is empty. */
struct followers {
    struct follower **v; /* owned */
    size_t n, cap;
};

/* Of a source. Zeroed: it has none. */
struct followers_source {
    struct follower *follower; /* borrowed */
    size_t i;                  /* its number there */
    bool is_paused;
    bool is_streaming;         /* since its newest step its changes come by the log; false if there
                                * is no follower */
};

/* Finds or makes the follower of the source, if <config> says that it has one. False: out of
 * memory. */
bool followers_add(struct followers *fs, const struct follower_job *job,
                   const struct config *config, struct sender *sender, void *arg,
                   struct followers_source *followed) WARN_UNUSED;

bool followers_start(struct followers *fs, struct err *e) WARN_UNUSED;
void followers_stop(struct followers *fs); /* under the mutex */
void followers_free(struct followers *fs);

/* Under the mutex, before and after a step: see follower.h. */
void followers_pause(struct followers_source *f, struct step *step);
void followers_resume(struct followers_source *f, struct step *step);

/* Under the mutex: the position that is saved, see follower_claim. */
void followers_restore(struct followers_source *f, const struct logical *l);
void followers_claim(struct followers_source *f, uint64_t lsn);

#endif
