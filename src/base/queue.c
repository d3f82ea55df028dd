/* queue.c -- the bounded queue between readers and the host.
 * SPDX-License-Identifier: MIT */
#include "base/queue.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct queue {
    pthread_mutex_t mutex;
    pthread_cond_t room; /* signalled when room was given back, or the queue was closed */
    struct queue_list items;
    size_t bytes, max_bytes;
    int fd;
    bool closed;
    bool has_refused; /* since the last queue_done, for want of room */
};

struct queue *queue_new(size_t max_bytes, struct err *e)
{
    struct queue *q = calloc(1, sizeof *q);

    if (q == NULL) {
        err_memory(e);
        return NULL;
    }
    q->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (q->fd < 0) {
        err_set(e, ERR_INTERNAL, "eventfd: %s", strerror(errno));
        free(q);
        return NULL;
    }
    pthread_mutex_init(&q->mutex, NULL);
    pthread_cond_init(&q->room, NULL);
    q->max_bytes = max_bytes;
    return q;
}

void queue_free(struct queue *q)
{
    if (q == NULL)
        return;
    close(q->fd);
    pthread_cond_destroy(&q->room);
    pthread_mutex_destroy(&q->mutex);
    free(q);
}

int queue_fd(const struct queue *q)
{
    return q->fd;
}

static bool has_room(const struct queue *q, const struct queue_item *item)
{
    return item->bytes == 0 || item->lane->items == 0 || q->bytes + item->bytes <= q->max_bytes;
}

static void append(struct queue *q, struct queue_item *item)
{
    bool is_first = queue_list_is_empty(&q->items);
    uint64_t one = 1;

    queue_list_push(&q->items, item);
    q->bytes += item->bytes;
    item->lane->items++;
    /* the descriptor is readable as long as there are items */
    if (is_first && write(q->fd, &one, sizeof one) < 0) {
        /* only a full counter can refuse, and a full counter is readable */
    }
}

bool queue_push(struct queue *q, struct queue_item *item)
{
    bool pushed;

    pthread_mutex_lock(&q->mutex);
    while (!q->closed && !has_room(q, item))
        pthread_cond_wait(&q->room, &q->mutex);
    pushed = !q->closed;
    if (pushed)
        append(q, item);
    pthread_mutex_unlock(&q->mutex);
    return pushed;
}

bool queue_try_push(struct queue *q, struct queue_item *item)
{
    bool pushed;

    pthread_mutex_lock(&q->mutex);
    pushed = !q->closed && has_room(q, item);
    if (pushed)
        append(q, item);
    q->has_refused = q->has_refused || !pushed;
    pthread_mutex_unlock(&q->mutex);
    return pushed;
}

struct queue_item *queue_take(struct queue *q)
{
    struct queue_item *item;
    uint64_t count;

    pthread_mutex_lock(&q->mutex);
    item = queue_list_take(&q->items);
    /* the descriptor is emptied together with the list, never before it */
    if (queue_list_is_empty(&q->items) && read(q->fd, &count, sizeof count) < 0) {
        /* EAGAIN: it was empty already */
    }
    pthread_mutex_unlock(&q->mutex);
    return item;
}

bool queue_done(struct queue *q, const struct queue_item *item)
{
    bool is_news;

    pthread_mutex_lock(&q->mutex);
    q->bytes -= item->bytes;
    item->lane->items--;
    is_news = q->has_refused || item->lane->items == 0;
    q->has_refused = false;
    pthread_cond_broadcast(&q->room);
    pthread_mutex_unlock(&q->mutex);
    return is_news;
}

bool queue_lane_is_empty(struct queue *q, const struct queue_lane *lane)
{
    bool empty;

    pthread_mutex_lock(&q->mutex);
    empty = lane->items == 0;
    pthread_mutex_unlock(&q->mutex);
    return empty;
}

size_t queue_bytes(struct queue *q)
{
    size_t bytes;

    pthread_mutex_lock(&q->mutex);
    bytes = q->bytes;
    pthread_mutex_unlock(&q->mutex);
    return bytes;
}

void queue_close(struct queue *q)
{
    pthread_mutex_lock(&q->mutex);
    q->closed = true;
    pthread_cond_broadcast(&q->room);
    pthread_mutex_unlock(&q->mutex);
}
