/* text.h -- small tools for text.
 *
 * Characters in UTF-8, what a terminal may be shown, numbers, sizes, hex digits, sorting of names,
 * the nearest name. Pure functions.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TEXT_H
#define TEXT_H

#include "base/warn.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf;

/* The number of bytes of the UTF-8 character at <s>, 1 to 4; 0 if there is none. <len>: how many
 * bytes there are from <s> on, at least 1. */
size_t text_utf8_length(const char *s, size_t len);

/* True if the UTF-8 character at <s>, of <len> bytes, does something to a terminal or to an editor,
 * or to the order in which text is shown: a control, a line separator, a direction mark. */
bool text_is_control(const char *s, size_t len);

/* Appends <n> bytes of text for people to read: a control is written \n, \t or \uXXXX, and a byte
 * that belongs to no character as U+FFFD. */
void text_put_plain(struct buf *b, const char *s, size_t n);

/* ---- numbers ---- */

/* Reads the decimal number that the text at *p begins with; the text ends at <end> or, if that is
 * NULL, at a NUL. Moves *p to the byte after the digits. False, and *p stays, if there is no digit
 * or the number is too big. */
bool text_read_u64(const char **p, const char *end, uint64_t *n) WARN_UNUSED;
bool text_read_i64(const char **p, const char *end, int64_t *n) WARN_UNUSED; /* or - and digits */

/* True if <text> is a decimal number and nothing else. *n is 0 if it is not. */
bool text_is_u64(const char *text, uint64_t *n);
bool text_is_i64(const char *text, int64_t *n);

/* Reads "256M" as a number of bytes: K, M, G and T, or small letters, are powers of 1024. False if
 * <text> is not a number above 0, alone or with one of these letters. */
bool text_read_size(const char *text, double *bytes) WARN_UNUSED;

/* ---- hex ---- */

/* Writes two digits, with small letters, for each of <len> bytes, without a NUL. Returns the end of
 * them. */
char *text_put_hex(char *to, const void *p, size_t len);

/* The value of a hex digit, 0 to 9 or a to f; -1 if <c> is none. */
int text_hex_digit(char c);

/* ---- names ---- */

struct text_name {
    const char *p;
    size_t len;
};

/* Sorts by bytes, as memcmp compares. */
void text_sort_names(struct text_name *names, size_t n);

/* How many bytes must be added, dropped or changed to turn <a> into <b> (Levenshtein), whatever the
 * case of letters; only the first 64 of each count. */
size_t text_distance(const char *a, const char *b);

/* The nearest of <n> names if <word> may be that name with a typing error, else NULL. Borrowed. */
const char *text_nearest(const char *word, const char *const *names, size_t n);

#endif
