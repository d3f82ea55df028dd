/* hash.h -- SHA-256 by libcrypto, and a quick hash for checks.
 *
 * SPDX-License-Identifier: MIT */
#ifndef HASH_H
#define HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HASH_TEXT = 64 }; /* hex digits of a digest */

/* Writes the digest of <len> bytes as hex digits, without a NUL behind them. False if the
 * library refuses (no memory, or a policy). */
bool hash_sha256(const void *p, size_t len, char to[HASH_TEXT]);

/* FNV-1a, eight bytes at a time, that goes on from <h>: against accidents, not against malice. */
#define HASH_START 14695981039346656037u
uint64_t hash_mix(uint64_t h, const void *p, size_t len);

#endif
