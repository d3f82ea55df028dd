/* outbox.h -- the messages of one step on their way to the queue.
 *
 * Keeps their order. The server never waits for a queue that is full: chunks that
 * find no room go to a spool file, and on to the queue as soon as that has room, at the
 * latest after the transaction.
 *
 * SPDX-License-Identifier: MIT */
#ifndef OUTBOX_H
#define OUTBOX_H

#include "capture/message.h"
#include "capture/spool.h"

#define OUTBOX_BYTES ((size_t)6 << 20) /* of a held step, the usual <max_kept> */

struct outbox {
    struct queue *queue;        /* borrowed, as are the next two */
    struct queue_lane *lane;
    const char *spool_dir;
    size_t max_kept;            /* how many bytes stay in memory; what comes after them goes to the
                                 * spool */
    bool is_held;               /* nothing goes to the queue before outbox_flush */
    struct queue_list kept;     /* in memory */
    size_t kept_bytes;
    struct spool *spool;        /* chunks that came after those kept; owned; NULL: none */
    struct message *like;       /* an empty message like those in the spool; owned */
    struct message *next;       /* comes before those in the spool, where it was; owned */
    struct message *last;       /* ends the step; to be sent after those in the spool; owned */
};

void outbox_init(struct outbox *o, struct queue *q, struct queue_lane *lane, const char *spool_dir,
                 size_t max_kept, bool is_held);

/* Takes ownership of <m>, also if it fails. Does not wait for the queue. ERR_STOPPED: the queue was
 * closed; ERR_STATE: the spool cannot be written. */
bool outbox_put(struct outbox *o, struct message *m, struct err *e) WARN_UNUSED;

/* Sends what was put and not sent yet. Blocks while the queue is full. ERR_STOPPED: the queue was
 * closed. */
bool outbox_flush(struct outbox *o, struct err *e) WARN_UNUSED;

/* The same, except that messages after the last chunk stay. */
bool outbox_flush_chunks(struct outbox *o, struct err *e) WARN_UNUSED;

/* How many bytes wait in its spool. */
uint64_t outbox_spooled(const struct outbox *o);

/* Frees what was not sent. */
void outbox_fini(struct outbox *o);

#endif
