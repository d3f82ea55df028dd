/* hash.c -- unit tests of hashes, whose values are in files.
 * SPDX-License-Identifier: MIT */
#include "base/hash.h"

#include "unit.h"

#include <string.h>

static void test_quick(void)
{
    static const struct { const char *text; uint64_t bytes, words, digest; } cases[] = {
        { "", 0xcbf29ce484222325, 0xaf63bd4c8601b7df, 0xaf63bd49fd1c5dbb },
        { "a", 0xaf63dc4c8601ec8c, 0xfc63dc4c8601ec8c, 0xaf63dd49fd1f045b },
        { "12345678", 0x173932c41a90a42d, 0x991b593587c28476, 0x992319314ea05fc2 },
        { "the quick brown fox", 0x59aeb7b40bd8c122, 0xa7a1638bcf8f6de2, 0x3935088d45c34353 },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t len = strlen(cases[i].text);

        EQUAL(hash_bytes(HASH_START, cases[i].text, len), cases[i].bytes);
        EQUAL(hash_words(HASH_START, cases[i].text, len), cases[i].words);
        EQUAL(hash_digest(cases[i].text, len), cases[i].digest);
    }
    EQUAL(hash_bytes(hash_bytes(HASH_START, "the quick", 9), " brown fox", 10), cases[3].bytes);
}

static void test_sha256(void)
{
    char to[HASH_TEXT];

    CHECK(hash_sha256("abc", 3, to));
    EQUAL_TEXT(to, HASH_TEXT, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

const struct unit_case hash_cases[] = {
    { "hash_quick", test_quick },
    { "hash_sha256", test_sha256 },
    { NULL, NULL },
};
