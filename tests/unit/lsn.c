/* lsn.c -- unit tests of positions in the log.
 * SPDX-License-Identifier: MIT */
#include "pg/lsn.h"

#include "unit.h"

#include <string.h>

static void test_read(void)
{
    uint64_t lsn;

    CHECK(lsn_read("0/0", &lsn) && lsn == 0);
    CHECK(lsn_read("16/B374D848", &lsn) && lsn == 0x16b374d848u);
    CHECK(lsn_read("16/b374d848", &lsn) && lsn == 0x16b374d848u);
    CHECK(lsn_read("FFFFFFFF/FFFFFFFF", &lsn) && lsn == UINT64_MAX);
    CHECK(lsn_read("1/00000001", &lsn) && lsn == ((uint64_t)1 << 32 | 1));
}

static void test_read_nonsense(void)
{
    static const char *const bad[] = {
        "", "/", "0", "0/", "/0", "0/0/0", "0/0 ", " 0/0", "0/-1", "0x1/0", "123456789/0",
        "0/123456789", "G/0", "0/G", "0//0", NULL,
    };
    uint64_t lsn = 7;

    for (size_t i = 0; bad[i] != NULL; i++, lsn = 7) {
        CHECK(!lsn_read(bad[i], &lsn));
        EQUAL(lsn, 0);
    }
}

static void test_write(void)
{
    char text[LSN_TEXT];

    CHECK(strcmp(lsn_write(0, text), "0/0") == 0);
    CHECK(strcmp(lsn_write(0x16b374d848u, text), "16/B374D848") == 0);
    CHECK(strcmp(lsn_write(UINT64_MAX, text), "FFFFFFFF/FFFFFFFF") == 0);
}

const struct unit_case lsn_cases[] = {
    { "lsn_read", test_read },
    { "lsn_read_nonsense", test_read_nonsense },
    { "lsn_write", test_write },
    { NULL, NULL },
};
