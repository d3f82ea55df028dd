/* log_floor.c -- unit tests of how the floor of a position by the log rises.
 * SPDX-License-Identifier: MIT */
#include "capture/log_floor.h"

#include "unit.h"

static void test_rises(void)
{
    struct horizon h = { .floor = 10 };
    struct log_floor f = { 0 };

    CHECK(xidset_add(&h.seen, 12) && xidset_add(&h.seen, 20) && xidset_add(&h.seen, 21));
    log_floor_rise(&f, 1000, &h); /* nothing is noted */
    EQUAL(h.floor, 10);
    log_floor_note(&f, 20, 500);
    log_floor_note(&f, 30, 600); /* the first one waits yet */
    log_floor_rise(&f, 499, &h);
    EQUAL(h.floor, 10);
    EQUAL(h.seen.n, 3);
    log_floor_rise(&f, 500, &h);
    EQUAL(h.floor, 20);
    EQUAL(h.seen.n, 2);
    log_floor_rise(&f, 1000, &h); /* it was used up */
    EQUAL(h.floor, 20);
    log_floor_note(&f, 15, 700); /* it does not go down */
    log_floor_rise(&f, 700, &h);
    EQUAL(h.floor, 20);
    log_floor_note(&f, 40, 800);
    log_floor_forget(&f);
    log_floor_rise(&f, 900, &h);
    EQUAL(h.floor, 20);
    horizon_fini(&h);
}

const struct unit_case log_floor_cases[] = {
    { "log_floor_rises", test_rises },
    { NULL, NULL },
};
