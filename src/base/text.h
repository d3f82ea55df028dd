/* text.h -- small things that are done with text.
 *
 * Characters in UTF-8, numbers, sizes, hex digits, names in order, the name that was meant.
 * Pure functions.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TEXT_H
#define TEXT_H

#include "base/warn.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How many bytes the UTF-8 character at <s> has (1 to 4), 0 if it is none. <len>, not 0: how
 * many bytes there are. */
size_t text_utf8_length(const char *s, size_t len);

/* ---- numbers ---- */

/* Reads a decimal number at *p, which ends at <end> or, with NULL, at its NUL; *p moves to what
 * follows the digits. False, and *p stays, if there is no digit or the number is too big. */
bool text_read_u64(const char **p, const char *end, uint64_t *n) WARN_UNUSED;
bool text_read_i64(const char **p, const char *end, int64_t *n) WARN_UNUSED; /* also with a - */

/* True if <text> is a decimal number and nothing else. *n is 0 if it is not. */
bool text_is_u64(const char *text, uint64_t *n);
bool text_is_i64(const char *text, int64_t *n);

/* Reads "256M" as a number of bytes: K, M, G and T are powers of 1024, in either case. False if
 * it is no number above 0 with one of these or without. */
bool text_read_size(const char *text, double *bytes) WARN_UNUSED;

/* ---- hex ---- */

/* Writes two digits for each of <len> bytes, without a NUL. Returns the end of what it wrote. */
char *text_put_hex(char *to, const void *p, size_t len);

/* The value of a digit, of which letters are small; -1 if it is none. */
int text_hex_digit(char c);

/* ---- names ---- */

struct text_name {
    const char *p;
    size_t len;
};

/* Sorts by bytes. */
void text_sort_names(struct text_name *names, size_t n);

/* How many bytes must be added, dropped or changed to turn <a> into <b> (Levenshtein); only the
 * first 64 of each count. */
size_t text_distance(const char *a, const char *b);

/* The nearest of <n> names if it is near enough to be a typing error, else NULL. */
const char *text_nearest(const char *word, const char *const *names, size_t n);

#endif
