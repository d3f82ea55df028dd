/* hash.h -- SHA-256 of bytes, by libcrypto.                           floor 0
 *
 * SPDX-License-Identifier: MIT */
#ifndef HASH_H
#define HASH_H

#include <stdbool.h>
#include <stddef.h>

enum { HASH_TEXT = 64 }; /* hex digits of a digest */

/* Writes the digest of <len> bytes as hex digits, without a NUL behind them. False if the
 * library refuses (no memory, or a policy). */
bool hash_sha256(const void *p, size_t len, char to[HASH_TEXT]);

#endif
