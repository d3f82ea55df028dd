/* bytes.c -- unit tests of numbers and texts of a message.
 * SPDX-License-Identifier: MIT */
#include "base/bytes.h"

#include "unit.h"

#include <string.h>

static void test_read(void)
{
    struct bytes b = { "\x01\xff\xfe\x80\0\0\x02\xff\xff\xff\xff\xff\xff\xff\xfe" "a\0b", 18 };
    const char *text;
    uint64_t wide;
    int64_t with_sign;
    uint32_t n;
    uint16_t small;
    uint8_t byte;

    CHECK(bytes_u8(&b, &byte) && byte == 1);
    CHECK(bytes_u16(&b, &small) && small == 0xfffe);
    CHECK(bytes_u32(&b, &n) && n == 0x80000002u);
    CHECK(bytes_i64(&b, &with_sign) && with_sign == -2);
    CHECK(!bytes_u64(&b, &wide) && !bytes_u32(&b, &n) && b.left == 3);
    CHECK(bytes_text(&b, &text) && strcmp(text, "a") == 0);
    CHECK(!bytes_text(&b, &text) && !bytes_u16(&b, &small) && !bytes_run(&b, 2, &text));
    CHECK(bytes_run(&b, 1, &text) && *text == 'b' && b.left == 0);
    CHECK(bytes_run(&b, 0, &text) && !bytes_u8(&b, &byte) && !bytes_text(&b, &text));
    CHECK(!bytes_run(&b, SIZE_MAX, &text));
}

static void test_put(void)
{
    char to[9], *end = bytes_put_u64(bytes_put_u8(to, 0xfe), 0x0102030405060708u);

    CHECK(end == to + sizeof to);
    EQUAL_TEXT(to, sizeof to, "\xfe\1\2\3\4\5\6\7\x08");
}

const struct unit_case bytes_cases[] = {
    { "bytes_read", test_read },
    { "bytes_put", test_put },
    { NULL, NULL },
};
