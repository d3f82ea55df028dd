/* text.h -- the nearest of several names, for error messages.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TEXT_H
#define TEXT_H

#include <stddef.h>

/* How many letters must be added, dropped or changed to turn <a> into <b>
 * (Levenshtein); only the first 64 letters of each count. */
size_t text_distance(const char *a, const char *b);

/* The nearest of <n> names if it is near enough to be a typing error, else NULL. */
const char *text_nearest(const char *word, const char *const *names, size_t n);

#endif
