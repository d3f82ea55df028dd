/* wal_summaries.h -- what summaries of the WAL have of a source, where the WAL itself is not read.
 *
 * The rule, and why nothing is missed, is in hints.h. Servers make them from Postgres 17 on, with
 * summarize_wal = on; no right is needed to read them.
 *
 * SPDX-License-Identifier: MIT */
#ifndef WAL_SUMMARIES_H
#define WAL_SUMMARIES_H

#include "capture/source.h"

/* In a poll's transaction: adds the blocks of the source's files from R on to s->hints.rule, and
 * moves R, as far as there are summaries. R stays where it is if there are none, or they cannot be
 * read; the transaction goes on then. False: it cannot. */
bool wal_summaries_read(struct source *s, struct conn *conn, struct err *e) WARN_UNUSED;

#endif
