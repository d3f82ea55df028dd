/* hash.c -- SHA-256 of bytes, by libcrypto.
 * SPDX-License-Identifier: MIT */
#include "base/hash.h"

#include <openssl/evp.h>
#include <string.h>

bool hash_sha256(const void *p, size_t len, char to[HASH_TEXT])
{
    static const char hex[] = "0123456789abcdef";
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int n = 0;

    if (EVP_Digest(p, len, digest, &n, EVP_sha256(), NULL) != 1 || n * 2 != HASH_TEXT)
        return false;
    for (size_t i = 0; i < n; i++) {
        to[2 * i] = hex[digest[i] >> 4];
        to[2 * i + 1] = hex[digest[i] & 15];
    }
    return true;
}

uint64_t hash_mix(uint64_t h, const void *p, size_t len)
{
    const char *s = p;
    uint64_t word;

    for (; len >= sizeof word; s += sizeof word, len -= sizeof word) {
        memcpy(&word, s, sizeof word);
        h = (h ^ word) * 1099511628211u;
        h ^= h >> 32;
    }
    word = 0;
    memcpy(&word, s, len);
    return (h ^ word ^ (uint64_t)len << 56) * 1099511628211u;
}
