/* slots.h -- an index from hashes to numbers of rows.
 *
 * A table with open addressing: the upper half of a hash beside the row's
 * number. Counts, for each bucket of hashes, how many there are, and their xor.
 *
 * SPDX-License-Identifier: MIT */
#ifndef SLOTS_H
#define SLOTS_H

#include "capture/batch.h"

struct slot {
    uint32_t tag; /* upper half of the hash */
    uint32_t id;  /* 0: free */
};

#define SLOTS_PART 8192 /* places whose changes are noted together */

/* Zeroed is empty. */
struct slots {
    struct slot *v;
    size_t n_v, n;        /* n_v: a power of two, or 0 */
    unsigned char *dirty; /* for each part: has it changed since slots_clean? */
    struct bucket buckets[BUCKETS];
};

void slots_fini(struct slots *s);

/* Parts of SLOTS_PART places; the last one may have less. */
size_t slots_parts(const struct slots *s);
void slots_clean(struct slots *s);

/* <n_v> free places, a power of two, or 0, in an empty one. */
bool slots_init(struct slots *s, size_t n_v, struct err *e) WARN_UNUSED;

/* Where a row with this tag would stand, and the place behind a place: the rows with a tag stand
 * between these and a free one. There must be places. */
size_t slots_home(const struct slots *s, uint32_t tag);
size_t slots_next(const struct slots *s, size_t i);

/* Makes room for one more. */
bool slots_make_room(struct slots *s, struct err *e) WARN_UNUSED;

void slots_add(struct slots *s, uint64_t hash, int64_t id);  /* there must be room */
void slots_drop(struct slots *s, uint64_t hash, int64_t id); /* it must be there */

#endif
