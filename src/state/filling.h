/* filling.h -- fills a store with records and rows that come from elsewhere, one after the other.
 *
 * The rows of a table come together. A transaction of the store is open.
 *
 * SPDX-License-Identifier: MIT */
#ifndef FILLING_H
#define FILLING_H

#include "state/kept_table.h"

/* Zeroed but for <to> at first. */
struct filling {
    struct store *to;         /* borrowed */
    struct kept_table *table; /* owned; NULL: none yet */
    char name[40];            /* of the table */
    size_t rows;              /* that have come */
};

bool filling_add_record(struct filling *f, const struct store_record *r, struct err *e) WARN_UNUSED;
bool filling_add_row(struct filling *f, const char *table, const struct kept_row *r,
                     struct err *e) WARN_UNUSED;

/* All rows of the table have come, or what follows is another transaction. */
bool filling_end_table(struct filling *f, struct err *e) WARN_UNUSED;

void filling_fini(struct filling *f);

#endif
