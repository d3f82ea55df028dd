/* utf8.h -- is this text?
 *
 * SPDX-License-Identifier: MIT */
#ifndef UTF8_H
#define UTF8_H

#include <stddef.h>

/* How many bytes the UTF-8 character at <s> has (1 to 4), 0 if it is none. <len>, not 0: how
 * many bytes there are. */
size_t utf8_length(const char *s, size_t len);

#endif
