/* text.c -- unit tests of "did you mean".
 * SPDX-License-Identifier: MIT */
#include "base/text.h"

#include "unit.h"

#include <string.h>

static void test_distance(void)
{
    char a[200], b[200];

    EQUAL(text_distance("", ""), 0);
    EQUAL(text_distance("", "abc"), 3);
    EQUAL(text_distance("abc", ""), 3);
    EQUAL(text_distance("interval", "interval"), 0);
    EQUAL(text_distance("intervall", "interval"), 1);
    EQUAL(text_distance("intreval", "interval"), 2);
    EQUAL(text_distance("kitten", "sitting"), 3);
    EQUAL(text_distance("sitting", "kitten"), 3);
    memset(a, 'a', sizeof a - 1);
    memset(b, 'b', sizeof b - 1);
    a[sizeof a - 1] = b[sizeof b - 1] = '\0';
    EQUAL(text_distance(a, b), 64); /* only so many letters count */
    EQUAL(text_distance(a, a + 100), 0);
}

static void test_nearest(void)
{
    static const char *const names[] = { "table", "pk", "interval", "on_change" };
    const char *got = text_nearest("tabel", names, 4);

    CHECK(got != NULL && strcmp(got, "table") == 0);
    got = text_nearest("intervall", names, 4);
    CHECK(got != NULL && strcmp(got, "interval") == 0);
    got = text_nearest("onchange", names, 4);
    CHECK(got != NULL && strcmp(got, "on_change") == 0);
    CHECK(text_nearest("colour", names, 4) == NULL);
    CHECK(text_nearest("table", names, 0) == NULL);
}

const struct unit_case text_cases[] = {
    { "text_distance", test_distance },
    { "text_nearest", test_nearest },
    { NULL, NULL },
};
