/* paging.c -- unit tests of what is known of rows without xids.
 * SPDX-License-Identifier: MIT */
#include "capture/paging.h"

#include "unit.h"

/* Whatever comes together, in whatever order, is what one by one would have been. */
static void test_merge(void)
{
    uint64_t random = 1;

    for (int round = 0; round < 200; round++) {
        struct givens all = { 0 }, one = { 0 };

        for (int page = 0; page < 4; page++) {
            struct givens fresh = { 0 };

            for (uint64_t n = unit_random(&random) % 20; n > 0; n--) {
                uint64_t hash = unit_random(&random) % 50;

                CHECK(givens_add(&fresh, hash, (int64_t)hash * 2));
                CHECK(givens_add(&one, hash, (int64_t)hash * 2));
            }
            CHECK(givens_merge(&all, &fresh));
            givens_fini(&fresh);
        }
        EQUAL(all.n, one.n);
        for (size_t i = 0; i < all.n; i++)
            CHECK(all.v[i].hash == one.v[i].hash && all.v[i].value == one.v[i].value);
        CHECK(givens_merge(&all, &(struct givens){ 0 }) && all.n == one.n);
        givens_fini(&all);
        givens_fini(&one);
    }
}

const struct unit_case paging_cases[] = {
    { "paging_merge", test_merge },
    { NULL, NULL },
};
