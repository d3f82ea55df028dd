/* buf.c -- unit tests of growable runs of bytes.
 * SPDX-License-Identifier: MIT */
#include "base/buf.h"

#include "unit.h"

#include <stdlib.h>
#include <string.h>

static void test_append(void)
{
    struct buf b;

    buf_init(&b, 1000000);
    CHECK(buf_ok(&b) && b.len == 0);
    buf_add(&b, "", 0);
    CHECK(buf_ok(&b) && b.len == 0);
    buf_puts(&b, "one");
    buf_putc(&b, '\0');
    buf_add(&b, "two", 3);
    buf_put_u64(&b, 0);
    buf_putc(&b, ' ');
    buf_put_u64(&b, UINT64_MAX);
    buf_printf(&b, "%s %d", "", -5);
    EQUAL_TEXT(b.data, b.len, "one\0two0 18446744073709551615 -5");
    CHECK(b.data[b.len] == '\0');
    buf_clear(&b);
    CHECK(b.len == 0 && buf_ok(&b));
    for (int i = 0; i < 100000; i++)
        buf_putc(&b, (char)('a' + i % 26));
    CHECK(buf_ok(&b) && b.len == 100000 && b.data[99999] == 'a' + 99999 % 26);
    buf_fini(&b);
    CHECK(b.data == NULL && b.len == 0);
    buf_fini(&b);
}

/* The maximum holds to the byte, whatever the way of appending, and failure sticks. */
static void test_maximum(void)
{
    for (int way = 0; way < 4; way++)
        for (size_t max = 0; max < 70; max++) {
            struct buf b;
            size_t n = 0;

            buf_init(&b, max);
            do {
                if (way == 0)
                    buf_putc(&b, 'x');
                else if (way == 1)
                    buf_add(&b, "x", 1);
                else if (way == 2)
                    buf_printf(&b, "%c", 'x');
                else
                    buf_put_u64(&b, 7);
            } while (buf_ok(&b) && ++n < 100);
            EQUAL(n, max);
            EQUAL(b.len, max);
            buf_puts(&b, "");
            CHECK(!buf_ok(&b) && buf_reserve(&b, 0) == NULL);
            CHECK(buf_take(&b) == NULL && b.data == NULL);
            buf_clear(&b);
            CHECK(buf_ok(&b));
            buf_fini(&b);
        }
}

static void test_a_failed_append_adds_nothing(void)
{
    struct buf b;

    buf_init(&b, 10);
    buf_puts(&b, "12345678");
    buf_puts(&b, "901");
    CHECK(!buf_ok(&b));
    EQUAL_TEXT(b.data, b.len, "12345678");
    buf_puts(&b, "9");
    EQUAL(b.len, 8);
    buf_fini(&b);
}

static void test_reserve_and_take(void)
{
    struct buf b;
    char *p;

    buf_init(&b, 1 << 20);
    for (size_t n = 1; n < 5000; n += 37) {
        p = buf_reserve(&b, n);
        CHECK(p != NULL && p == b.data + b.len);
        memset(p, 'y', n);
        b.len += n;
    }
    p = buf_take(&b);
    CHECK(p != NULL && strspn(p, "y") == strlen(p) && b.data == NULL && b.len == 0);
    free(p);
    p = buf_take(&b); /* empty is not failed */
    CHECK(p != NULL && *p == '\0');
    free(p);
    CHECK(buf_reserve(&b, (1 << 20) + 1) == NULL && !buf_ok(&b));
    buf_clear(&b);
    CHECK(buf_reserve(&b, SIZE_MAX) == NULL && !buf_ok(&b));
    buf_fini(&b);
}

const struct unit_case buf_cases[] = {
    { "buf_append", test_append },
    { "buf_maximum", test_maximum },
    { "buf_a_failed_append_adds_nothing", test_a_failed_append_adds_nothing },
    { "buf_reserve_and_take", test_reserve_and_take },
    { NULL, NULL },
};
