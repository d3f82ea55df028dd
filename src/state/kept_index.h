/* kept_index.h -- an index from hashes to numbers of rows.
 *
 * A table with open addressing: the upper half of a hash beside the row's
 * number. Counts, for each bucket of hashes, how many there are, and their xor.
 *
 * SPDX-License-Identifier: MIT */
#ifndef KEPT_INDEX_H
#define KEPT_INDEX_H

#include "base/err.h"
#include "capture/tally.h"

struct kept_index_entry {
    uint32_t tag; /* upper half of the hash */
    uint32_t id;  /* 0: free */
};

#define KEPT_INDEX_PART 8192 /* places that are written together */

/* Zeroed is empty. */
struct kept_index {
    struct kept_index_entry *v;
    size_t n_v, n;        /* n_v: a power of two, or 0 */
    unsigned char *is_changed; /* for each part: has it changed since kept_index_clean? */
    struct tally_bucket buckets[TALLY_BUCKETS];
};

void kept_index_fini(struct kept_index *s);

/* Parts of KEPT_INDEX_PART places; the last one may have less. */
size_t kept_index_parts(const struct kept_index *s);
void kept_index_clean(struct kept_index *s);

/* <n_v> free places, a power of two, or 0, in an empty one. */
bool kept_index_init(struct kept_index *s, size_t n_v, struct err *e) WARN_UNUSED;

/* Where a row with this tag would stand, and the place behind a place: the rows with a tag stand
 * between these and a free one. There must be places. */
size_t kept_index_home(const struct kept_index *s, uint32_t tag);
size_t kept_index_next(const struct kept_index *s, size_t i);

/* Makes room for one more. */
bool kept_index_make_room(struct kept_index *s, struct err *e) WARN_UNUSED;

void kept_index_add(struct kept_index *s, uint64_t hash, int64_t id);  /* there must be room */
void kept_index_drop(struct kept_index *s, uint64_t hash, int64_t id); /* it must be there */

#endif
