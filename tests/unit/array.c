/* array.c -- unit tests of arrays that grow.
 * SPDX-License-Identifier: MIT */
#include "base/array.h"

#include "unit.h"

#include <stdint.h>
#include <stdlib.h>

struct pair {
    uint32_t a, b;
};

static void test_push(void)
{
    struct pair *v = NULL;
    size_t n = 0, cap = 0;

    for (uint32_t i = 0; i < 1000; i++)
        CHECK(ARRAY_PUSH(v, n, cap, (struct pair){ i, i + 1 }));
    CHECK(n == 1000 && cap >= n && cap < 2000);
    for (uint32_t i = 0; i < 1000; i++)
        CHECK(v[i].a == i && v[i].b == i + 1);
    free(v);
}

static void test_reserve(void)
{
    char *v = NULL;
    size_t n = 0, cap = 0, before, none = 0;

    CHECK(ARRAY_RESERVE(v, n, cap, none) && v == NULL && cap == 0);
    CHECK(ARRAY_RESERVE(v, n, cap, 100) && v != NULL && cap >= 100);
    before = cap;
    n = before;
    CHECK(ARRAY_RESERVE(v, n, cap, none) && cap == before);
    v[0] = 'x';
    CHECK(!ARRAY_RESERVE(v, n, cap, SIZE_MAX / 2)); /* nothing has changed */
    CHECK(cap == before && v[0] == 'x' && n == before);
    free(v);
}

static size_t find(const uint64_t *v, size_t n, uint64_t x)
{
    size_t i;

    ARRAY_LOWER_BOUND(i, n, v[i] < x);
    return i;
}

/* Whatever the order in which numbers come, they are sorted. */
static void test_insert(void)
{
    uint64_t *v = NULL, state = 7;
    size_t n = 0, cap = 0;

    for (int k = 0; k < 500; k++) {
        uint64_t x = unit_random(&state) % 1000;
        size_t i = find(v, n, x);

        CHECK(ARRAY_INSERT(v, n, cap, i, x));
    }
    EQUAL(n, 500);
    for (size_t i = 1; i < n; i++)
        CHECK(v[i - 1] <= v[i]);
    free(v);
}

static void test_lower_bound(void)
{
    const uint64_t v[] = { 3, 5, 5, 9 };

    EQUAL(find(v, 0, 1), 0);
    EQUAL(find(v, 4, 0), 0);
    EQUAL(find(v, 4, 3), 0);
    EQUAL(find(v, 4, 4), 1);
    EQUAL(find(v, 4, 5), 1);
    EQUAL(find(v, 4, 6), 3);
    EQUAL(find(v, 4, 9), 3);
    EQUAL(find(v, 4, 10), 4);
}

static void test_copy(void)
{
    const uint64_t v[] = { 1, 2, 3 };
    bool ok = true;
    uint64_t *copy = array_copy(v, 3, sizeof *v, &ok);

    CHECK(ok && copy != NULL && memcmp(copy, v, sizeof v) == 0);
    free(copy);
    CHECK(array_copy(NULL, 0, sizeof *v, &ok) == NULL && ok);
    ok = false;
    free(array_copy(v, 1, sizeof *v, &ok));
    CHECK(!ok); /* one failure of several is kept */
}

const struct unit_case array_cases[] = {
    { "array_push", test_push },
    { "array_reserve", test_reserve },
    { "array_insert", test_insert },
    { "array_lower_bound", test_lower_bound },
    { "array_copy", test_copy },
    { NULL, NULL },
};
