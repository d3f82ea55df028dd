/* outbox.h -- the chunks of one step on their way to the queue.
 *
 * Keeps their order, and never lets a full queue hold up the server: what
 * finds no room goes to a spool file, and follows when the transaction is over.
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
    struct message *like;         /* an empty chunk like those in the spool */
    struct message *last;         /* the one that ends the step, after those in the spool */
};

void outbox_init(struct outbox *o, struct queue *q, struct queue_lane *lane, const char *spool_dir,
                 bool is_held);

/* Takes <b>, in any case. Does not block. */
bool outbox_put(struct outbox *o, struct message *b, struct err *e) WARN_UNUSED;

/* Sends what was put and is not sent yet. Blocks while the queue is full. */
bool outbox_flush(struct outbox *o, struct err *e) WARN_UNUSED;

/* Drops what is left. */
void outbox_fini(struct outbox *o);

#endif
