/* clock.c -- unit tests of times as text.
 * SPDX-License-Identifier: MIT */
#include "base/clock.h"

#include "unit.h"

#include <string.h>

static bool is(int64_t us, const char *expected)
{
    char text[CLOCK_TEXT];

    clock_write(us, text);
    return strcmp(text, expected) == 0;
}

/* Times of one second after each other, and back: what is kept of the last one is not told of
 * another one. */
static void test_write(void)
{
    CHECK(is(0, "1970-01-01T00:00:00.000Z"));
    CHECK(is(1795410297057123, "2026-11-23T05:04:57.057Z"));
    CHECK(is(1795410297999999, "2026-11-23T05:04:57.999Z"));
    CHECK(is(1795410298000000, "2026-11-23T05:04:58.000Z"));
    CHECK(is(1795410297100000, "2026-11-23T05:04:57.100Z"));
    CHECK(is(-1, "1969-12-31T23:59:59.999Z"));
    CHECK(is(-1000000, "1969-12-31T23:59:59.000Z"));
}

const struct unit_case clock_cases[] = {
    { "clock_write", test_write },
    { NULL, NULL },
};
