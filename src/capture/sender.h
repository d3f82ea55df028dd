/* sender.h -- messages of one source to the host.
 *
 * The one place that pushes news of a source; chunks go by an outbox (outbox.h), through the same
 * lane of the queue.
 *
 * SPDX-License-Identifier: MIT */
#ifndef SENDER_H
#define SENDER_H

#include "capture/message.h"

struct sender {
    struct queue *queue;     /* borrowed */
    size_t source;           /* its number */
    struct queue_lane lane;
    struct message *last;    /* DONE or FAULT, which the host waits for: allocated at first, so that
                              * it does not fail for want of memory; owned; NULL: it was sent */
};

/* False: out of memory. */
bool sender_init(struct sender *s, struct queue *queue, size_t source) WARN_UNUSED;
void sender_fini(struct sender *s);

/* Takes ownership of <m>; NULL is legal. Waits while the queue is full. */
void sender_send(struct sender *s, struct message *m);

/* <retry_ms>: as in struct message_notice. */
void sender_notice(struct sender *s, enum log_level level, const struct err *e, int64_t retry_ms);

/* Sends the last message: MESSAGE_DONE, or MESSAGE_FAULT with its error <e>. Once only. */
void sender_last(struct sender *s, enum message_kind kind, const struct err *e);

#endif
