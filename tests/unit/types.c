/* types.c -- unit tests of what a column's text means.
 * SPDX-License-Identifier: MIT */
#include "pg/document.h"
#include "pg/types.h"
#include "unit.h"

#include <stdlib.h>
#include <string.h>

#define FIELD(text) ((struct copytext_field){ (text), sizeof(text) - 1 })

static void test_kinds(void)
{
    static const struct { uint32_t oid; enum types_kind kind; } known[] = {
        { 16, TYPES_BOOL }, { 17, TYPES_BYTEA }, { 20, TYPES_INT }, { 21, TYPES_INT },
        { 23, TYPES_INT }, { 25, TYPES_TEXT }, { 26, TYPES_TEXT }, { 114, TYPES_JSON },
        { 700, TYPES_FLOAT }, { 701, TYPES_FLOAT }, { 790, TYPES_TEXT }, { 1082, TYPES_TEXT },
        { 1114, TYPES_TIMESTAMP }, { 1184, TYPES_TIMESTAMP }, { 1700, TYPES_NUMERIC },
        { 3802, TYPES_JSON },
    };
    struct types_facts t = { 0 };

    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        t.oid = known[i].oid;
        CHECK(types_kind_of(&t) == known[i].kind && !types_wants_to_json(&t));
    }
    for (int what = 0; what < 3; what++) {
        t = (struct types_facts){ 99999, what == 0, what == 1, what == 2 };
        CHECK(types_wants_to_json(&t) && types_kind_of(&t) == TYPES_JSON);
    }
}

#define TIMESTAMP(text, wanted) do { \
        char to_[sizeof(text) + 2]; \
        size_t n_ = types_timestamp(FIELD(text), to_); \
        EQUAL_TEXT(to_, n_, wanted); } while (0)

static void test_timestamp(void)
{
    TIMESTAMP("2026-11-23 00:50:57.7219+00", "2026-11-23T00:50:57.7219+00:00");
    TIMESTAMP("2026-11-23 00:50:57+00", "2026-11-23T00:50:57+00:00");
    TIMESTAMP("2026-11-23 00:50:57.000001", "2026-11-23T00:50:57.000001");
    TIMESTAMP("2026-11-23 00:50:57", "2026-11-23T00:50:57");
    TIMESTAMP("0044-03-15 12:00:00+00 BC", "0044-03-15T12:00:00+00:00 BC");
    TIMESTAMP("0044-03-15 12:00:00.5 BC", "0044-03-15T12:00:00.5 BC");
    TIMESTAMP("294276-12-31 23:59:59.999999+00", "294276-12-31T23:59:59.999999+00:00");
    TIMESTAMP("4714-11-24 00:00:00 BC", "4714-11-24T00:00:00 BC");
    TIMESTAMP("infinity", "infinity");
    TIMESTAMP("-infinity", "-infinity");
    TIMESTAMP("2026-11-23 00:50:57+05:30", "2026-11-23T00:50:57+05:30");
    TIMESTAMP("1900-01-01 00:00:00-00:00:44", "1900-01-01T00:00:00-00:00:44");
    TIMESTAMP("", "");
    TIMESTAMP(" ", "T");
    TIMESTAMP("2026-11-23 ", "2026-11-23T");
}

static void test_bytea(void)
{
    static const char *const bad[] = { "", "\\", "\\\\", "\\x00", "\\\\X00", "\\\\x0", "\\\\x000",
        "\\\\x0g", "\\\\xg0", "\\\\xAB", "\\\\x 0", "abc" };
    char to[64];
    size_t len = 99;

    CHECK(types_bytea(FIELD("\\\\x"), to, &len) && len == 0);
    CHECK(types_bytea(FIELD("\\\\x00ff5c0a7f"), to, &len));
    EQUAL_TEXT(to, len, "\x00\xff\\\n\x7f");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK(!types_bytea((struct copytext_field){ bad[i], strlen(bad[i]) }, to, &len));
}

