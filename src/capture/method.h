/* method.h -- what a step of capture reads: the COPY, and its rows' xids.
 *
 * Which statement it is, and what stands before the fields of a row, depends
 * on how the source finds changes; here that is told apart. Runs nothing.
 *
 * SPDX-License-Identifier: MIT */
#ifndef READS_H
#define READS_H

#include "capture/sql_increment.h"
#include "capture/fault.h"

struct reads {
    enum { READ_NOTHING, READ_RANGE, READ_POLL, READ_WINDOW, READ_PAGE, READ_LEAF, READ_XMINS,
           READ_TALLY, READ_KEYS } what;
    bool is_switch;    /* a poll by xmin whose horizon will be one of stamps */
    bool is_recheck;   /* a poll by xmin of all rows since the recheck before, see increment.h */
    uint32_t leaf, end; /* of a range: the relation's oid, the block behind it */
};

bool reads_by_trigger(const struct source *s);

/* Is the horizon one of stamps, or of xmins? */
bool reads_stamps(const struct source *s);

/* Do rows come with the value of a column that grows: the source's, or, for the one poll that
 * leaves it behind, that which the position speaks of? */
bool reads_values(const struct source *s);

/* Is the position's column, if it speaks of one, the source's? */
bool reads_same_column(const struct source *s);

/* What statements of sql.h and of sql_increment.h need to know. */
struct sql_query reads_query(const struct source *s);
struct sql_increment_query reads_sql_increment(const struct source *s);

/* The COPY; <leaf>: of READ_LEAF, <asked>: of READ_KEYS, the buckets. */
void reads_put(const struct reads *r, const struct source *s, const struct relation_leaf *leaf,
               const unsigned char *asked, struct buf *sql);

/* Reads nothing, but fails where the COPYs would. */
void reads_put_try(const struct source *s, struct buf *sql);

/* A statement to be run first, or NULL: what reads all must not do so by an index. */
const char *reads_setting(const struct reads *r, const struct source *s, bool has_new_leaves);

struct reads_row {
    uint64_t xid;    /* of the row */
    uint64_t judged; /* the xid that the horizon judges */
    uint64_t stamp;  /* 0: none */
    int64_t value;   /* of the column that grows */
    bool has_value;
    bool is_new, is_gone;
    bool is_doubtful; /* to be left to the next poll, see horizon.h */
    bool is_superseded; /* gone, but gone again later on in this poll */
};

/* Reads what stands before a row's fields; *p ends there. False: it is something else. */
bool reads_parse(const struct reads *r, const struct source *s, const char **p, const char *end,
                 struct reads_row *row) WARN_UNUSED;

#endif
