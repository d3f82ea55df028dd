/* seq.c -- unit tests of the numbers of changes, with a clock that the tests set.
 * SPDX-License-Identifier: MIT */
#include "state/seq.h"

#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NOW ((uint64_t)1790000000000000)
#define HOUR ((uint64_t)3600000000)

static uint64_t take(struct seq *s, uint64_t now, size_t n)
{
    uint64_t first;
    struct err e;

    CHECK(seq_take(s, now, n, &first, &e));
    return first;
}

static void test_clock(void)
{
    struct seq s;
    struct err e;

    CHECK(seq_open(&s, NULL, &e));
    EQUAL(take(&s, NOW, 1), NOW);
    EQUAL(take(&s, NOW, 10), NOW + 1);
    EQUAL(take(&s, NOW + 5, 1), NOW + 11);
    EQUAL(take(&s, NOW + 100, 1), NOW + 100);
    EQUAL(take(&s, NOW - HOUR, 1), NOW + 101);
    EQUAL(take(&s, 0, 1), NOW + 102);
    EQUAL(take(&s, UINT64_MAX, 1), NOW + 103); /* before 1970 */
    EQUAL(take(&s, SEQ_LIMIT - 1, 1), NOW + 104);
}

static void test_end(void)
{
    struct seq s = { .last = SEQ_LIMIT - 3 };
    uint64_t first;
    struct err e;

    EQUAL(take(&s, NOW, 2), SEQ_LIMIT - 2);
    CHECK(!seq_take(&s, NOW, 1, &first, &e) && e.code == ERR_STATE);
}

static struct store *reopen(struct store *store, const char *path, struct seq *s)
{
    struct err e;

    store_close(store);
    store = store_open(path, &e);
    CHECK(store != NULL && seq_open(s, store, &e));
    return store;
}

/* The path of a new file. */
static void make_path(char *path, size_t size)
{
    const char *tmp = getenv("TMPDIR");

    snprintf(path, size, "%s/unit-seq.XXXXXX", tmp != NULL && *tmp != '\0' ? tmp : "/tmp");
    close(mkstemp(path));
}

/* The program is killed after each step, and the clock goes back: what was given never comes
 * again. */
static void test_starts(void)
{
    char path[300];
    struct store *store = NULL;
    struct seq s;
    uint64_t last = 0, now = NOW;

    make_path(path, sizeof path);
    for (int start = 0; start < 12; start++) {
        store = reopen(store, path, &s);
        for (int i = 0; i < start; i++) {
            size_t n = 1 + (size_t)i * 20000000;
            uint64_t first = take(&s, now, n);

            CHECK(first > last);
            last = first + n - 1;
            CHECK(s.ceiling >= last);
            now += i % 3 == 0 ? HOUR / 90 : 1;
        }
        now -= HOUR;
    }
    /* nothing is written as long as the ceiling is not reached */
    take(&s, now, 1);
    last = s.ceiling;
    for (int i = 0; i < 1000; i++)
        take(&s, now, 1);
    EQUAL(s.ceiling, last);
    store_close(store);
    unlink(path);
}

/* A start is near the clock again, however often there was one, so that what is given when the file
 * is lost is greater. */
static void test_near(void)
{
    char path[300];
    struct store *store = NULL;
    struct seq s;
    struct err e;
    uint64_t now = NOW;

    make_path(path, sizeof path);
    for (int start = 0; start < 20; start++) {
        store = reopen(store, path, &s);
        for (int i = 0; i < start; i++) {
            CHECK(take(&s, now, 100) >= now);
            if (start % 3 == 0) { /* a checkpoint */
                CHECK(store_begin(store, &e) && seq_put(&s, &e) && store_commit(store, &e));
                seq_end(&s, true);
                CHECK(s.ceiling > s.last);
            }
            now += 70000;
        }
        now += 30000;
        CHECK(s.last < now + 1500000); /* and does not add up */
    }
    store_close(store);
    unlink(path);
}

const struct unit_case seq_cases[] = {
    { "seq_clock", test_clock }, { "seq_end", test_end }, { "seq_starts", test_starts },
    { "seq_near", test_near }, { NULL, NULL },
};
