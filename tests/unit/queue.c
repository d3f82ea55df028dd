/* queue.c -- unit tests of the bounded queue, with threads.
 * SPDX-License-Identifier: MIT */
#include "base/queue.h"

#include "unit.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>

struct thing {
    struct queue_item item;
    size_t lane, number;
};

static struct thing *thing_of(struct queue_item *item)
{
    return (struct thing *)((char *)item - offsetof(struct thing, item));
}

static struct queue *new_queue(size_t bytes)
{
    struct err e = { .code = ERR_NONE };
    struct queue *q = queue_new(bytes, &e);

    CHECK(q != NULL);
    return q;
}

static bool is_readable(struct queue *q, int ms)
{
    struct pollfd fd = { .fd = queue_fd(q), .events = POLLIN };

    return poll(&fd, 1, ms) == 1;
}

static void test_room(void)
{
    struct queue *q = new_queue(100);
    struct queue_lane a = { 0 }, b = { 0 };
    struct queue_item first = { .lane = &a, .bytes = 60 }, second = { .lane = &a, .bytes = 40 };
    struct queue_item third = { .lane = &a, .bytes = 1 }, word = { .lane = &a, .bytes = 0 };
    struct queue_item other = { .lane = &b, .bytes = 5000 };

    CHECK(queue_take(q) == NULL && queue_lane_is_empty(q, &a) && !is_readable(q, 0));
    CHECK(queue_try_push(q, &first) && queue_try_push(q, &second)); /* full to the byte */
    CHECK(is_readable(q, 0) && !queue_lane_is_empty(q, &a));
    CHECK(!queue_try_push(q, &third));
    CHECK(queue_try_push(q, &word));  /* a word always finds room */
    CHECK(queue_try_push(q, &other)); /* and a lane that has nothing there */
    CHECK(queue_take(q) == &first);
    CHECK(!queue_try_push(q, &third)); /* what is in hand counts */
    CHECK(queue_done(q, &first)); /* somebody was refused */
    CHECK(queue_take(q) == &second && queue_take(q) == &word && is_readable(q, 0));
    CHECK(queue_take(q) == &other && !is_readable(q, 0) && queue_take(q) == NULL);
    CHECK(queue_done(q, &other)); /* a lane is empty */
    CHECK(queue_lane_is_empty(q, &b) && !queue_lane_is_empty(q, &a));
    CHECK(queue_try_push(q, &third) && is_readable(q, 0) && queue_take(q) == &third);
    CHECK(!queue_done(q, &second) && !queue_done(q, &word));
    CHECK(!queue_lane_is_empty(q, &a));
    CHECK(queue_done(q, &third));
    CHECK(queue_lane_is_empty(q, &a));
    queue_free(q);
    queue_free(NULL);
}

static void test_closed(void)
{
    struct queue *q = new_queue(100);
    struct queue_lane lane = { 0 };
    struct queue_item a = { .lane = &lane, .bytes = 1 }, b = { .lane = &lane, .bytes = 1 };

    CHECK(queue_push(q, &a));
    queue_close(q);
    CHECK(!queue_push(q, &b) && !queue_try_push(q, &b));
    CHECK(queue_take(q) == &a); /* what is there can still be taken */
    queue_free(q);
}

struct pusher {
    struct queue *q;
    struct queue_item item;
    bool pushed;
};

static void *push_one(void *arg)
{
    struct pusher *p = arg;

    p->pushed = queue_push(p->q, &p->item);
    return NULL;
}

/* A pusher that waits goes on when there is room, or when the queue is closed. */
static void test_wait(void)
{
    for (int closes = 0; closes < 2; closes++) {
        struct queue *q = new_queue(10);
        struct queue_lane lane = { 0 };
        struct queue_item first = { .lane = &lane, .bytes = 10 };
        struct pusher p = { q, { .lane = &lane, .bytes = 1 }, false };
        pthread_t thread;

        CHECK(queue_push(q, &first) && pthread_create(&thread, NULL, push_one, &p) == 0);
        CHECK(queue_take(q) == &first && queue_take(q) == NULL);
        if (closes)
            queue_close(q);
        else
            queue_done(q, &first);
        CHECK(pthread_join(thread, NULL) == 0);
        CHECK(p.pushed == !closes);
        CHECK(queue_take(q) == (closes ? NULL : &p.item));
        queue_free(q);
    }
}

enum { PUSHERS = 4, THINGS = 5000 };

struct crowd {
    struct queue *q;
    struct queue_lane lanes[PUSHERS];
    struct thing things[PUSHERS][THINGS];
    pthread_mutex_t mutex;
    size_t next;
};

static void *push_many(void *arg)
{
    struct crowd *c = arg;
    uint64_t state;
    size_t me;

    pthread_mutex_lock(&c->mutex);
    me = c->next++;
    pthread_mutex_unlock(&c->mutex);
    state = me;
    for (size_t i = 0; i < THINGS; i++) {
        struct thing *t = &c->things[me][i];

        *t = (struct thing){ { .lane = &c->lanes[me], .bytes = unit_random(&state) % 40 }, me, i };
        if (!queue_try_push(c->q, &t->item) && !queue_push(c->q, &t->item))
            break;
    }
    return NULL;
}

/* Many push, one takes: nothing is lost, each lane keeps its order, the bound holds. */
static void test_crowd(void)
{
    static struct crowd c = { .mutex = PTHREAD_MUTEX_INITIALIZER };
    size_t seen[PUSHERS] = { 0 };
    pthread_t threads[PUSHERS];

    c.q = new_queue(100);
    for (size_t i = 0; i < PUSHERS; i++)
        CHECK(pthread_create(&threads[i], NULL, push_many, &c) == 0);
    for (size_t n = 0; n < PUSHERS * THINGS;) {
        struct queue_item *held[3];
        size_t k = 0;

        CHECK(is_readable(c.q, 60000));
        while (k < 3 && (held[k] = queue_take(c.q)) != NULL) {
            struct thing *t = thing_of(held[k++]);

            EQUAL(t->number, seen[t->lane]);
            seen[t->lane]++;
            CHECK(!queue_lane_is_empty(c.q, &c.lanes[t->lane]));
        }
        n += k;
        while (k > 0)
            queue_done(c.q, held[--k]);
    }
    for (size_t i = 0; i < PUSHERS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
        CHECK(seen[i] == THINGS && queue_lane_is_empty(c.q, &c.lanes[i]));
    }
    CHECK(queue_take(c.q) == NULL && !is_readable(c.q, 0));
    queue_free(c.q);
}

static void test_list(void)
{
    struct queue_list l = { 0 };
    struct queue_item a, b, c;

    CHECK(queue_list_is_empty(&l) && queue_list_take(&l) == NULL);
    queue_list_push(&l, &a);
    queue_list_push(&l, &b);
    CHECK(!queue_list_is_empty(&l) && queue_list_take(&l) == &a);
    queue_list_push_first(&l, &a);
    queue_list_push(&l, &c);
    CHECK(queue_list_take(&l) == &a && queue_list_take(&l) == &b && queue_list_take(&l) == &c);
    CHECK(queue_list_is_empty(&l) && queue_list_take(&l) == NULL);
    queue_list_push_first(&l, &b); /* to an empty one */
    queue_list_push(&l, &c);
    CHECK(queue_list_take(&l) == &b && queue_list_take(&l) == &c && queue_list_is_empty(&l));
}

const struct unit_case queue_cases[] = {
    { "queue_list", test_list },
    { "queue_room", test_room },
    { "queue_closed", test_closed },
    { "queue_wait", test_wait },
    { "queue_crowd", test_crowd },
    { NULL, NULL },
};
