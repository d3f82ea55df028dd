/* sql_round.h -- the SQL of what is asked for several sources of a database in common.
 *
 * Text, and the shapes of answers, as in sql.h.
 *
 * SPDX-License-Identifier: MIT */
#ifndef SQL_ROUND_H
#define SQL_ROUND_H

#include "capture/sql.h"

/* Opens a transaction of one snapshot, which is not taken yet, and locks nothing. */
void sql_round_begin(struct buf *b, int server_version);

/* Two results: whether the server counts at all, as far as anybody can tell, and when its counters
 * were reset; then a row for each table, with its number from 0 on and the sum of the counters of
 * its leaves. */
#define SQL_ROUND_COUNTERS 2
void sql_round_counters(struct buf *b, const struct relation *const *tables, size_t n);
extern const struct result_shape sql_round_counters_shapes[SQL_ROUND_COUNTERS];

/* Two results, in a transaction: rows of the catalog that tell of each table and its leaves, in the
 * order of the tables and oids: the number of the table, oid, filenode, kind, xmin, and of the
 * table itself the sum of the xmins of its columns; then how far the WAL is flushed, on a standby
 * replayed, and whether the server is one. */
#define SQL_ROUND_TABLES 2
void sql_round_tables(struct buf *b, const struct relation *const *tables, size_t n);
extern const struct result_shape sql_round_tables_shapes[SQL_ROUND_TABLES];

#endif
