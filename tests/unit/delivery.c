/* delivery.c -- unit tests of where the delivery of a source is, without deletes.
 * SPDX-License-Identifier: MIT */
#include "host/delivery.h"

#include "unit.h"

#include <stdlib.h>
#include <string.h>

/* One column, which is the key. */
static struct rowtype *make_rowtype(void)
{
    struct rowtype *s = calloc(1, sizeof *s);

    CHECK(s != NULL);
    atomic_init(&s->refs, 1);
    s->columns = calloc(1, sizeof *s->columns);
    s->key = calloc(1, sizeof *s->key);
    CHECK(s->columns != NULL && s->key != NULL);
    s->columns[0].name = strdup("id");
    s->n_columns = s->n_row = s->n_key = 1;
    return s;
}

/* Rows of a poll with these keys, one character each; the xid of each is 700 and its place. */
static struct chunk *make_poll(const char *keys, bool begins, bool ends)
{
    struct chunk *c = chunk_new();

    CHECK(c != NULL);
    c->rowtype = make_rowtype();
    c->is_ordered = true;
    c->begins = begins;
    c->ends = ends;
    for (size_t i = 0; keys[i] != '\0'; i++)
        CHECK(chunk_add(c, &(struct chunk_row){ .len = 1, .xid = 700 + i }, &keys[i]));
    return c;
}

static void give_position(struct chunk *c, uint64_t floor)
{
    struct position p = { .phase = POSITION_POLL, .horizon.floor = floor };

    CHECK(chunk_set_position(c, &p));
}

/* Delivers rows of <c> up to <done>, which are not all of the batch. */
static void deliver(struct delivery *d, struct chunk *c, size_t from, size_t done, bool is_again)
{
    struct err e;
    size_t first;

    CHECK(delivery_begin_rows(d, c, &first, &e));
    EQUAL(first, from);
    CHECK(delivery_add_rows(d, c, done, is_again));
}

/* Delivers one row, after which there is a position; <is_last>: and the batch is over. */
static void deliver_part(struct delivery *d, uint64_t floor, bool is_last)
{
    struct chunk *c = make_poll("x", true, true);
    struct err e;
    bool is_over, is_lazy;
    size_t from;

    give_position(c, floor);
    c->ends_batch = is_last;
    CHECK(delivery_begin_rows(d, c, &from, &e) && from == 0);
    CHECK(delivery_add_last_rows(d, c));
    EQUAL(delivery_count(d), 1);
    delivery_end(d, c, &is_over, &is_lazy);
    CHECK(is_over == is_last && !is_lazy);
    EQUAL(delivery_count(d), 0);
    CHECK(c->position == NULL);
    chunk_free(c);
}

static void deliver_batch(struct delivery *d, uint64_t floor)
{
    deliver_part(d, floor, true);
}

static struct seq seq; /* which is not kept */

static struct delivery *make_delivery(void)
{
    struct delivery *d = delivery_new(3, &seq);
    struct err e;

    CHECK(d != NULL && delivery_source(d) == 3 && !delivery_is_restored(d));
    CHECK(delivery_restore(d, NULL, NULL, "t", &e) && delivery_is_restored(d));
    CHECK(delivery_position(d) == NULL && !delivery_is_unsaved(d));
    return d;
}

/* The first batch may not stop: there is no position that says where it began. */
static void test_first_batch(void)
{
    struct delivery *d = make_delivery();
    struct chunk *c = make_poll("ab", true, false);
    struct delivery_moment moment;

    deliver(d, c, 0, 2, false);
    EQUAL(delivery_batch(d), 1);
    EQUAL(delivery_count(d), 2);
    CHECK(!delivery_may_stop(d));
    CHECK(delivery_write(d, "t", &moment) && !moment.is_known && moment.text == NULL);
    chunk_free(c);
    delivery_free(d);
}

/* A batch ends: its position is written, until it is saved. */
static void test_positions(void)
{
    struct delivery *d = make_delivery();
    struct delivery_moment moment;

    deliver_batch(d, 800);
    EQUAL(delivery_position(d)->horizon.floor, 800);
    CHECK(delivery_is_unsaved(d));
    CHECK(delivery_write(d, "t", &moment) && moment.is_known);
    CHECK(strstr(moment.text, "floor 800\n") != NULL);
    free(moment.text);
    delivery_set_saved(d);
    CHECK(delivery_write(d, "t", &moment) && moment.is_known && moment.text == NULL);
    delivery_free(d);
}

