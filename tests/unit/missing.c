/* missing.c -- unit tests of what a tally tells of rows that the server has no more.
 * SPDX-License-Identifier: MIT */
#include "state/missing.h"

#include "unit.h"

#include <stdio.h>
#include <stdlib.h>

#define BUCKET UINT64_C(0x4200000000000000) /* of a bucket, as wide as they are: its least hash */

static struct store *store;
static struct kept_rows *rows;
static struct missing *missing;

/* The rows 1 to <n>, with these hashes, are known. */
static void know(const uint64_t *hashes, size_t n)
{
    struct err e = { 0 };

    store = store_open_temporary(&e);
    CHECK(store != NULL);
    rows = kept_rows_open(store, "public.t", 0, true, &e);
    CHECK(rows != NULL);
    for (size_t i = 0; i < n; i++) {
        char key[24];
        int len = snprintf(key, sizeof key, "%zu", i + 1);
        struct kept_row row = { .hash = hashes[i], .key = { key, (size_t)len } };
        struct kept_row_state state = { .change = i + 1, .xid = 700, .reads = 1 };

        CHECK(kept_rows_put(rows, &row, &state, 0, &e));
        CHECK(row.id == (int64_t)i + 1);
    }
    missing = missing_new(rows);
    CHECK(missing != NULL);
}

static void forget(void)
{
    missing_free(missing);
    kept_rows_close(rows);
    store_close(store);
}

/* Compares with a server that has these hashes. */
static const struct tally_request *compare(const uint64_t *hashes, size_t n, unsigned width)
{
    const struct tally_request *asked;
    struct tally *t = calloc(1, sizeof *t);
    struct err e = { 0 };

    CHECK(t != NULL);
    t->width = width;
    for (size_t i = 0; i < n; i++) {
        struct tally_bucket *b = &t->buckets[(hashes[i] >> TALLY_SHIFT) / width];

        b->count++;
        b->xor ^= hashes[i];
    }
    CHECK(missing_compare(missing, t, false, &asked, &e));
    return asked;
}

/* True if just these rows are missing; 0 is none. */
static bool found(uint32_t a, uint32_t b)
{
    const uint32_t *ids;
    size_t n = missing_take(missing, 100, &ids);

    return n == (size_t)(a != 0) + (b != 0) && (a == 0 || ids[0] == a) && (b == 0 || ids[1] == b);
}

static bool asks_for(const struct tally_request *asked, uint64_t hash)
{
    uint64_t i = hash >> TALLY_SHIFT;

    return asked->buckets[i / 8] >> i % 8 & 1;
}

/* One and two rows of a bucket are known by their hashes, of three the keys are asked for. */
static void test_few(void)
{
    const uint64_t h[] = { BUCKET | 0x123, BUCKET | 0x1560000000001, BUCKET | 0x98700000002,
                           BUCKET | 0x5550003, ~BUCKET };
    const uint64_t one[] = { h[0], h[1], h[3], h[4] }, two[] = { h[1], h[3], h[4] };
    const uint64_t three[] = { h[1], h[4] };

    for (unsigned width = 1; width <= TALLY_WIDE; width *= TALLY_WIDE) {
        know(h, 5);
        CHECK(compare(h, 5, width) == NULL && found(0, 0));
        CHECK(compare(one, 4, width) == NULL && found(3, 0));
        CHECK(compare(two, 3, width) == NULL && found(1, 3));
        CHECK(asks_for(compare(three, 2, width), BUCKET) && found(0, 0));
        forget();
    }
}

/* Two pairs of rows have the same xor, or two rows the same hash: nobody can tell. */
static void test_no_pair(void)
{
    const uint64_t xor = UINT64_C(0x0000070000000030);
    const uint64_t h[] = { BUCKET | 0x100, (BUCKET | 0x100) ^ xor, BUCKET | 0x4000000205,
                           (BUCKET | 0x4000000205) ^ xor, BUCKET | 0x77 };
    const uint64_t same[] = { BUCKET | 1, BUCKET | 2, BUCKET | 2, BUCKET | 2 };

    know(h, 5);
    CHECK(asks_for(compare(h + 2, 3, TALLY_WIDE), BUCKET) && found(0, 0));
    CHECK(compare(h + 3, 2, TALLY_WIDE) != NULL);
    forget();
    know(same, 4);
    CHECK(asks_for(compare(same, 2, TALLY_WIDE), BUCKET) && found(0, 0));
    forget();
    know(same, 3);
    CHECK(compare(same, 1, TALLY_WIDE) == NULL && found(2, 3)); /* there is but one such pair */
    forget();
}

/* The last bucket of all, and pairs in several. */
static void test_pairs(void)
{
    const uint64_t h[] = { UINT64_MAX, UINT64_MAX - 77, UINT64_MAX - 5, 1, 2, 3 };
    const uint64_t left[] = { h[1], h[4] };
    const uint32_t *ids;

    know(h, 6);
    CHECK(compare(left, 2, TALLY_WIDE) == NULL);
    CHECK(missing_take(missing, 100, &ids) == 4);
    CHECK(ids[0] == 1 && ids[1] == 3 && ids[2] == 4 && ids[3] == 6);
    forget();
}

/* The server has a key twice: once its keys were looked at, that one is gone does not mean that the
 * key is. */
static void test_not_unique(void)
{
    const uint64_t h[] = { BUCKET | 5, BUCKET | 9 };
    const uint64_t twice[] = { h[0], h[0], h[0], h[1] }, once[] = { h[0], h[0], h[1] };
    struct err e = { 0 };

    know(h, 2);
    CHECK(asks_for(compare(twice, 4, TALLY_WIDE), BUCKET));
    missing_take_key(missing, 1);
    missing_take_key(missing, 2);
    CHECK(missing_end_keys(missing, &e) && found(0, 0));
    CHECK(compare(twice, 4, TALLY_WIDE) == NULL && found(0, 0));
    CHECK(asks_for(compare(once, 3, TALLY_WIDE), BUCKET) && found(0, 0));
    CHECK(asks_for(compare(h, 2, TALLY_WIDE), BUCKET) && found(0, 0));
    forget();
}

const struct unit_case missing_cases[] = {
    { "missing_few", test_few },
    { "missing_no_pair", test_no_pair },
    { "missing_pairs", test_pairs },
    { "missing_not_unique", test_not_unique },
    { NULL, NULL },
};
