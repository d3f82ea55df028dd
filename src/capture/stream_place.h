/* stream_place.h -- how far a source is in a transaction of the server's log.
 *
 * A transaction may come again of which changes were made before: a position is in it, or the
 * connection was lost in it. They are passed over; that it has them is checked, since the log of
 * another server would not. Pure.
 *
 * SPDX-License-Identifier: MIT */
#ifndef STREAM_PLACE_H
#define STREAM_PLACE_H

#include "base/err.h"
#include "capture/logical.h"

/* Zeroed is before any transaction. */
struct stream_place {
    struct logical_inside before; /* the changes up to here were made before */
    uint64_t commit; /* of the transaction in hand: where its commit record begins; 0: none is */
    uint64_t n;      /* its changes that came, also those that are passed over */
    uint64_t lsn;    /* of the last one, */
    uint64_t nth;    /* and its number among those with this LSN */
    uint64_t n_met;  /* of the changes with the LSN of <before>, how many came */
};

/* A transaction begins that commits at <commit>. ERR_STATE if the one should come that <before> is
 * in. */
bool stream_place_begin(struct stream_place *p, uint64_t commit, struct err *e) WARN_UNUSED;

/* A change comes, whose record is at <lsn>. *is_passed: it was made before. ERR_STATE if one is
 * missing that was. */
bool stream_place_count(struct stream_place *p, uint64_t lsn, bool *is_passed,
                        struct err *e) WARN_UNUSED;

/* The transaction is over. ERR_STATE as above. */
bool stream_place_end(struct stream_place *p, struct err *e) WARN_UNUSED;

/* All before <lsn> came, which no transaction is in. ERR_STATE as above. */
bool stream_place_pass(const struct stream_place *p, uint64_t lsn, struct err *e) WARN_UNUSED;

/* What was made of the transaction in hand. */
struct logical_inside stream_place_made(const struct stream_place *p);

/* The transaction in hand breaks off, and is to come again. */
void stream_place_cut(struct stream_place *p);

#endif
