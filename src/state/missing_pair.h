/* missing_pair.h -- which two rows of a bucket are missing, if just two are.
 *
 * All that is known of them is the xor of their hashes, and that both are known rows of the bucket.
 * If two of these have that xor, and no other two, they are the ones. (A bucket of 8000 rows has 32
 * million pairs, and hashes have 64 bits.) So the server need not be asked for its keys, which
 * takes another scan.
 *
 * SPDX-License-Identifier: MIT */
#ifndef MISSING_PAIR_H
#define MISSING_PAIR_H

#include "state/kept_rows.h"

struct missing_pair {
    size_t first, width; /* the bucket: so many of those of kept_rows_buckets, from the first on */
    uint64_t xor;        /* of the hashes of both */
    bool is_found;       /* the ids are those of the rows */
    uint32_t ids[2];
};

/* Looks for <n> pairs, each of another bucket. Sets is_found of each. */
bool missing_pair_find(struct kept_rows *k, struct missing_pair *pairs, size_t n,
                        struct err *e) WARN_UNUSED;

#endif
