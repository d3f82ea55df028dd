/* load.c -- unit tests of how far polls are put off for what scans take.
 * SPDX-License-Identifier: MIT */
#include "capture/load.h"

#include "unit.h"

/* A poll of the unit, each second, that scans for so many milliseconds and counts keys for so many.
 * Returns by how many milliseconds after its beginning the next one is due. */
static uint64_t poll_ms(struct load *l, const struct load_all *all, int64_t scan_ms,
                        int64_t census_ms)
{
    static int64_t now = 1000000;
    const struct load_poll poll = {
        .max_load = 0.1, .interval_ms = 1000, .began_ms = now += 100000,
        .scan_us = scan_ms * 1000, .census_us = census_ms * 1000,
    };
    int64_t due_ms = now + 1000;

    load_add(l, all, &poll, &due_ms);
    return (uint64_t)(due_ms - now);
}

static uint64_t settled_ms(struct load *l, const struct load_all *all, int64_t scan_ms)
{
    poll_ms(l, all, scan_ms, 0);
    return poll_ms(l, all, scan_ms, 0);
}

/* One unit: it takes max_load of the time. */
static void test_one(void)
{
    struct load l = { 0 };
    struct load_all all = { 0 };

    CHECK(load_join(&all, &l));
    EQUAL(settled_ms(&l, &all, 100), 1000);
    EQUAL(settled_ms(&l, &all, 400), 4000);
    EQUAL((uint64_t)load_stretch(&l, 1000), 4000);
    EQUAL(poll_ms(&l, &all, 30000, 0), 4000); /* what a single poll brings */
    EQUAL(poll_ms(&l, &all, 400, 0), 4000);
    EQUAL(poll_ms(&l, &all, 10, 0), 1000);
    load_fini(&all);
}

/* A first poll is followed by the next one, however long it took. */
static void test_first(void)
{
    struct load l = { 0 };
    struct load_all all = { 0 };

    CHECK(load_join(&all, &l));
    EQUAL(poll_ms(&l, &all, 30000, 0), 1000);
    load_fini(&all);
}

/* Big ones are put off, the others are not; together they take max_load. */
static void test_many(void)
{
    struct load big = { 0 }, half = { 0 }, small[10] = { { .share = 0 } };
    struct load_all all = { 0 };

    CHECK(load_join(&all, &big) && load_join(&all, &half));
    for (int i = 0; i < 10; i++) {
        CHECK(load_join(&all, &small[i]));
        EQUAL(settled_ms(&small[i], &all, 1), 1000);
    }
    EQUAL(settled_ms(&big, &all, 400), 4444); /* 90 ms a second are left */
    EQUAL(settled_ms(&half, &all, 200), 4444);
    EQUAL(poll_ms(&big, &all, 400, 0), 8889);
    EQUAL(poll_ms(&small[3], &all, 1, 0), 1000);
    load_rest(&half);
    EQUAL(poll_ms(&big, &all, 400, 0), 4444);
    load_fini(&all);
}

/* Polls that find that nothing has committed leave the time to others, and keep the distance. */
static void test_skips(void)
{
    struct load l = { 0 }, other = { 0 };
    struct load_all all = { 0 };
    struct load_poll poll = { .max_load = 0.1, .interval_ms = 1000, .began_ms = 5000,
                              .scan_us = 400000 };
    int64_t due_ms = 6000;

    CHECK(load_join(&all, &l) && load_join(&all, &other));
    load_add(&l, &all, &poll, &due_ms);
    load_add(&l, &all, &poll, &due_ms);
    EQUAL((uint64_t)due_ms, 9000);
    poll = (struct load_poll){ .max_load = 0.1, .interval_ms = 1000, .began_ms = 7000 };
    due_ms = 8000;
    load_add(&l, &all, &poll, &due_ms);
    EQUAL((uint64_t)due_ms, 9000);
    EQUAL(settled_ms(&other, &all, 100), 1000);
    poll.began_ms = 9000;
    due_ms = 10000;
    load_add(&l, &all, &poll, &due_ms);
    EQUAL((uint64_t)due_ms, 10000);
    EQUAL((uint64_t)load_stretch(&l, 1000), 1000);
    load_fini(&all);
}

/* Counts of keys have an interval of their own. */
static void test_census(void)
{
    struct load l = { 0 };
    struct load_all all = { 0 };
    struct load_poll poll = { .max_load = 0.1, .interval_ms = 10000, .check_ms = 2000,
                              .scan_us = 40000, .census_us = 360000 };
    int64_t due_ms = 0;

    CHECK(load_join(&all, &l));
    load_add(&l, &all, &poll, &due_ms);
    load_add(&l, &all, &poll, &due_ms);
    CHECK(l.share > 0.199 && l.share < 0.201);
    EQUAL((uint64_t)due_ms, 4000);
    EQUAL((uint64_t)load_stretch(&l, 2000), 4000);
    load_fini(&all);
}

/* max_load = 1 is never put off, and does not count. */
static void test_any(void)
{
    struct load l = { 0 }, other = { 0 };
    struct load_all all = { 0 };
    const struct load_poll poll = { .max_load = 1, .interval_ms = 1000, .scan_us = 9000000 };
    int64_t due_ms = 1;

    CHECK(load_join(&all, &l) && load_join(&all, &other));
    load_add(&l, &all, &poll, &due_ms);
    load_add(&l, &all, &poll, &due_ms);
    EQUAL((uint64_t)due_ms, 1);
    EQUAL(settled_ms(&other, &all, 50), 1000);
    load_fini(&all);
}

/* Users are told after some polls in a row, once an hour. */
static void test_news(void)
{
    struct load l = { 0 };
    struct load_all all = { 0 };

    CHECK(load_join(&all, &l));
    settled_ms(&l, &all, 400);
    for (int i = 0; i < 8; i++) {
        poll_ms(&l, &all, 400, 0);
        CHECK(!load_is_news(&l, &all, 50));
    }
    poll_ms(&l, &all, 400, 0);
    CHECK(load_is_news(&l, &all, 50));
    CHECK(!load_is_news(&l, &all, 3600000));
    CHECK(load_is_news(&l, &all, 3600050));
    settled_ms(&l, &all, 10);
    CHECK(!load_is_news(&l, &all, 99999999));
    load_fini(&all);
}

const struct unit_case load_cases[] = {
    { "load_one", test_one }, { "load_first", test_first }, { "load_many", test_many },
    { "load_skips", test_skips }, { "load_census", test_census }, { "load_any", test_any },
    { "load_news", test_news },
    { NULL, NULL },
};
