/* pages.c -- unit tests of what is known of rows without xids.
 * SPDX-License-Identifier: MIT */
#include "capture/pages.h"

#include "unit.h"

/* Whatever comes together, in whatever order, is what one by one would have been. */
static void test_merge(void)
{
    uint64_t random = 1;

    for (int round = 0; round < 200; round++) {
        struct pages_rows all = { 0 }, one = { 0 };

        for (int page = 0; page < 4; page++) {
            struct pages_rows fresh = { 0 };

            for (uint64_t n = unit_random(&random) % 20; n > 0; n--) {
                uint64_t hash = unit_random(&random) % 50;

                CHECK(pages_rows_add(&fresh, hash, (int64_t)hash * 2));
                CHECK(pages_rows_add(&one, hash, (int64_t)hash * 2));
            }
            CHECK(pages_rows_merge(&all, &fresh));
            pages_rows_fini(&fresh);
        }
        EQUAL(all.n, one.n);
        for (size_t i = 0; i < all.n; i++)
            CHECK(all.v[i].hash == one.v[i].hash && all.v[i].value == one.v[i].value);
        CHECK(pages_rows_merge(&all, &(struct pages_rows){ 0 }) && all.n == one.n);
        pages_rows_fini(&all);
        pages_rows_fini(&one);
    }
}

const struct unit_case pages_cases[] = {
    { "pages_merge", test_merge },
    { NULL, NULL },
};
