/* kept_page.h -- some rows as the state file keeps them, in one run of bytes.
 *
 * Rows whose ids follow each other, in the order of their ids, about 4 kB of them. That is a page
 * of SQLite's, which is written as a whole whatever changes in it; and of a page's rows SQLite need
 * not be told one by one. No I/O here.
 *
 * SPDX-License-Identifier: MIT */
#ifndef KEPT_PAGE_H
#define KEPT_PAGE_H

#include "state/kept_row.h"

#define KEPT_PAGE_BYTES 4000 /* at most, unless a single row is longer */

/* What stands before the bytes and after them is known by whoever keeps them: <first> is at most
 * the first id. */
struct kept_page {
    int64_t first, last; /* <last>: the last id; 0: it is empty */
    size_t n;            /* how many rows */
    struct buf data;
    struct buf scratch;  /* private */
};

void kept_page_init(struct kept_page *p);
void kept_page_fini(struct kept_page *p);

/* Empties it, and says where it begins. */
void kept_page_clear(struct kept_page *p, int64_t first);

/* Becomes the page of these bytes. False: they are none or, if <data> is not buf_ok, there is no
 * memory. */
bool kept_page_read(struct kept_page *p, int64_t first, struct store_slice bytes) WARN_UNUSED;

/* Finds row <id>. *at: where it stands, or would. Returns the length of what stands there of it; 0:
 * it is not there. */
size_t kept_page_find(const struct kept_page *p, int64_t id, size_t *at);

/* Reads the row that stands at *at, and moves *at after it; its slices are of the page. False: the
 * page is over there, or the row is none (*at stays). */
bool kept_page_next(const struct kept_page *p, size_t *at, struct kept_row *row) WARN_UNUSED;

/* Puts a row in the place of that with its id. False: out of memory, all is as it was. */
bool kept_page_put(struct kept_page *p, const struct kept_row *row) WARN_UNUSED;

/* Removes a row, if it is there. */
void kept_page_drop(struct kept_page *p, int64_t id);

/* Moves the upper half to <upper>, whatever that was. There must be two rows. False: out of memory,
 * all is as it was, but <upper>. */
bool kept_page_split(struct kept_page *p, struct kept_page *upper) WARN_UNUSED;

/* A sum, so that a flipped bit does not pass for a row. */
int64_t kept_page_sum(const struct kept_page *p);

#endif
