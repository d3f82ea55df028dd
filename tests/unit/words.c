/* words.c -- unit tests of "did you mean".
 * SPDX-License-Identifier: MIT */
#include "base/words.h"

#include "unit.h"

#include <string.h>

static void test_distance(void)
{
    char a[200], b[200];

    EQUAL(words_distance("", ""), 0);
    EQUAL(words_distance("", "abc"), 3);
    EQUAL(words_distance("abc", ""), 3);
    EQUAL(words_distance("interval", "interval"), 0);
    EQUAL(words_distance("intervall", "interval"), 1);
    EQUAL(words_distance("intreval", "interval"), 2);
    EQUAL(words_distance("kitten", "sitting"), 3);
    EQUAL(words_distance("sitting", "kitten"), 3);
    memset(a, 'a', sizeof a - 1);
    memset(b, 'b', sizeof b - 1);
    a[sizeof a - 1] = b[sizeof b - 1] = '\0';
    EQUAL(words_distance(a, b), 64); /* only so many letters count */
    EQUAL(words_distance(a, a + 100), 0);
}

static void test_nearest(void)
{
    static const char *const names[] = { "table", "pk", "interval", "on_change" };
    const char *got = words_nearest("tabel", names, 4);

    CHECK(got != NULL && strcmp(got, "table") == 0);
    got = words_nearest("intervall", names, 4);
    CHECK(got != NULL && strcmp(got, "interval") == 0);
    got = words_nearest("onchange", names, 4);
    CHECK(got != NULL && strcmp(got, "on_change") == 0);
    CHECK(words_nearest("colour", names, 4) == NULL);
    CHECK(words_nearest("table", names, 0) == NULL);
}

const struct unit_case words_cases[] = {
    { "words_distance", test_distance },
    { "words_nearest", test_nearest },
    { NULL, NULL },
};
