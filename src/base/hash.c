/* hash.c -- SHA-256 by libcrypto, and quick hashes for checks.
 * SPDX-License-Identifier: MIT */
#include "base/hash.h"

#include "base/text.h"

#include <openssl/evp.h>
#include <string.h>

bool hash_sha256(const void *p, size_t len, char to[HASH_TEXT])
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int n = 0;

    if (EVP_Digest(p, len, digest, &n, EVP_sha256(), NULL) != 1 || n * 2 != HASH_TEXT)
        return false;
    text_put_hex(to, digest, n);
    return true;
}

uint64_t hash_bytes(uint64_t h, const void *p, size_t len)
{
    const unsigned char *s = p;

    for (size_t i = 0; i < len; i++)
        h = hash_add(h, s[i]);
    return h;
}

/* Adds the words of eight bytes. Sets *tail to the bytes after the last word, then zeros. */
static uint64_t add_words(uint64_t h, const char *s, size_t len, uint64_t *tail)
{
    uint64_t word;

    for (; len >= sizeof word; s += sizeof word, len -= sizeof word) {
        memcpy(&word, s, sizeof word);
        h = hash_add(h, word);
        h ^= h >> 32;
    }
    *tail = 0;
    memcpy(tail, s, len);
    return h;
}

uint64_t hash_words(uint64_t h, const void *p, size_t len)
{
    uint64_t tail;

    h = add_words(h, p, len, &tail);
    return hash_add(h, tail ^ (uint64_t)(len % sizeof tail) << 56);
}

uint64_t hash_digest(const void *p, size_t len)
{
    uint64_t tail, h = add_words(HASH_START ^ len, p, len, &tail);

    h = hash_add(h, tail);
    return h ^ h >> 29;
}
