/* sql_hints.h -- the SQL of hints: what is written in the WAL, and polls of a few blocks.
 *
 * Text, and the shapes of answers, as in sql.h.
 *
 * SPDX-License-Identifier: MIT */
#ifndef SQL_HINTS_H
#define SQL_HINTS_H

#include "capture/hints.h"
#include "capture/sql_increment.h"

/* Which function tells what the WAL has. */
enum sql_hints_kind {
    SQL_HINTS_OWN,     /* one that `pgcdc-lua hints` has made, for this table */
    SQL_HINTS_BLOCKS,  /* pg_get_wal_block_info, of the extension from 1.1 on */
    SQL_HINTS_RECORDS, /* pg_get_wal_records_info, of 1.0 */
};

/* One row: the function of our own that may be called for the table, or NULL; the best one of the
 * extension, or NULL, whether it is pg_get_wal_block_info, and whether the role may call it;
 * whether there is a leaf that the WAL does not have. Names are quoted. */
void sql_hints_probe(struct buf *b, const struct relation *t);
extern const struct result_shape sql_hints_probe_shape;

/* The statements of a note, see hints.h: L0, and whether the server is a standby; a row for each
 * leaf that the WAL has, with its oid and filenode; an xmax, and the age of xid 3; sql_facts. */
#define SQL_HINTS_NOTE 4
void sql_hints_note(struct buf *b, const struct relation *t,
                    struct result_shape shapes[SQL_HINTS_NOTE]);

/* One row, in the poll's transaction: how far the WAL is flushed, on a standby replayed; whether
 * the server is one; how many blocks the leaves have. */
void sql_hints_end(struct buf *b, const struct relation *t);
extern const struct result_shape sql_hints_end_shape;

/* Waits for <ms> milliseconds. One row: how far the WAL is flushed. */
void sql_hints_wait(struct buf *b, int ms);
extern const struct result_shape sql_hints_wait_shape;

/* What is read of the WAL. */
struct sql_hints_source {
    enum sql_hints_kind kind;
    const char *function; /* borrowed */
    uint64_t from, to;    /* R and E */
    const uint32_t *filenodes; /* borrowed; of SQL_HINTS_OWN they are those of the function */
    size_t n_filenodes;
};

/* A row for each pair of <n> of them: the xid, 32 bits, the filenode and the block;
 * HINTS_MOST_PAIRS + 1 at most. With a savepoint before it, and after it: if it fails, the
 * transaction goes on after sql_hints_undo. */
void sql_hints_wal(struct buf *b, const struct sql_hints_source *sources, size_t n);
extern const struct result_shape sql_hints_wal_shape;
extern const char sql_hints_undo[];

/* A row for each summary of the WAL of this timeline that has some of it from <from> on: where it
 * starts and ends. With savepoints as sql_hints_wal, like the next one. */
void sql_hints_summaries(struct buf *b, uint32_t timeline, uint64_t from);
extern const struct result_shape sql_hints_summaries_shape;

/* A row for each block of the leaves' files in <n> of them, the filenode and the block,
 * HINTS_MOST_PAIRS + 1 at most; then, as a statement of its own, the next xid as in
 * sql_hints_note. */
#define SQL_HINTS_SUMMARIZED 2
void sql_hints_summarized(struct buf *b, const struct hints *h, uint32_t timeline,
                          const struct hints_summary *summaries, size_t n,
                          struct result_shape shapes[SQL_HINTS_SUMMARIZED]);

/* As sql_poll, of the ranges of <h>; with <increment> as sql_increment_recheck. */
void sql_hints_poll(struct buf *b, const struct sql_query *q,
                    const struct sql_increment_query *increment, const struct position *p,
                    const struct hints *h);

/* One row: how many row versions a scan of the snapshot finds that sql_hints_poll leaves out,
 * though their xid is new by position_scan_horizon. */
void sql_hints_compare(struct buf *b, const struct sql_query *q, const struct position *p,
                       const struct hints *h);
extern const struct result_shape sql_hints_compare_shape;

#endif
