/* text.c -- unit tests of small things that are done with text.
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
    got = text_nearest("TABLE", names, 4);
    CHECK(got != NULL && strcmp(got, "table") == 0);
    CHECK(text_nearest("colour", names, 4) == NULL);
    CHECK(text_nearest("table", names, 0) == NULL);
}

static void test_utf8(void)
{
    static const struct { const char *s; size_t len; } good[] = { { "a", 1 }, { "\x7f", 1 },
        { "\xc2\x80", 2 }, { "\xdf\xbf", 2 }, { "\xe0\xa0\x80", 3 }, { "\xed\x9f\xbf", 3 },
        { "\xee\x80\x80", 3 }, { "\xef\xbf\xbf", 3 }, { "\xf0\x90\x80\x80", 4 },
        { "\xf4\x8f\xbf\xbf", 4 } };

    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        EQUAL(text_utf8_length(good[i].s, strlen(good[i].s)), good[i].len);
        for (size_t n = 1; n < good[i].len; n++)
            EQUAL(text_utf8_length(good[i].s, n), 0); /* cut off */
    }
    EQUAL(text_utf8_length("", 1), 1); /* a zero byte is a character */
    for (size_t i = 0; unit_bad_utf8[i] != NULL; i++)
        EQUAL(text_utf8_length(unit_bad_utf8[i], strlen(unit_bad_utf8[i])), 0);
}

static bool reads_u64(const char *text, size_t len, uint64_t n, size_t used)
{
    const char *p = text;
    uint64_t got = 99;

    return text_read_u64(&p, text + len, &got) && got == n && p == text + used;
}

static void test_unsigned(void)
{
    static const char *const bad[] = { "", "a", "-1", "+1", " 1", "18446744073709551616",
        "99999999999999999999", "100000000000000000000000" };

    CHECK(reads_u64("0", 1, 0, 1) && reads_u64("752\t1", 5, 752, 3) && reads_u64("752", 2, 75, 2));
    CHECK(reads_u64("18446744073709551615", 20, UINT64_MAX, 20));
    CHECK(reads_u64("00000000000000000000000000007", 29, 7, 29));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *p = bad[i];
        uint64_t n;

        CHECK(!text_read_u64(&p, NULL, &n) && p == bad[i]);
        CHECK(!text_is_u64(bad[i], &n) && n == 0);
    }
}

static void test_signed(void)
{
    static const char *const bad[] = { "", "-", "--1", "+1", "- 1", "9223372036854775808",
        "-9223372036854775809", "x" };
    int64_t n;

    CHECK(text_is_i64("9223372036854775807", &n) && n == INT64_MAX);
    CHECK(text_is_i64("-9223372036854775808", &n) && n == INT64_MIN);
    CHECK(text_is_i64("-0", &n) && n == 0 && text_is_i64("-17", &n) && n == -17);
    CHECK(!text_is_i64("17 ", &n) && n == 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *p = bad[i];

        CHECK(!text_read_i64(&p, NULL, &n) && p == bad[i] && !text_is_i64(bad[i], &n));
    }
}

static void test_size(void)
{
    static const char *const bad[] = { "", "M", "0", "-1M", "1B", "1MB", "1 M", "64 ", "nan",
        "1K ", "M1" };
    double n;

    CHECK(text_read_size("1", &n) && n == 1 && text_read_size("64K", &n) && n == 65536);
    CHECK(text_read_size("256M", &n) && n == 256 * 1048576.0);
    CHECK(text_read_size("1.5g", &n) && n == 1610612736.0);
    CHECK(text_read_size("2t", &n) && n == 2199023255552.0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK(!text_read_size(bad[i], &n));
}

static void test_hex(void)
{
    char to[8];

    CHECK(text_put_hex(to, "\x00\x7f\xff", 3) == to + 6);
    EQUAL_TEXT(to, 6, "007fff");
    for (int i = 0; i < 16; i++)
        CHECK(text_hex_digit("0123456789abcdef"[i]) == i);
    CHECK(text_hex_digit('g') < 0 && text_hex_digit('A') < 0 && text_hex_digit('\0') < 0);
}

static void test_sort(void)
{
    struct text_name names[] = { { "b", 1 }, { "\xc3\xa9", 2 }, { "a\0b", 3 }, { "", 0 },
        { "a", 1 }, { "B", 1 } };

    text_sort_names(names, 6);
    CHECK(names[0].len == 0 && names[1].p[0] == 'B' && names[2].len == 1 && names[3].len == 3);
    CHECK(names[4].p[0] == 'b' && names[5].len == 2);
    text_sort_names(NULL, 0);
}

const struct unit_case text_cases[] = {
    { "text_utf8", test_utf8 },
    { "text_unsigned", test_unsigned },
    { "text_signed", test_signed },
    { "text_size", test_size },
    { "text_hex", test_hex },
    { "text_sort", test_sort },
    { "text_distance", test_distance },
    { "text_nearest", test_nearest },
    { NULL, NULL },
};
