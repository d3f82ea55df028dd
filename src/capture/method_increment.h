/* method_increment.h -- what capture by a column that grows shares with method_pages.c.
 *
 * SPDX-License-Identifier: MIT */
#ifndef METHOD_INCREMENT_H
#define METHOD_INCREMENT_H

#include "capture/method.h"
#include "capture/sql_increment.h"

/* For the column that the position goes by, or else the one that the source names. All borrowed
 * from the source. */
struct sql_increment_query method_increment_query(const struct source *s);

/* True if the position was taken on the column that the source now names, of the same type. */
bool method_increment_has_column(const struct source *s);

/* The source's lookback in the units of the column. */
int64_t method_increment_lookback(const struct source *s);

/* From now on the position, which has no column yet, goes by the one that the source names. */
bool method_increment_set_column(struct source *s, struct err *e) WARN_UNUSED;

/* Asks for the highest value there is, in the transaction of the poll. *has_top false: no row has
 * one. */
bool method_increment_read_top(const struct source *s, struct conn *conn, bool *has_top,
                               int64_t *top, struct err *e) WARN_UNUSED;

/* Reads the value at row->p, or \N, and the tab after it; row->p is moved after the tab. False: it
 * cannot be read. */
bool method_increment_read_value(struct method_row *row, bool *has_value,
                                 int64_t *value) WARN_UNUSED;

#endif
