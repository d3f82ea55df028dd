/* keyset.h -- keys to be met again, each as often as it was given.
 *
 * SPDX-License-Identifier: MIT */
#ifndef KEYSET_H
#define KEYSET_H

#include "base/err.h"

#include <stddef.h>

/* Zeroed is empty. */
struct keyset {
    struct keyset_entry *v; /* sorted */
    size_t n;
};

/* From a text with a newline behind each key, which is borrowed. False: out of memory. */
bool keyset_init(struct keyset *k, const char *text) WARN_UNUSED;
void keyset_fini(struct keyset *k);

/* True, once for each time that it was given, if the key is there. */
bool keyset_take(struct keyset *k, const char *key, size_t len);

#endif