/* A poll stops after a row: its xid and key are where it is. */
static void test_stop_in_poll(void)
{
    struct delivery *d = make_delivery();
    struct chunk *c = make_poll("abc", true, false);
    struct delivery_moment moment;
    const struct position *p;

    deliver_batch(d, 600);
    delivery_set_saved(d);
    deliver(d, c, 0, 1, true);  /* paused, to go on from there */
    deliver(d, c, 1, 2, false);
    EQUAL(delivery_batch(d), 2);
    EQUAL(delivery_count(d), 2);
    CHECK(delivery_may_stop(d) && !delivery_is_unsaved(d));
    CHECK(delivery_write(d, "t", &moment) && moment.is_known && moment.text != NULL);
    free(moment.text);
    EQUAL(delivery_position(d)->n_resume_points, 0); /* it was written as it is, not moved */
    CHECK(delivery_stop(d) && delivery_is_unsaved(d));
    EQUAL(delivery_count(d), 0);
    p = delivery_position(d);
    EQUAL(p->n_resume_points, 1);
    EQUAL(p->resume_points[0].xid, 701);
    CHECK(strcmp(p->resume_points[0].key, "b") == 0);
    CHECK(xidset_has(&p->horizon.seen, 700) && !xidset_has(&p->horizon.seen, 701));
    chunk_free(c);
    delivery_free(d);
}

/* The reader lost its connection and has begun again: the position is where the first one was. */
static void test_begun_again(void)
{
    struct delivery *d = make_delivery();
    struct chunk *c = make_poll("ab", true, false);

    deliver_batch(d, 600);
    deliver(d, c, 0, 2, false);
    deliver(d, c, 0, 0, true);
    EQUAL(delivery_batch(d), 3);
    EQUAL(delivery_position(d)->n_resume_points, 1);
    EQUAL(delivery_count(d), 2);
    chunk_free(c);
    delivery_free(d);
}

/* A range stops: all keys that were delivered of it are kept. */
static void test_stop_in_range(void)
{
    struct delivery *d = make_delivery();
    struct chunk *first = make_poll("ab", true, false), *second = make_poll("cd", false, false);

    first->is_snapshot = second->is_snapshot = true;
    first->is_ordered = second->is_ordered = false;
    first->leaf = second->leaf = 5;
    first->end = second->end = 9;
    deliver_batch(d, 600);
    deliver(d, first, 0, 2, false);
    deliver(d, second, 0, 1, false);
    CHECK(delivery_stop(d));
    EQUAL(delivery_position(d)->done.leaf, 5);
    EQUAL(delivery_position(d)->done.end, 9);
    CHECK(strcmp(delivery_position(d)->done.keys, "a\nb\nc\n") == 0);
    chunk_free(first);
    chunk_free(second);
    delivery_free(d);
}

/* Of sources that are read together no position is known before the batch of all is over. */
static void test_several_sources(void)
{
    struct delivery *a = make_delivery(), *b = make_delivery();
    struct delivery_moment moment;
    struct message *m = message_new(MESSAGE_READY, 3);

    delivery_join(a, a);
    delivery_join(b, a);
    CHECK(delivery_is_with(a, b) && delivery_is_whole(b) && !delivery_is_begun(b));
    deliver_part(a, 800, false);
    CHECK(delivery_is_begun(a) && delivery_is_begun(b) && !delivery_may_stop(a));
    CHECK(delivery_write(a, "a", &moment) && !moment.is_known && moment.text == NULL);
    CHECK(delivery_write(b, "b", &moment) && !moment.is_known && moment.text == NULL);
    deliver_part(b, 800, true);
    CHECK(!delivery_is_begun(a) && !delivery_is_begun(b));
    CHECK(delivery_write(a, "a", &moment) && moment.is_known && moment.text != NULL);
    free(moment.text);
    delivery_park(b, m); /* they wait in one list */
    CHECK(delivery_is_parked(a) && delivery_unpark(a) == m);
    message_free(m);
    delivery_free(a);
    delivery_free(b);
}

static void test_messages_that_wait(void)
{
    struct delivery *d = make_delivery();
    struct message *m[3];

    for (size_t i = 0; i < 3; i++)
        CHECK((m[i] = message_new(MESSAGE_READY, 3)) != NULL);
    CHECK(!delivery_is_parked(d) && delivery_unpark(d) == NULL);
    delivery_park(d, m[1]);
    delivery_park(d, m[2]);
    delivery_park_first(d, m[0]);
    for (size_t i = 0; i < 2; i++) {
        CHECK(delivery_is_parked(d) && delivery_unpark(d) == m[i]);
        message_free(m[i]);
    }
    CHECK(!delivery_take_again(d));
    delivery_set_again(d);
    CHECK(delivery_take_again(d) && !delivery_take_again(d));
    delivery_free(d); /* and the last message */
}

const struct unit_case delivery_cases[] = {
    { "delivery_first_batch", test_first_batch },
    { "delivery_positions", test_positions },
    { "delivery_stop_in_poll", test_stop_in_poll },
    { "delivery_begun_again", test_begun_again },
    { "delivery_stop_in_range", test_stop_in_range },
    { "delivery_several_sources", test_several_sources },
    { "delivery_messages_that_wait", test_messages_that_wait },
    { NULL, NULL },
};
