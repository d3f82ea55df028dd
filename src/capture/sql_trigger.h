/* sql_trigger.h -- the SQL of capture = "trigger".
 *
 * Each line of its COPYs has three fields before those of the row type: the xmin (0 where it does
 * not matter; in a line of a tombstone the xid of the next tombstone of the same key, or 0), the
 * stamp (the top-level xid that a trigger wrote; NULL for a row that was not written since the
 * triggers were installed), and what the line is, see enum sql_trigger_line.
 *
 * Text only, as sql.h.
 *
 * SPDX-License-Identifier: MIT */
#ifndef SQL_TRIGGER_H
#define SQL_TRIGGER_H

#include "capture/sql.h"

/* What a line of COPY is: a number in its third field. */
enum sql_trigger_line {
    SQL_TRIGGER_TOMBSTONE, /* a tombstone: the fields outside the key are NULL */
    SQL_TRIGGER_ROW,
    SQL_TRIGGER_OLD, /* a row that was delivered by a poll that ended early */
    SQL_TRIGGER_EMPTY, /* a tombstone without a key, of which a column was dropped */
};

struct sql_trigger_query {
    struct sql_query query;
    uint64_t number; /* stands for the table in tombstones */
    const char *labels, *columns; /* what sql_trigger_installed says; borrowed */
    uint64_t xmax;   /* S.xmax: each stamp of this cluster is below it */
};

/* Whether this role may read what the triggers of tables note, also where nothing is installed. */
extern const char sql_trigger_readable[];
extern const struct result_shape sql_trigger_readable_shape;

/* What pgcdc.tables says of the table's triggers. One row, or none: number, since, pruned, notify,
 * the labels that tombstones hold the key under, and the columns that these stand for now (see
 * lua/pgcdc/postgres/trigger.lua), both with newlines between; for a column that was dropped
 * an empty line. Ends with a semicolon. */
void sql_trigger_installed(struct buf *b, const struct relation *t);
extern const struct result_shape sql_trigger_installed_shape;

/* The label of this column, *len bytes, which is part of <labels>; NULL: it has none. */
const char *sql_trigger_label(const char *labels, const char *columns, const char *name,
                              size_t *len);

/* Three results. A row for each leaf: its name, whether it has all triggers for rows, whether it
 * has one for TRUNCATE, whether it has a valid index on stamps. Then one row: whether there is a
 * stamp that this cluster has not reached. Then name and type of each column of the key whose type
 * has no operator for equality. */
void sql_trigger_health(struct buf *b, const struct sql_trigger_query *q);
extern const struct result_shape sql_trigger_health_shapes[3];

/* Rows and tombstones from the position's floors on, in the order of xid, tombstones before rows,
 * and key; with hashes if the query wants them. A tombstone whose key is in the table again is left
 * out, since the row is newer. */
void sql_trigger_poll(struct buf *b, const struct sql_trigger_query *q, const struct position *p);

/* From a position of xmins: the rows of sql_poll. Those that sql_poll leaves out because of resume
 * points come as SQL_TRIGGER_OLD. Before them, unless rows have hashes, the tombstones since the
 * position. */
void sql_trigger_take_over(struct buf *b, const struct sql_trigger_query *q,
                           const struct position *p);

/* The distinct xids of tombstones from <floor> on, in their order. */
void sql_trigger_tombstone_xids(struct buf *b, const struct sql_trigger_query *q, uint64_t floor);
extern const struct result_shape sql_trigger_xids_shape;

/* The rows of sql_leaf and of sql_range. */
void sql_trigger_leaf(struct buf *b, const struct sql_query *q, const struct relation_leaf *leaf);
void sql_trigger_range(struct buf *b, const struct sql_query *q, const struct relation_leaf *leaf,
                       uint32_t block, uint32_t end);

/* The distinct xids of stamps and tombstones that are not below the floor, with no fields of the
 * row type after them. */
void sql_trigger_xids(struct buf *b, const struct sql_trigger_query *q, const struct position *p);

#endif
