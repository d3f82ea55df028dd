/* sql_increment.h -- the SQL of capture = "increment".
 *
 * A value of the column that grows is a 64-bit number here: an integer as it is, a date in days and
 * a timestamp in microseconds since 1970, infinities as the ends of the range. A line of COPY has
 * two fields before those of the row type: the xmin, and that number or NULL.
 *
 * Text only, as sql.h.
 *
 * SPDX-License-Identifier: MIT */
#ifndef SQL_INCREMENT_H
#define SQL_INCREMENT_H

#include "capture/sql.h"

struct sql_increment_query {
    struct sql_query query;
    const char *column;
    enum increment_growth growth; /* INCREMENT_GROWS_NOT: it is missing, all values are NULL */
};

/* One row: the highest value that is no infinity, or NULL. */
void sql_increment_top(struct buf *b, const struct sql_increment_query *q);
extern const struct result_shape sql_increment_top_shape;

/* A row for each leaf that has no usable index that begins with the column: its name. */
void sql_increment_health(struct buf *b, const struct sql_increment_query *q);
extern const struct result_shape sql_increment_health_shape;

/* Rows of the position's base or above, in the order and with the limits of sql_poll. */
void sql_increment_window(struct buf *b, const struct sql_increment_query *q,
                          const struct position *p);

/* The rows of sql_poll, from the floor of the newest recheck on. */
void sql_increment_recheck(struct buf *b, const struct sql_increment_query *q,
                           const struct position *p);

/* Of rows without an xmin: the next page, by value and key, of the round that the position is in:
 * PAGES_ROWS, if there are so many, and those that have value and key of the last of them. The
 * number stands first, there is no xmin. */
void sql_increment_page(struct buf *b, const struct sql_increment_query *q,
                        const struct position *p);

/* Parts of sql_increment_recheck: the number, after a comma; the condition, after an AND, that
 * leaves out what polls that ended early have delivered. */
void sql_increment_put_value(struct buf *b, const struct sql_increment_query *q);
void sql_increment_put_unseen(struct buf *b, const struct sql_increment_query *q,
                              const struct position *p);

/* Reads nothing, but fails where sql_increment_page would. */
void sql_increment_try(struct buf *b, const struct sql_increment_query *q);

/* The rows of sql_leaf. */
void sql_increment_leaf(struct buf *b, const struct sql_increment_query *q,
                        const struct relation_leaf *leaf);

#endif
