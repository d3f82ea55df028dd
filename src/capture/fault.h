/* fault.h -- whether a position still means what it says.
 *
 * Holds the position against the facts of the server that answers now. This is
 * the fault table: it decides whether to go on, and mends the position where it
 * must: forget what was seen, or read the table again from its start. It is the
 * only file that changes a position's phase. Reads no rows.
 *
 * SPDX-License-Identifier: MIT */
#ifndef FAULT_H
#define FAULT_H

#include "capture/source.h"

/* Asks in one statement whether anything has committed in the cluster since the newest complete
 * poll. *is_unchanged: nothing has; false also if only a poll can tell. */
bool fault_glance(struct source *s, struct conn *conn, bool *is_unchanged,
                  struct err *e) WARN_UNUSED;

/* The same, of what begin_glance has asked in common with other sources: <now>. */
bool fault_take_glance(struct source *s, const struct begin_facts *now, bool *is_unchanged,
                       struct err *e) WARN_UNUSED;

/* Opens a transaction and reads the facts, those of the source's method included, which then checks
 * that it has what it needs. <with_sizes>: reads the sizes of the leaves. After a failure no
 * transaction is open. */
bool fault_look(struct source *s, struct conn *conn, bool with_sizes, struct err *e) WARN_UNUSED;

enum fault_news {
    FAULT_GOES_ON,
    FAULT_STARTS,     /* a new position, which must be saved before any row is read that relies on
                       * it */
    FAULT_STARTS_NOW, /* likewise; the rows that are there already must be passed over first */
};

/* Opens the step's transaction and brings the position in line with the facts. *news: whether the
 * position was replaced. ERR_BEHIND: a standby is to be waited for. After a failure the
 * transaction may be open: the caller rolls it back. */
bool fault_begin(struct source *s, struct conn *conn, enum fault_news *news,
                 struct err *e) WARN_UNUSED;

/* What was there at FAULT_STARTS_NOW could not be read: the source begins anew. */
void fault_forget_start(struct source *s);

/* The first read is complete: polls come next. */
void fault_end_snapshot(struct source *s);

#endif
