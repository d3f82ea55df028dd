/* sql_parallel.h -- polls by xmin whose scan parallel workers share.
 *
 * The condition of sql_poll calls age(xid), which no worker may run. Here it is a list of all xids
 * from the floor F up to S.xmax, compared by =, which any may. It lets the same rows pass: a
 * version that S shows was written by an xid below S.xmax (all at or above it were under way), so
 * one that is not below F is in the list; and none that is below F is. The workers use S too.
 *
 * Not where the list would be long, nor in clusters older than 2^32 transactions, where xmin may
 * read like another xid (see horizon.h). Then, and for all else, there is sql_poll.
 *
 * SPDX-License-Identifier: MIT */
#ifndef SQL_PARALLEL_H
#define SQL_PARALLEL_H

#include "capture/sql.h"

/* True if the poll with this floor and snapshot can be told so. */
bool sql_parallel_can(uint64_t floor, const struct horizon_snapshot *s);

/* Before the COPY, in its transaction: up to <n> workers. */
void sql_parallel_set(struct buf *b, unsigned n);

/* As sql_poll, where sql_parallel_can. */
void sql_parallel_poll(struct buf *b, const struct sql_query *q, const struct position *p,
                       const struct horizon_snapshot *s);

#endif
