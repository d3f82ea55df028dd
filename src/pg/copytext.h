/* copytext.h -- the fields of a line of COPY in text format.
 *
 * Tabs separate fields, \N is NULL, and a backslash stands before b f n r t v or itself
 * (checked on 14 to 18). Pure functions.
 *
 * SPDX-License-Identifier: MIT */
#ifndef COPYTEXT_H
#define COPYTEXT_H

#include "base/buf.h"

#include <stdint.h>

/* One field as it is in the line, with backslashes. Borrows from the line. */
struct copytext_field {
    const char *p;
    size_t len;
};

/* Splits a line of <n> fields: <ends>[i] is the offset after field i.
 * False if the line has another number of fields. */
bool copytext_split(const char *line, size_t len, uint32_t *ends, size_t n) WARN_UNUSED;

/* True for \N, which is NULL. */
bool copytext_is_null(struct copytext_field f);

/* What stands in the place of a value that is not known. COPY does not have it. */
#define COPYTEXT_UNKNOWN "\\U"
bool copytext_is_unknown(struct copytext_field f);

/* Writes the text of the field, without COPY's backslashes, into <to>, which has room for f.len
 * bytes. Returns the number of bytes written. */
size_t copytext_unescape(struct copytext_field f, char *to);

/* The byte that a backslash and <c> stand for. */
char copytext_unescape_char(char c);

/* Appends <len> bytes of text as a field: backslashes before special characters, so that it has no
 * tab and no newline. */
void copytext_escape(struct buf *b, const char *s, size_t len);

/* Read the field at *p as a number, and move *p to the next field, or to <end>, the end of the
 * line. False, and *p stays, if the field is no number. */
bool copytext_read_u64(const char **p, const char *end, uint64_t *n) WARN_UNUSED;
bool copytext_read_i64(const char **p, const char *end, int64_t *n) WARN_UNUSED;

/* Moves *p over \N and the tab after it, and returns true. False if they are not at *p. */
bool copytext_skip_null(const char **p, const char *end);

#endif
