/* sql_altered.h -- which transaction has altered a table last.
 *
 * SPDX-License-Identifier: MIT */
#ifndef SQL_ALTERED_H
#define SQL_ALTERED_H

#include "capture/relation.h"

/* Appends a subquery: the highest of the xids, widened to 64 bits, that wrote what the catalogs say
 * of the table, its columns, and its partitions; NULL: it is not there, or is another one now. As
 * long as it is lower than an xid floor below which all xids are over, and the rows under that name
 * are of the same table, no ALTER, ATTACH, rewrite or renaming came since. */
void sql_altered_put(struct buf *sql, const struct relation *t);

/* Appends the xid in the column xmin of <alias>, widened to 64 bits. */
void sql_altered_put_xmin(struct buf *sql, const char *alias);

#endif
