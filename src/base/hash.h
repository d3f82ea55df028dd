/* hash.h -- SHA-256 by libcrypto, and quick hashes for checks.
 *
 * SPDX-License-Identifier: MIT */
#ifndef HASH_H
#define HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HASH_TEXT = 64 }; /* hex digits of a digest */

/* Writes the digest of <len> bytes as hex digits, without a NUL after them. False if the
 * library refuses (no memory, or a policy). */
bool hash_sha256(const void *p, size_t len, char to[HASH_TEXT]);

/* FNV-1a and two variants of it, which find accidents, not malice. Files contain what they return,
 * so their results must never change. They begin with HASH_START. */
#define HASH_START 14695981039346656037u
/* One step of them: <h> and a byte, or a number. */
static inline uint64_t hash_add(uint64_t h, uint64_t v)
{
    return (h ^ v) * 1099511628211u;
}

/* FNV-1a, byte by byte. Goes on from <h>, which an earlier call may have returned. */
uint64_t hash_bytes(uint64_t h, const void *p, size_t len);

/* Eight bytes at a time, which is faster. Goes on from <h>, as above. The result differs from that
 * of hash_bytes, and depends on where a text is cut into several calls. */
uint64_t hash_words(uint64_t h, const void *p, size_t len);

/* Eight bytes at a time, of one text. The result differs from that of hash_words. */
uint64_t hash_digest(const void *p, size_t len);

#endif