static void test_numbers(void)
{
    static const char *const good[] = { "0", "-0", "7", "10", "-12.5", "0.001", "1e5", "1E+5",
        "1.5e-300", "-0.0", "123456789012345678901234567890.5" };
    static const char *const bad[] = { "", "-", "+1", "01", "00", ".5", "5.", "1e", "1e+", "NaN",
        "Infinity", "-Infinity", "0x10", "1 ", " 1", "1,5", "--1", "1.2.3" };

    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        CHECK(document_is_number(good[i], strlen(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK(!document_is_number(bad[i], strlen(bad[i])));
}

#define JSON(kind, text, wanted) do { \
        struct buf b_; \
        buf_init(&b_, 10000); \
        CHECK(types_put_json(&b_, kind, FIELD(text)) && buf_ok(&b_)); \
        EQUAL_TEXT(b_.data, b_.len, wanted); \
        buf_fini(&b_); } while (0)

static void test_json_of_text(void)
{
    JSON(TYPES_TEXT, "", "\"\"");
    JSON(TYPES_TEXT, "12345678", "\"12345678\"");
    JSON(TYPES_TEXT, "12345678\"12345678/", "\"12345678\\\"12345678/\"");
    JSON(TYPES_TEXT, "\\b\\f\\n\\r\\t", "\"\\b\\f\\n\\r\\t\"");
    JSON(TYPES_TEXT, "\\v\x01\x1f\x7f", "\"\\u000b\\u0001\\u001f\x7f\"");
    JSON(TYPES_TEXT, "a\\\\b\\\\\\\\\"", "\"a\\\\b\\\\\\\\\\\"\"");
    JSON(TYPES_TEXT, "\\\\N", "\"\\\\N\"");
    JSON(TYPES_TEXT, "end\\", "\"end\\\\\"");
    JSON(TYPES_TEXT, "\xc3\xa9\xf0\x9f\x90\x98\xef\xbf\xbf""x",
         "\"\xc3\xa9\xf0\x9f\x90\x98\xef\xbf\xbf""x\"");
    JSON(TYPES_TEXT, "</script>", "\"</script>\"");
    JSON(TYPES_BYTEA, "\\\\x00ff", "\"\\\\x00ff\"");
}

static void test_json_of_the_rest(void)
{
    JSON(TYPES_BOOL, "t", "true");
    JSON(TYPES_BOOL, "f", "false");
    JSON(TYPES_INT, "-9223372036854775808", "-9223372036854775808");
    JSON(TYPES_FLOAT, "1e+300", "1e+300");
    JSON(TYPES_FLOAT, "-0", "-0");
    JSON(TYPES_FLOAT, "NaN", "\"NaN\"");
    JSON(TYPES_FLOAT, "-Infinity", "\"-Infinity\"");
    JSON(TYPES_NUMERIC, "0.10000000000000000000000000000000001",
         "0.10000000000000000000000000000000001");
    JSON(TYPES_NUMERIC, "Infinity", "\"Infinity\"");
    JSON(TYPES_TIMESTAMP, "2026-11-23 00:50:57.7219+00", "\"2026-11-23T00:50:57.7219+00:00\"");
    JSON(TYPES_TIMESTAMP, "infinity", "\"infinity\"");
    JSON(TYPES_JSON, "{\"a\": [1,\\n\\t2]}", "{\"a\": [1,  2]}");
    JSON(TYPES_JSON, "\"\\\\u0000 \\\\n \xc3\xa9\"", "\"\\u0000 \\n \xc3\xa9\"");
    JSON(TYPES_JSON, "\\r\\n1e400", "  1e400");
}

/* Eight bytes are looked at together: a special one is found at every place of them. */
static void test_json_finds_each_byte(void)
{
    static const unsigned char special[] = { 0x01, 0x1f, '"', 0x80, 0xff };

    for (size_t len = 1; len < 40; len++)
        for (size_t at = 0; at < len; at++)
            for (size_t k = 0; k < sizeof special; k++) {
                char text[40];
                struct buf b;
                bool ok;

                memset(text, k % 2 == 0 ? 'z' : '!', sizeof text);
                text[at] = (char)special[k];
                buf_init(&b, 1000);
                ok = types_put_string(&b, text, len);
                CHECK(ok == (special[k] < 0x80));
                if (ok)
                    EQUAL(b.len, len + 2 + (special[k] == '"' ? 1 : 5));
                buf_fini(&b);
            }
}

static void test_json_refuses_bad_utf8(void)
{
    static const enum types_kind kinds[] = { TYPES_TEXT, TYPES_JSON, TYPES_NUMERIC,
        TYPES_TIMESTAMP };

    for (size_t i = 0; unit_bad_utf8[i] != NULL; i++)
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
            for (int place = 0; place < 3; place++) {
                char text[64] = "";
                struct buf b;
                size_t len;

                if (place > 0)
                    strcat(text, "before \xc3\xa9");
                strcat(text, unit_bad_utf8[i]);
                if (place > 1)
                    strcat(text, " after");
                len = strlen(text);
                buf_init(&b, 1000);
                CHECK(!types_put_json(&b, kinds[k], (struct copytext_field){ text, len }));
                buf_clear(&b);
                CHECK(!types_put_text(&b, kinds[k], (struct copytext_field){ text, len }));
                buf_clear(&b);
                CHECK(!types_put_string(&b, text, len));
                buf_fini(&b);
            }
}

static void test_text_of_an_id(void)
{
    struct buf b;

    buf_init(&b, 1000);
    CHECK(types_put_text(&b, TYPES_TIMESTAMP, FIELD("2026-11-23 00:50:57+00")));
    buf_putc(&b, ',');
    CHECK(types_put_text(&b, TYPES_TEXT, FIELD("a\"\\tb")));
    EQUAL_TEXT(b.data, b.len, "2026-11-23T00:50:57+00:00,a\\\"\\tb");
    buf_fini(&b);
}

/* A server that lies cannot add to a line: what is no value of the kind is refused. */
static void test_json_refuses_what_is_none(void)
{
    static const char *const good[] = { "{}", "[]", " [ ] ", "{\"a\": [1, {\"b\": null}]}",
        "-1.5e+3", "true", "\"\"", "[[], {}, \"\\\\u00e9\\\\n\"]", "\\n[1,\\t2]", "0" };
    static const char *const bad[] = { "", " ", "{", "}", "[1", "[1,]", "[,1]", "{\"a\"}", "{a:1}",
        "{\"a\":}", "{\"a\":1,}", "[1}", "{]", "1,\"op\":\"delete\"", "{} {}", "1 2", "tru",
        "truex", "01", "+1", "1.", "nan", "\"", "\"a", "\"\\\\x\"", "\"\\\\u12g4\"", "\"\\\\", "x",
        "}\\n{\"op\":1}" };
    static const char *const no_integers[] = { "", "-", "x", "1,\"a\":2", "1 ", "1.5", "1\\n2",
        "02", "-01", "99999999999999999999" };
    char deep[2 * (DOCUMENT_DEPTH + 2)]; /* the innermost opens no level */
    struct buf b;

    buf_init(&b, 1000000);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        CHECK(types_put_json(&b, TYPES_JSON, (struct copytext_field){ good[i], strlen(good[i]) }));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK(!types_put_json(&b, TYPES_JSON, (struct copytext_field){ bad[i], strlen(bad[i]) }));
    for (size_t i = 0; i < sizeof no_integers / sizeof *no_integers; i++)
        CHECK(!types_put_json(&b, TYPES_INT,
                              (struct copytext_field){ no_integers[i], strlen(no_integers[i]) }));
    CHECK(!types_put_json(&b, TYPES_BOOL, FIELD("true")));
    memset(deep, '[', sizeof deep / 2);
    memset(deep + sizeof deep / 2, ']', sizeof deep / 2);
    CHECK(!types_put_json(&b, TYPES_JSON, (struct copytext_field){ deep, sizeof deep }));
    CHECK(types_put_json(&b, TYPES_JSON, (struct copytext_field){ deep + 1, sizeof deep - 2 }));
    buf_fini(&b);
}

/* A buffer that is full is told by the buffer. */
static void test_json_without_room(void)
{
    for (size_t max = 0; max < 12; max++) {
        struct buf b;

        buf_init(&b, max);
        CHECK(types_put_json(&b, TYPES_TEXT, FIELD("ab\\n\x01\xc3\xa9")));
        CHECK(!buf_ok(&b));
        buf_clear(&b);
        CHECK(types_put_json(&b, TYPES_JSON, FIELD("[1,2,3,4,5,6]")));
        CHECK(!buf_ok(&b));
        buf_fini(&b);
    }
}

const struct unit_case types_cases[] = {
    { "types_kinds", test_kinds },
    { "types_json_refuses_what_is_none", test_json_refuses_what_is_none },
    { "types_timestamp", test_timestamp },
    { "types_bytea", test_bytea },
    { "types_numbers", test_numbers },
    { "types_json_of_text", test_json_of_text },
    { "types_json_of_the_rest", test_json_of_the_rest },
    { "types_json_finds_each_byte", test_json_finds_each_byte },
    { "types_json_refuses_bad_utf8", test_json_refuses_bad_utf8 },
    { "types_text_of_an_id", test_text_of_an_id },
    { "types_json_without_room", test_json_without_room },
    { NULL, NULL },
};
