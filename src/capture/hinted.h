/* hinted.h -- asks the server which blocks a poll must read.
 *
 * The rule, and why nothing is missed, is in hints.h. Here it is asked what it needs, in its order:
 * notes outside of transactions, the WAL inside of the poll's. Whatever is in doubt, or cannot be
 * asked, ends in a scan of the same transaction; only what breaks the transaction is a failure.
 *
 * SPDX-License-Identifier: MIT */
#ifndef HINTED_H
#define HINTED_H

#include "capture/source.h"

#ifndef HINTED_LATE_MS
#define HINTED_LATE_MS 3600000 /* a floor that is below the note for so long is told */
#endif

/* A step is due, and no transaction is open: takes a note, if the source wants one and the server
 * can tell what the WAL has. ERR_REFUSED: it cannot, and the source says that it must. */
bool hinted_look(struct source *s, struct conn *conn, struct err *e) WARN_UNUSED;

/* A poll by xmin, or a recheck, begins, its snapshot is taken: reads the WAL, and sets
 * s->hints.is_used if the poll is to read the blocks that s->hints.rule has, and not the table. */
bool hinted_begin(struct source *s, const struct sql_query *q, struct conn *conn,
                  struct err *e) WARN_UNUSED;

/* That poll is complete, and the position has moved. */
void hinted_advance(struct source *s);

/* ---- for several sources in common, see round.h ---- */

#define HINTED_WAL_BYTES_A_MS 120000 /* how fast WAL is read */

/* True if the WAL can be read for the source, which has a note. */
bool hinted_has_note(const struct source *s);

/* How long that may take, for one source, in milliseconds. */
int64_t hinted_most_ms(const struct source *s);

/* Adds row <i> of <rows>, of sql_hints_wal_shape. False: out of memory. */
bool hinted_add_pair(struct source *s, const struct result *rows, size_t i) WARN_UNUSED;

/* All pairs up to <end> were added. */
void hinted_have_read(struct source *s, uint64_t end);

/* *passes: the note is armed, and no block is to be read. With CONFIG_HINTS_CHECK compares with a
 * scan, in the transaction that is open. */
bool hinted_pass(struct source *s, struct conn *conn, bool *passes, struct err *e) WARN_UNUSED;

/* Appends how the poll in hand was read, for the log. */
void hinted_put_figures(const struct source *s, struct buf *b);

/* For --check, outside of a transaction: appends how the source will be read. As hinted_look. */
bool hinted_report(struct source *s, struct conn *conn, struct buf *b, struct err *e) WARN_UNUSED;

#endif
