/* copytext.c -- unit tests of the fields of a line of COPY.
 * SPDX-License-Identifier: MIT */
#include "pg/copytext.h"

#include "unit.h"

#include <string.h>

#define FIELD(text) ((struct copytext_field){ (text), sizeof(text) - 1 })

static void test_null(void)
{
    CHECK(copytext_is_null(FIELD("\\N")));
    CHECK(!copytext_is_null(FIELD("")) && !copytext_is_null(FIELD("\\")));
    CHECK(!copytext_is_null(FIELD("N")));
    CHECK(!copytext_is_null(FIELD("\\n")) && !copytext_is_null(FIELD("\\\\N")));
    CHECK(!copytext_is_null(FIELD("NULL")));
}

#define UNESCAPED(text, wanted) do { \
        char to_[sizeof(text)]; \
        size_t n_ = copytext_unescape(FIELD(text), to_); \
        EQUAL_TEXT(to_, n_, wanted); } while (0)

static void test_unescape(void)
{
    UNESCAPED("", "");
    UNESCAPED("plain", "plain");
    UNESCAPED("\\b\\f\\n\\r\\t\\v\\\\", "\b\f\n\r\t\v\\");
    UNESCAPED("a\\tb\\\\nc", "a\tb\\nc");
    UNESCAPED("\\\\\\\\", "\\\\");
    UNESCAPED("\\N", "N"); /* not in a field of its own: a letter like others */
    UNESCAPED("\\.", ".");
    UNESCAPED("end\\", "end\\"); /* the server does not send this */
    UNESCAPED("\xf0\x9f\x90\x98", "\xf0\x9f\x90\x98");
}

static void test_split(void)
{
    uint32_t ends[4];

    CHECK(copytext_split("a\tbb\t\tc", 7, ends, 4));
    CHECK(ends[0] == 1 && ends[1] == 4 && ends[2] == 5 && ends[3] == 7);
    CHECK(copytext_split("", 0, ends, 1) && ends[0] == 0);
    CHECK(copytext_split("", 0, ends, 0));
    CHECK(copytext_split("\t", 1, ends, 2) && ends[0] == 0 && ends[1] == 1);
    CHECK(copytext_split("abc", 3, ends, 1) && ends[0] == 3);
    CHECK(!copytext_split("a\tb", 3, ends, 1) && !copytext_split("a\tb", 3, ends, 3));
    CHECK(!copytext_split("a\tb\tc", 5, ends, 2) && !copytext_split("", 0, ends, 2));
    CHECK(!copytext_split("a", 1, ends, 0));
}

static void test_escape(void)
{
    struct buf b;

    buf_init(&b, 100);
    copytext_escape(&b, "a\tb\nc\rd\\e", 9);
    copytext_escape(&b, "", 0);
    EQUAL_TEXT(b.data, b.len, "a\\tb\\nc\\rd\\\\e");
    buf_fini(&b);
}

static bool reads(const char *line, size_t len, int64_t wanted, size_t used)
{
    const char *p = line, *q = line;
    int64_t n = 99;
    uint64_t u = 99;

    return copytext_read_i64(&p, line + len, &n) && n == wanted && p == line + used &&
           (wanted < 0 || (copytext_read_u64(&q, line + len, &u) && u == (uint64_t)wanted &&
                           q == p));
}

static void test_numbers(void)
{
    static const char *const bad[] = { "", "\t", "a", "1a\t", "1 \t", "\\N\t" };
    const char *p = "\\N\tx";

    CHECK(reads("7\tx", 3, 7, 2) && reads("7\t", 2, 7, 2) && reads("7", 1, 7, 1));
    CHECK(reads("-7\tx", 4, -7, 3));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *q = bad[i];
        uint64_t n;
        int64_t k;

        CHECK(!copytext_read_u64(&q, q + strlen(q), &n) && q == bad[i]);
        CHECK(!copytext_read_i64(&q, q + strlen(q), &k) && q == bad[i]);
    }
    CHECK(copytext_skip_null(&p, p + 4) && *p == 'x');
    CHECK(!copytext_skip_null(&p, p + 1) && *p == 'x');
}

const struct unit_case copytext_cases[] = {
    { "copytext_null", test_null },
    { "copytext_unescape", test_unescape },
    { "copytext_split", test_split },
    { "copytext_escape", test_escape },
    { "copytext_numbers", test_numbers },
    { NULL, NULL },
};
