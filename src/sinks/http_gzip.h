/* http_gzip.h -- bodies that are compressed.
 *
 * SPDX-License-Identifier: MIT */
#ifndef HTTP_GZIP_H
#define HTTP_GZIP_H

#include "base/buf.h"

#include <stdbool.h>

/* Appends the text, compressed as quickly as can be. False without memory. */
bool http_gzip(const char *text, size_t len, struct buf *to) WARN_UNUSED;

#endif
