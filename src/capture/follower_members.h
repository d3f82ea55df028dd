/* follower_members.h -- the sources whose log one follower reads.
 *
 * SPDX-License-Identifier: MIT */
#ifndef FOLLOWER_MEMBERS_H
#define FOLLOWER_MEMBERS_H

#include "capture/sender.h"
#include "capture/slot_claims.h"
#include "capture/source.h"

struct follower_members_item {
    struct sender *sender; /* borrowed, as is <arg> */
    void *arg;             /* of follower_job.finish */
    struct source *source; /* it is attached; NULL: it is not */
    uint64_t target;       /* with --once: it is finished once it is there */
};

/* Zeroed is empty. */
struct follower_members {
    struct follower_members_item *v; /* owned */
    size_t n, cap;
};

/* False: out of memory. */
bool follower_members_add(struct follower_members *ms, struct sender *sender,
                          void *arg) WARN_UNUSED;

/* Whose source the message is about. */
struct follower_members_item *follower_members_of(struct follower_members *ms,
                                                 const struct message *m);

/* That of a source that is attached, or else of the first one. There is one. */
struct sender *follower_members_sender(const struct follower_members *ms);

/* True if a source is there, and all that were at the saved positions: else what one of them brings
 * would come before what another one has to read again. False also while a step of one is to read
 * a partition first. */
bool follower_members_are_there(const struct follower_members *ms,
                                const struct slot_claims *claims);

/* Calls <look> for those of which a range waits to be read again (reread_log.h), and need not any
 * more. */
void follower_members_let_reread(struct follower_members *ms, void (*look)(void *arg));

/* True if all are where the log ended when it was looked at. *is_due: a step of one is to read
 * partitions; *is_reread: one has ranges to read again. */
bool follower_members_are_at_target(const struct follower_members *ms, bool *is_due,
                                    bool *is_reread);

#endif
