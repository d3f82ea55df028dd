/* outbox.h -- the messages of one step on their way to the queue.
 *
 * Keeps their order. The server never waits for a queue that is full: chunks that
 * find no room go to a spool file, and to the queue after the transaction.
 *
 * SPDX-License-Identifier: MIT */
#ifndef OUTBOX_H
#define OUTBOX_H

#include "capture/message.h"
#include "capture/spool.h"

struct outbox {
    struct queue *queue;        /* borrowed, as are the next two */
    struct queue_lane *lane;
    const char *spool_dir;
    bool is_held;               /* nothing goes to the queue before outbox_flush */
    struct queue_list kept;     /* in memory */
    size_t kept_bytes;
    struct spool *spool;        /* what came after these; NULL: nothing */
    struct message *like;       /* an empty message like those in the spool */
    struct message *last;       /* the one that ends the step, after those in the spool */
};

void outbox_init(struct outbox *o, struct queue *q, struct queue_lane *lane, const char *spool_dir,
                 bool is_held);

/* Takes <m>, also if it fails. Does not block. */
bool outbox_put(struct outbox *o, struct message *m, struct err *e) WARN_UNUSED;

/* Sends what was put and not sent yet. Blocks while the queue is full. */
bool outbox_flush(struct outbox *o, struct err *e) WARN_UNUSED;

/* Drops what is left. */
void outbox_fini(struct outbox *o);

#endif
