/* kept_index.h -- an index from hashes to numbers of rows.
 *
 * A table with open addressing: the upper half of a hash beside the row's
 * number. Counts, for each bucket of hashes, how many there are, and their xor.
 *
 * It is no index of SQLite on the hash: hashes come in no order, so each
 * chunk of a snapshot changes nearly all pages of such an index, and each of
 * them is written twice. Measured with `ONLY=deletes make bench`, 500,000 rows,
 * the same program with and without that index, C as there:
 *
 *                                     this   SQLite, cache of 2 MB   of 40 MB
 *   bigint: snapshot                 4.3 C                  10.7 C     14.7 C
 *           bytes a row in the file   67.8                    86.5       86.5
 *   uuid:   snapshot                 2.8 C                  30.2 C      6.9 C
 *           peak memory              38 MB                   47 MB      88 MB
 *
 * (On a busy machine: of each column only the ratio to the first one counts.)
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
    size_t n_v, n;             /* places, a power of two or 0; entries */
    unsigned char *is_changed; /* for each part: true if it changed since kept_index_clean */
    struct tally_bucket buckets[TALLY_BUCKETS];
};

void kept_index_fini(struct kept_index *x);

/* Parts of KEPT_INDEX_PART places; the last one may have less. */
size_t kept_index_parts(const struct kept_index *x);
void kept_index_clean(struct kept_index *x);

/* <n_v> free places, a power of two, or 0, in an empty one. */
bool kept_index_init(struct kept_index *x, size_t n_v, struct err *e) WARN_UNUSED;

/* Where a row with this tag would stand, and the place after a place: the rows with a tag stand
 * between these and a free one. There must be places. */
size_t kept_index_home(const struct kept_index *x, uint32_t tag);
size_t kept_index_next(const struct kept_index *x, size_t i);

/* Makes room for one more. */
bool kept_index_make_room(struct kept_index *x, struct err *e) WARN_UNUSED;

void kept_index_add(struct kept_index *x, uint64_t hash, int64_t id);  /* there must be room */
void kept_index_drop(struct kept_index *x, uint64_t hash, int64_t id); /* it must be there */

#endif
