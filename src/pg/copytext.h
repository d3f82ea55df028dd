/* copytext.h -- the fields of a line of COPY in text format.
 *
 * Fields are separated by tabs, \N is NULL, and a backslash stands before b f n r t v or itself
 * (checked on 14 to 18). Pure functions.
 *
 * SPDX-License-Identifier: MIT */
#ifndef COPYTEXT_H
#define COPYTEXT_H

#include "base/buf.h"

#include <stdint.h>

/* One field as it stands in the line. */
struct copytext_field {
    const char *p;
    size_t len;
};

/* Splits a line of <n> fields: <ends>[i] is the offset after field i.
 * False if the line has another number of fields. */
bool copytext_split(const char *line, size_t len, uint32_t *ends, size_t n) WARN_UNUSED;

/* True for \N, which is NULL. */
bool copytext_is_null(struct copytext_field f);

/* Undoes the backslashes into <to>, which has room for f.len bytes. Returns the number of bytes
 * written. */
size_t copytext_unescape(struct copytext_field f, char *to);

/* The byte that a backslash and <c> stand for. */
char copytext_unescape_char(char c);

/* Appends <len> bytes of text with backslashes: neither tab nor newline is left in it. */
void copytext_escape(struct buf *b, const char *s, size_t len);

/* Read the number that the line begins with at *p, and the tab after it if the line, which ends at
 * <end>, goes on: *p moves to the next field. False if that is no number. */
bool copytext_read_u64(const char **p, const char *end, uint64_t *n) WARN_UNUSED;
bool copytext_read_i64(const char **p, const char *end, int64_t *n) WARN_UNUSED;

/* Moves *p over \N and the tab after it, if they stand there. */
bool copytext_skip_null(const char **p, const char *end);

#endif
