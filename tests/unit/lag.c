/* lag.c -- unit tests of how old what is not saved is.
 * SPDX-License-Identifier: MIT */
#include "host/lag.h"

#include "unit.h"

#include <stdio.h>

/* A position counts when its text was saved, and then all before it, too. */
static void test_saves(void)
{
    struct lag l = { 0 };

    EQUAL((uint64_t)lag_oldest_us(&l), 0);
    lag_deliver(&l, 100);
    lag_deliver(&l, 90);
    lag_deliver(&l, 110);
    EQUAL((uint64_t)lag_oldest_us(&l), 90);
    lag_capture(&l, "seven", 7);
    lag_deliver(&l, 200);
    lag_capture(&l, "eight", 8);
    lag_deliver(&l, 300);
    EQUAL((uint64_t)lag_oldest_us(&l), 90);
    lag_save(&l, "another", 1000); /* of no moment that is known */
    EQUAL((uint64_t)lag_oldest_us(&l), 90);
    lag_save(&l, "seven", 2000090);
    EQUAL((uint64_t)lag_oldest_us(&l), 200);
    EQUAL(l.saved_batch, 7);
    EQUAL(l.seconds.count, 1);
    CHECK(l.seconds.last > 1.99 && l.seconds.last < 2.01);
    lag_capture(&l, "nine", 9);
    lag_save(&l, "nine", 3000000);
    EQUAL((uint64_t)lag_oldest_us(&l), 0);
    EQUAL(l.saved_batch, 9);
    EQUAL((uint64_t)l.saved_us, 3000000);
    lag_fini(&l);
}

/* A capture that failed is made again, with the same text: nothing is young by that. */
static void test_again(void)
{
    struct lag l = { 0 };

    lag_deliver(&l, 100);
    lag_capture(&l, "x", 1);
    lag_capture(&l, "x", 1);
    EQUAL((uint64_t)lag_oldest_us(&l), 100);
    lag_save(&l, "x", 200);
    EQUAL((uint64_t)lag_oldest_us(&l), 0);
    lag_fini(&l);
}

/* An operator may hold back more moments than are remembered: the oldest stays what it is. */
static void test_many(void)
{
    struct lag l = { 0 };
    char text[32];

    for (int i = 1; i <= 10000; i++) {
        snprintf(text, sizeof text, "position %d", i);
        lag_deliver(&l, 1000 + i);
        lag_capture(&l, text, (uint64_t)i);
    }
    EQUAL((uint64_t)lag_oldest_us(&l), 1001);
    CHECK(l.n < 5000);
    lag_save(&l, "position 100", 20000);
    EQUAL((uint64_t)lag_oldest_us(&l), 1101);
    lag_save(&l, "position 10000", 20000);
    EQUAL((uint64_t)lag_oldest_us(&l), 0);
    lag_fini(&l);
}

const struct unit_case lag_cases[] = {
    { "lag_saves", test_saves },
    { "lag_again", test_again },
    { "lag_many", test_many },
    { NULL, NULL },
};
