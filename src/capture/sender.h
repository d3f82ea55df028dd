/* sender.h -- messages of one source to the host.
 *
 * News goes to the queue at once. What a step brings goes through outboxes (outbox.h), which are
 * open while it lasts.
 *
 * SPDX-License-Identifier: MIT */
#ifndef SENDER_H
#define SENDER_H

#include "capture/meter.h"
#include "capture/outbox.h"

struct sender {
    struct queue *queue;     /* borrowed */
    size_t source;           /* its number */
    struct queue_lane lane;
    struct outbox rows, keys; /* while a step is under way: keys of its census go before its rows */
    struct message *last;    /* DONE or FAULT, which the host waits for: allocated at first, so that
                              * it does not fail for want of memory; owned; NULL: it was sent */
    struct meter meter;      /* what is done for the source, in figures */
};

/* False: out of memory. */
bool sender_init(struct sender *s, struct queue *queue, size_t source) WARN_UNUSED;
void sender_fini(struct sender *s);

/* Takes ownership of <m>; NULL is legal. Waits while the queue is full. */
void sender_send(struct sender *s, struct message *m);

/* <retry_ms>: as in struct message_notice. */
void sender_notice(struct sender *s, enum log_level level, const struct err *e, int64_t retry_ms);

/* MESSAGE_REREAD, of an error. */
void sender_reread(struct sender *s, const struct err *e);

/* A step begins. <spool_dir>, borrowed, <max_kept>, <is_held>: see struct outbox. */
void sender_open(struct sender *s, const char *spool_dir, size_t max_kept, bool is_held);

/* As outbox_put. Counts the changes. */
bool sender_put(struct sender *s, struct message *m, struct err *e) WARN_UNUSED;

/* Sends what was put: keys, then rows, but not the messages after the last chunk. Errors as of
 * outbox_flush. */
bool sender_flush_chunks(struct sender *s, struct err *e) WARN_UNUSED;

/* Sends the rows that were put, and the messages after them. Errors as of outbox_flush. */
bool sender_flush_rows(struct sender *s, struct err *e) WARN_UNUSED;

/* Sends all that was put to <n> of them; news when all chunks were sent. */
bool sender_flush_all(struct sender *const *senders, size_t n, struct err *e) WARN_UNUSED;

/* The step is over: frees what was not sent. */
void sender_close(struct sender *s);

/* Sends the last message: MESSAGE_DONE, or MESSAGE_FAULT with its error <e>. Once only. */
void sender_last(struct sender *s, enum message_kind kind, const struct err *e);

#endif
