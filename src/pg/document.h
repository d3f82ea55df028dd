/* document.h -- whether a text is JSON.
 *
 * JSON that a server sends passes through us as it is, so a server that lies could add what it
 * likes to a line of output: hence the check. Pure functions.
 *
 * SPDX-License-Identifier: MIT */
#ifndef DOCUMENT_H
#define DOCUMENT_H

#include <stdbool.h>
#include <stddef.h>

/* True if <len> bytes are one JSON value, at most DOCUMENT_DEPTH levels deep, with nothing but
 * blanks around its parts. That they are UTF-8, and whether numbers and names are sensible, is not
 * looked at. */
#define DOCUMENT_DEPTH 65536
bool document_check(const char *s, size_t len);

/* True if the text is a JSON number (and not NaN or Infinity). */
bool document_is_number(const char *s, size_t len);

#endif
