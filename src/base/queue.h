/* queue.h -- the bounded queue between readers and the host.
 *
 * Many threads push, one takes. An item is a field of the struct that travels, of which
 * the queue knows nothing. The bytes of an item count until the taker has called
 * queue_done, so that items that are being handled count too.
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

/* A field of a source. All zeros at first; only the queue reads and changes it. */
struct queue_lane {
    size_t items; /* queued, or taken and not done with */
};

/* A field of a message. Its owner sets <lane> and <bytes> before it pushes. */
struct queue_item {
    struct queue_item *next; /* in the queue or in a list */
    struct queue_lane *lane;
    size_t bytes;
};

/* Items that are in no queue, in order. An empty list is all zeros. The list owns nothing. */
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

/* Removes the first item and returns it, or NULL. */
static inline struct queue_item *queue_list_take(struct queue_list *l)
{
    struct queue_item *item = l->first;

    if (item != NULL)
        l->first = item->next;
    return item;
}

/* Returns an owned queue that holds <max_bytes>, or NULL with <e>. */
struct queue *queue_new(size_t max_bytes, struct err *e);

/* Takes NULL too. Items that are still in the queue are not freed: take them before. */
void queue_free(struct queue *q);

/* A descriptor for poll(), readable while there is something to take. Borrowed. */
int queue_fd(const struct queue *q);

/* Appends <item>, which then belongs to the queue. Blocks until there is room. False if the queue
 * was closed: the item still belongs to the caller. */
bool queue_push(struct queue *q, struct queue_item *item) WARN_UNUSED;

/* The same, without blocking: also false if there is no room now. */
bool queue_try_push(struct queue *q, struct queue_item *item) WARN_UNUSED;

/* Removes the oldest item and returns it, owned, or NULL. Does not block. Its bytes count until
 * queue_done. Items can still be taken from a queue that was closed. */
struct queue_item *queue_take(struct queue *q);

/* Gives the room of a taken item back. Call it before the item is freed. True if that is news for
 * somebody: its lane is empty now, or queue_try_push was refused for want of room since the last
 * time. */
bool queue_done(struct queue *q, const struct queue_item *item);

/* True if no item of <lane> is queued, or taken and not done with. */
bool queue_lane_is_empty(struct queue *q, const struct queue_lane *lane);

/* How many bytes its items have, and those that were taken and are not done with. */
size_t queue_bytes(struct queue *q);

/* From now on every push returns false at once, also one that waits. */
void queue_close(struct queue *q);

#endif
