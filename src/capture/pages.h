/* pages.h -- where a source is that has no xids: pages, by value and key.
 *
 * Views and foreign tables tell nothing of the transactions that wrote their
 * rows. They are read in rounds, from a base on and in the order of value and
 * key, a page at a time. A row that an earlier round delivered is recognized
 * by a hash of all its fields (of several rows that are alike, the second has a
 * hash of that hash, and so on), which is kept while its value is at or above the
 * base. A row that appears below the base is never read. Pure functions, no I/O.
 *
 * SPDX-License-Identifier: MIT */
#ifndef PAGES_H
#define PAGES_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define PAGES_ROWS 5000 /* in a page, and those that have value and key of the last one */

/* A row that was delivered or, in a silent round, passed over. */
struct pages_row {
    uint64_t hash;
    int64_t value;
};

/* Sorted by hash. Zeroed is empty. */
struct pages_rows {
    struct pages_row *v;
    size_t n, cap;
};

/* Adds a row, unless its hash is there. False: out of memory. */
bool pages_rows_add(struct pages_rows *g, uint64_t hash, int64_t value) WARN_UNUSED;

/* Adds all of <more> in one pass, since <g> may be very long. False: out of memory. */
bool pages_rows_merge(struct pages_rows *g, const struct pages_rows *more) WARN_UNUSED;
bool pages_rows_has(const struct pages_rows *g, uint64_t hash);
void pages_rows_fini(struct pages_rows *g);

struct pages {
    bool is_used;
    bool is_silent;       /* start = "now": the round in hand only learns what is there */
    char *reached_key;    /* of the last row of the page before, COPY text; owned; NULL: a round
                           * begins */
    int64_t reached;      /* the value of that row */
    uint64_t xmax;        /* S.xmax when the round began */
    bool has_top;
    int64_t top;          /* the highest value then */
    struct pages_rows given; /* the rows of the rounds so far that are at or above the base */
};

void pages_fini(struct pages *p);

/* Overwrites <to>. False: out of memory, <to> is empty. */
bool pages_copy(struct pages *to, const struct pages *from) WARN_UNUSED;

/* Forgets given rows below <base>, which no round reads again. */
void pages_forget(struct pages *p, int64_t base);

/* *hash: the first 64 bits of the SHA-256 of a row's fields. False: the library refuses. */
bool pages_hash(const char *row, size_t len, uint64_t *hash) WARN_UNUSED;

#endif
