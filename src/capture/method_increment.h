/* method_increment.h -- what a poll came to, and where a source stands behind it.
 *
 * Moves the position of a source over a poll that is complete. For a column
 * that grows it also says which kind of poll is due. Reads no rows.
 *
 * SPDX-License-Identifier: MIT */
#ifndef ADVANCE_H
#define ADVANCE_H

#include "capture/method.h"

/* Zeroed is empty. */
struct polled {
    struct xidset delivered; /* xids delivered by this poll */
    struct xidset baseline;  /* start = "now", a switch: xids that are there already */
    /* CONFIG_BY_INCREMENT: the same xids, with their least values */
    struct increment_firsts fresh;
    bool has_top;
    int64_t top;             /* CONFIG_BY_INCREMENT: the highest value there is */
    bool has_left;           /* rows to the next poll, see horizon.h */
    uint64_t late;           /* rows that a recheck found below the base */
};

void polled_fini(struct polled *p);

/* Notes a row that is delivered. */
bool polled_add(struct polled *p, const struct source *s, const struct reads *r,
                const struct reads_row *row) WARN_UNUSED;

/* Is the next poll of a source to read all rows that were written since the recheck before? Behind
 * fault_glance or fault_begin; <xmax>: S.xmax. */
bool advance_wants_recheck(const struct source *s);

/* Reads the highest value there is, in the transaction of the poll. */
bool advance_read_top(struct polled *p, const struct source *s, struct conn *conn,
                      struct err *e) WARN_UNUSED;

/* Chooses the next range of the snapshot. False: there is none. */
bool advance_begin_range(const struct position *p, struct reads *r);

/* A range is complete, or there was none to read: the position moves over it. */
void advance_range(struct position *p, const struct reads *r);

/* A poll is complete: the position moves over it. */
bool advance_poll(struct source *s, const struct reads *r, struct polled *p,
                  struct err *e) WARN_UNUSED;

/* What a page brought, where rows have no xids. */
struct page {
    size_t n;            /* rows */
    struct pages_rows fresh; /* those that were not given before, and may be met again */
    struct buf last_key; /* of the row that fills the page, COPY text */
    int64_t last;        /* its value */
};

/* Before a page is read, in its transaction: a round may begin with it. */
bool advance_begin_page(struct polled *p, struct source *s, struct conn *conn,
                        struct err *e) WARN_UNUSED;

/* Notes a row of a page, <len> bytes of fields. *hash stands for this version of it; *is_new: it
 * was not given before. ERR_REFUSED: there is NULL in its key, behind which no page can begin. */
bool advance_page_row(struct page *page, const struct source *s, int64_t value,
                      const char *fields, size_t len, uint64_t *hash, bool *is_new,
                      struct err *e) WARN_UNUSED;

/* A page is complete: the position moves over it. *is_over: so is the round. */
bool advance_page(struct source *s, const struct page *page, bool *is_over,
                  struct err *e) WARN_UNUSED;

/* Nothing has committed since the last complete poll, but what had was flushed meanwhile: the
 * floor may rise. *has_risen: the position is another one. */
bool advance_idle(struct source *s, bool *has_risen, struct err *e) WARN_UNUSED;

#endif
