/* sql_census.h -- the SQL that counts keys, see key_census.h.
 *
 * Text, as in sql.h.
 *
 * SPDX-License-Identifier: MIT */
#ifndef SQL_CENSUS_H
#define SQL_CENSUS_H

#include "capture/sql.h"

/* COPY of (bucket, count, xor of hashes, how many are new) of all rows, see struct tally. <p>: with
 * an xid that is not below its floor a row is new; NULL: none is. */
void sql_census_tally(struct buf *b, const struct sql_query *q, unsigned width,
                      const struct position *p);

#endif
