/* bytes.h -- numbers and texts of a message, with the most significant byte first.
 *
 * Each function takes something from the beginning of what is left, and fails if there is less.
 * After a failure nothing was taken.
 *
 * SPDX-License-Identifier: MIT */
#ifndef BYTES_H
#define BYTES_H

#include "base/warn.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Borrows. */
struct bytes {
    const char *p;
    size_t left;
};

bool bytes_u8(struct bytes *b, uint8_t *n) WARN_UNUSED;
bool bytes_u16(struct bytes *b, uint16_t *n) WARN_UNUSED;
bool bytes_u32(struct bytes *b, uint32_t *n) WARN_UNUSED;
bool bytes_u64(struct bytes *b, uint64_t *n) WARN_UNUSED;
bool bytes_i64(struct bytes *b, int64_t *n) WARN_UNUSED;

/* A text with a NUL at its end, which is taken too. Borrowed. */
bool bytes_text(struct bytes *b, const char **text) WARN_UNUSED;

/* <len> bytes, borrowed. */
bool bytes_run(struct bytes *b, size_t len, const char **p) WARN_UNUSED;

/* Write a number to <to>. Return the byte after it. */
char *bytes_put_u8(char *to, uint8_t n);
char *bytes_put_u64(char *to, uint64_t n);

#endif
