/* id_part.h -- the parts of an id, which separators end.
 *
 * In a part the separators that could end it are written %2C for ",", and so on.
 * Text that looks like that already gets one more "25" after the "%". So two
 * lists of parts never make the same text, and what is not ambiguous is written
 * as it is.
 *
 * SPDX-License-Identifier: MIT */
#ifndef ID_PART_H
#define ID_PART_H

#include <stdbool.h>
#include <stddef.h>

/* Writes <len> bytes, of text or of COPY text, as a part that the characters <separators> could
 * end, into <to>, which has room for 3 * len. Returns the number of bytes written. */
size_t id_part_write(char *to, const char *s, size_t len, const char *separators);

/* True if what is at <s>, of which <len> bytes are left, is <c>, or looks as if it was escaped:
 * *n bytes of it. */
bool id_part_is(const char *s, size_t len, char c, size_t *n);

/* Writes the character of which id_part_is was true, escaped once more: *n + 2 bytes. */
size_t id_part_escape(char *to, const char *s, size_t n);

#endif
