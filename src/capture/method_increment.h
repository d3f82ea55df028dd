/* method_increment.h -- what capture by a column that grows shares with pages.
 *
 * SPDX-License-Identifier: MIT */
#ifndef METHOD_INCREMENT_H
#define METHOD_INCREMENT_H

#include "capture/method.h"
#include "capture/sql_increment.h"

/* The column that the position goes by, or else the one that the source names. */
struct sql_increment_query method_increment_query(const struct source *s);

/* True if the position was taken on the column that the source now names, of the same type. */
bool method_increment_has_column(const struct source *s);

/* The source's lookback in the units of the column. */
int64_t method_increment_lookback(const struct source *s);

/* The position goes by the column that the source names from now on. */
bool method_increment_set_column(struct source *s, struct err *e) WARN_UNUSED;

/* Reads the highest value there is, in the transaction of the poll. */
bool method_increment_read_top(const struct source *s, struct conn *conn, bool *has_top,
                               int64_t *top, struct err *e) WARN_UNUSED;

/* Reads the value at the start of a row, or \N, and the tab after it. */
bool method_increment_read_value(struct method_row *row, bool *has_value,
                                 int64_t *value) WARN_UNUSED;

#endif
