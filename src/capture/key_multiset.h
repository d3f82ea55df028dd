/* key_multiset.h -- a multiset of keys: each is matched as often as it was added.
 *
 * SPDX-License-Identifier: MIT */
#ifndef KEY_MULTISET_H
#define KEY_MULTISET_H

#include "base/err.h"

#include <stddef.h>

/* Zeroed is empty. */
struct key_multiset {
    struct key_multiset_entry *v; /* sorted */
    size_t n; /* those that were taken included */
};

/* Makes <k> of a text with a newline after each key, which is borrowed until key_multiset_fini.
 * False: out of memory. */
bool key_multiset_init(struct key_multiset *k, const char *text) WARN_UNUSED;
void key_multiset_fini(struct key_multiset *k);

/* Removes the key once; true if it was there. */
bool key_multiset_take(struct key_multiset *k, const char *key, size_t len);

#endif
