/* queue.h -- the bounded queue between readers and the host.
 *
 * Many threads push, one takes. An item is embedded in what it carries, of which
 * the queue knows nothing. The bytes of an item count until the taker has called
 * queue_done, so that what is being handled counts too.
 *
 * All lanes (one for each source) share the room. But a lane that has nothing in
 * the queue may always push one item, so that a slow handler of one source does
 * not stop the others. An item of 0 bytes always finds room.
 *
 * SPDX-License-Identifier: MIT */
#ifndef QUEUE_H
#define QUEUE_H

#include "base/err.h"

#include <stddef.h>

struct queue;

/* Embedded by a source. Zeroed at birth; touched by the queue only. */
struct queue_lane {
    size_t items;
};

/* Embedded by a message. */
struct queue_item {
    struct queue_item *next; /* in the queue or in a list */
    struct queue_lane *lane;
    size_t bytes;
};

/* Items that are in no queue, in order. Zeroed is empty. */
struct queue_list {
    struct queue_item *first, *last;
};

static inline bool queue_list_is_empty(const struct queue_list *l)
{
    return l->first == NULL;
}

static inline void queue_list_push(struct queue_list *l, struct queue_item *item)
{
    item->next = NULL;
    if (l->first == NULL)
        l->first = item;
    else
        l->last->next = item;
    l->last = item;
}

static inline void queue_list_push_first(struct queue_list *l, struct queue_item *item)
{
    if (l->first == NULL)
        l->last = item;
    item->next = l->first;
    l->first = item;
}

/* The first item, or NULL. */
static inline struct queue_item *queue_list_take(struct queue_list *l)
{
    struct queue_item *item = l->first;

    if (item != NULL)
        l->first = item->next;
    return item;
}

/* Returns an owned queue that holds <max_bytes>, or NULL with <e>. */
struct queue *queue_new(size_t max_bytes, struct err *e);
void queue_free(struct queue *q);

/* A descriptor for poll(), readable while there is something to take. Borrowed. */
int queue_fd(const struct queue *q);

/* Takes <item>. Blocks until there is room. False if the queue was closed:
 * the item is still the caller's. */
bool queue_push(struct queue *q, struct queue_item *item) WARN_UNUSED;

/* Takes <item> if there is room at once; false if not, or if closed. */
bool queue_try_push(struct queue *q, struct queue_item *item) WARN_UNUSED;

/* The oldest item, or NULL. The taker owns it; its bytes count until queue_done. */
struct queue_item *queue_take(struct queue *q);

/* Gives the room of a taken item back. Call it before the item is freed. */
void queue_done(struct queue *q, const struct queue_item *item);

/* True if nothing of <lane> is queued or in hand. */
bool queue_lane_is_empty(struct queue *q, const struct queue_lane *lane);

/* From now on every push returns false at once. */
void queue_close(struct queue *q);

#endif
