/* tally.h -- how many keys there are, counted by the upper bits of their hashes.
 *
 * The server counts the keys of a table, the host those of the rows that it delivered. A bucket in
 * which the counts or the xors differ holds a row that was inserted or deleted.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TALLY_H
#define TALLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TALLY_BUCKETS 16384u
#define TALLY_SHIFT 50 /* hash >> TALLY_SHIFT: the number of its bucket */

struct tally_bucket {
    uint64_t count, xor; /* how many hashes; the xor of all of them */
};

/* What the server has. Zeroed at birth. */
struct tally {
    struct tally_bucket buckets[TALLY_BUCKETS];
    uint64_t *hashes;    /* owned: of the keys of the poll's rows */
    size_t n_hashes;
    bool is_truncated;   /* the table is empty, and all its files are new */
};

/* What the host asks for after a tally: the keys of the buckets whose bit is set. */
struct tally_request {
    bool is_learning; /* all rows, since it has none yet */
    unsigned char buckets[TALLY_BUCKETS / 8];
};

/* NULL is legal. */
void tally_free(struct tally *t);

#endif
