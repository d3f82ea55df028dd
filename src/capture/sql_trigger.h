/* sql_trigger.h -- the SQL of capture = "trigger".
 *
 * Every COPY gives rows of the row type after three fields: the xmin (0 where it
 * does not matter; of a tombstone the xid of the next later one of its key, or
 * 0), the stamp (the top-level xid that a trigger wrote, NULL for a row that
 * was not written since), and a mark, see enum sql_trigger_mark.
 *
 * Text only, as sql.h.
 *
 * SPDX-License-Identifier: MIT */
#ifndef SQL_TRIGGER_H
#define SQL_TRIGGER_H

#include "capture/sql.h"

enum sql_trigger_mark {
    SQL_TRIGGER_TOMBSTONE, /* a tombstone: nothing but the key */
    SQL_TRIGGER_ROW,
    SQL_TRIGGER_OLD,  /* a row that a poll which ended early has delivered */
};

/* What a statement needs to know besides: the table's number among tombstones; S.xmax, which no
 * stamp of this cluster has reached. */
struct sql_trigger_query {
    struct sql_query query;
    uint64_t number, xmax;
};

/* One row, or none: number, since, pruned, notify, the columns of the key with newlines between. */
void sql_trigger_marks(struct buf *b, const struct relation *t);

/* For each leaf a row: its name, whether it has all triggers for rows, one for TRUNCATE, a valid
 * index. Then one: whether there is a stamp that this cluster has not reached. */
void sql_trigger_health(struct buf *b, const struct sql_trigger_query *q);

/* Stamps and tombstones from the position's floors on, by xid, tombstones first, and key. One whose
 * key is there again is left out: its row comes. */
void sql_trigger_poll(struct buf *b, const struct sql_trigger_query *q, const struct position *p);

/* From a position of xmins: the rows of sql_poll, those that resume points leave out marked
 * instead. */
void sql_trigger_take_over(struct buf *b, const struct sql_trigger_query *q,
                           const struct position *p);

/* The rows of sql_leaf and of sql_range. */
void sql_trigger_leaf(struct buf *b, const struct sql_query *q, const struct relation_leaf *leaf);
void sql_trigger_range(struct buf *b, const struct sql_query *q, const struct relation_leaf *leaf,
                       uint32_t block, uint32_t end);

/* The distinct stamps and tombstones' xids that are not below the floor, with no row after them. */
void sql_trigger_xids(struct buf *b, const struct sql_trigger_query *q, const struct position *p);

#endif
