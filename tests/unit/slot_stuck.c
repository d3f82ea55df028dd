/* slot_stuck.c -- unit tests of slots whose log the server fails to decode.
 * SPDX-License-Identifier: MIT */
#include "capture/slot_stuck.h"

#include "unit.h"

#define LSN 1000

/* One place, for a minute. */
static void test_minute(void)
{
    struct slot_stuck s = { 0 };

    for (int64_t ms = 5000; ms < 65000; ms += 7000)
        CHECK(!slot_stuck_add(&s, LSN, ms, false));
    CHECK(slot_stuck_add(&s, LSN, 65000, false));
    CHECK(slot_stuck_add(&s, LSN, 65001, false)); /* the slot could not be dropped */
}

/* One that took a minute is not enough. */
static void test_few(void)
{
    struct slot_stuck s = { 0 };

    CHECK(!slot_stuck_add(&s, LSN, 0, false));
    CHECK(!slot_stuck_add(&s, LSN, 100000, false));
    CHECK(slot_stuck_add(&s, LSN, 100001, false));
}

/* The log was read further: what comes now is another error. */
static void test_further(void)
{
    struct slot_stuck s = { 0 };

    for (int64_t ms = 0; ms < 60000; ms += 10000)
        CHECK(!slot_stuck_add(&s, LSN, ms, false));
    CHECK(!slot_stuck_add(&s, LSN + 1, 60000, false));
    CHECK(!slot_stuck_add(&s, LSN + 1, 119999, false));
    CHECK(slot_stuck_add(&s, LSN + 1, 120000, false));
}

/* Before the place was reached again: it is the same one. */
static void test_before(void)
{
    struct slot_stuck s = { 0 };

    CHECK(!slot_stuck_add(&s, LSN, 0, false));
    CHECK(!slot_stuck_add(&s, LSN - 1, 30000, false));
    CHECK(slot_stuck_add(&s, LSN, 60000, false));
}

static void test_brief(void)
{
    struct slot_stuck s = { 0 };

    CHECK(!slot_stuck_add(&s, LSN, 0, true));
    CHECK(!slot_stuck_add(&s, LSN, 100, true));
    CHECK(slot_stuck_add(&s, LSN, 600, true));
}

const struct unit_case slot_stuck_cases[] = {
    { "slot_stuck_minute", test_minute },
    { "slot_stuck_few", test_few },
    { "slot_stuck_further", test_further },
    { "slot_stuck_before", test_before },
    { "slot_stuck_brief", test_brief },
    { NULL, NULL },
};
