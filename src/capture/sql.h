/* sql.h -- the SQL that capture sends.
 *
 * Text, and the shapes of answers: no statement is run here. Names and literals are quoted here
 * and nowhere else; the one piece of SQL that comes from a script is `where`.
 *
 * Inside sql_begin's transaction the search_path is empty and every setting
 * that shapes output or limits time is pinned with SET LOCAL, so that a
 * transaction-pooling pgbouncer in between works too.
 *
 * SPDX-License-Identifier: MIT */
#ifndef SQL_H
#define SQL_H

#include "capture/message.h"
#include "capture/horizon.h"
#include "capture/rowtype.h"

/* What a statement that reads rows needs to know. All borrowed. */
struct sql_query {
    const struct relation *table;
    const struct rowtype *rowtype;
    const char *where; /* or NULL */
    bool through_root; /* never name a leaf: its own rights and policies would count */
    bool with_hash;    /* rows carry a hash of their key after their xmin */
};

/* One row, what relation_read_name wants, of what <asked> names under the session's search_path. */
void sql_resolve(struct buf *b, const char *asked);
extern const struct result_shape sql_resolve_shape;

/* One row: the snapshot's text, then what identity_read_glance wants. Runs outside a transaction: a
 * cheap way to learn whether anything has happened at all. */
void sql_glance(struct buf *b);
extern const struct result_shape sql_glance_shape;

/* One row: the same, then what identity_read wants besides. The first statement after
 * sql_begin, so that it takes the transaction's snapshot. */
void sql_facts(struct buf *b);
extern const struct result_shape sql_facts_shape;

/* One row: the snapshot's xmax, which run of the server this is, and the xids below that xmax that
 * are under way, commas between. The server is asked about the xids from the snapshot's xmin, from
 * <from> and from 2^32 on, and about those of <also>. */
void sql_open(struct buf *b, uint64_t from, const struct xidset *also);
extern const struct result_shape sql_open_shape;

/* Opens a transaction that no limit of the role ends. */
void sql_unlimited(struct buf *b, int server_version);

/* Opens the poll's transaction and takes the lock, which takes no snapshot. (Materialized views and
 * foreign tables cannot be locked.) */
void sql_begin(struct buf *b, const struct relation *t, bool rls, int server_version);

/* Locks one more table in that transaction, before the first query. */
void sql_lock(struct buf *b, const struct relation *t);

/* In a transaction of several sources: the settings by which they differ, for one of them. */
void sql_switch(struct buf *b, bool rls, bool by_index);

/* Three results: the relation, its leaves (with sizes if asked), its columns. */
void sql_table(struct buf *b, const struct relation *t, bool with_sizes);
extern const struct result_shape sql_table_shapes[3];

/* The names of the columns that rows have a value of which is not stored in them: those that were
 * added with a default. */
void sql_missing_values(struct buf *b, const struct relation *t);
extern const struct result_shape sql_missing_values_shape;

/* Reads nothing, but fails where sql_poll would: a condition that cannot work, a key that has
 * no order. */
void sql_try(struct buf *b, const struct sql_query *q);

/* COPY of xmin and the row type's columns of the rows that may be new since the position, in the
 * order of xid and row_order.h. Of a tree only the leaves that the position knows. */
void sql_poll(struct buf *b, const struct sql_query *q, const struct position *p);

/* COPY of all rows of one leaf, whatever their age. */
void sql_leaf(struct buf *b, const struct sql_query *q, const struct relation_leaf *leaf);

/* COPY of the rows of one leaf in the blocks from <block> on and before <end>. */
void sql_range(struct buf *b, const struct sql_query *q, const struct relation_leaf *leaf,
               uint32_t block, uint32_t end);

/* COPY of xmin, hash and key of the rows in the buckets whose bit is set in <asked>. <is_whole>: of
 * xmin, hash and all columns. */
void sql_keys(struct buf *b, const struct sql_query *q, const unsigned char *asked,
              bool is_whole);

/* COPY of the distinct xmins that are not below the position's floor. */
void sql_xmins(struct buf *b, const struct sql_query *q, const struct position *p);

/* ---- parts of statements, also for those of other methods ---- */

/* A name or a text, quoted; the table as a literal of type regclass. */
void sql_put_ident(struct buf *b, const char *name);
void sql_put_literal(struct buf *b, const char *s);
void sql_put_regclass(struct buf *b, const struct relation *t);

/* For a SELECT list, each after ", ": the fingerprint, if polls order rows by it (see row_order.h);
 * the place of the row and the hash of its key, if they are wanted, and then all columns. */
void sql_put_fingerprint(struct buf *b, const struct sql_query *q);
void sql_put_columns(struct buf *b, const struct sql_query *q);
/* The hash of the row's key, under this alias. */
void sql_put_hash(struct buf *b, const struct sql_query *q, const char *alias);

/* " FROM ... WHERE ": the table, or one leaf of it. A condition must follow. */
void sql_put_from(struct buf *b, const struct sql_query *q, const struct relation_leaf *leaf);

/* The same of all rows that match the source's condition, of a tree of the leaves of the facts. A
 * condition may follow, after " AND ". */
void sql_put_from_all(struct buf *b, const struct sql_query *q);

/* Conditions. The xid is not below <floor>: with no " AND " in front. */
void sql_put_new(struct buf *b, const struct sql_query *q, uint64_t floor);

/* The same, and the leaf is known. */
void sql_put_since(struct buf *b, const struct sql_query *q, const struct position *p,
                   uint64_t floor);
/* Each with " AND " in front: the leaf is known to the position; no resume point says that the row
 * was delivered; the script's own condition, if there is one. */
void sql_put_known_leaves(struct buf *b, const struct sql_query *q, const struct position *p);
void sql_put_after_resume_points(struct buf *b, const struct sql_query *q,
                                 const struct position *p);
void sql_put_where(struct buf *b, const struct sql_query *q);
/* The row was delivered, as the resume point says: with no " AND " in front. */
void sql_put_before(struct buf *b, const struct sql_query *q,
                    const struct position_resume_point *p);

/* Lists: the columns of the key, <by_bytes>: as texts are compared by their bytes; the values of
 * <key>, a kept one, as COPY text. */
void sql_put_key(struct buf *b, const struct sql_query *q, bool by_bytes);
void sql_put_kept_key(struct buf *b, const struct sql_query *q, const char *key);

/* " ORDER BY": the age of xmin, then as row_order.h says. */
void sql_put_order(struct buf *b, const struct sql_query *q);

#endif
