/* key_multiset.h -- keys to be met again, each as often as it was given.
 *
 * SPDX-License-Identifier: MIT */
#ifndef KEY_MULTISET_H
#define KEY_MULTISET_H

#include "base/err.h"

#include <stddef.h>

/* Zeroed is empty. */
struct key_multiset {
    struct key_multiset_entry *v; /* sorted */
    size_t n;
};

/* From a text with a newline behind each key, which is borrowed. False: out of memory. */
bool key_multiset_init(struct key_multiset *k, const char *text) WARN_UNUSED;
void key_multiset_fini(struct key_multiset *k);

/* True, once for each time that it was given, if the key is there. */
bool key_multiset_take(struct key_multiset *k, const char *key, size_t len);

#endif
