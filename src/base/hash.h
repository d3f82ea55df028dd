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

/* FNV-1a, in three ways: against accidents, not against malice. What they return is in files, so
 * it stays as it is. */
#define HASH_START 14695981039346656037u
static inline uint64_t hash_add(uint64_t h, uint64_t v)
{
    return (h ^ v) * 1099511628211u;
}

/* Byte by byte, going on from <h>. */
uint64_t hash_bytes(uint64_t h, const void *p, size_t len);

/* Eight bytes at a time, going on from <h>. */
uint64_t hash_words(uint64_t h, const void *p, size_t len);

/* The same, of a whole. */
uint64_t hash_digest(const void *p, size_t len);

#endif
