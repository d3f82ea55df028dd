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

/* Asks in one statement whether anything has committed in the cluster since the last complete
 * poll; *is_unchanged false where only a poll can tell. */
bool fault_glance(struct source *s, struct conn *conn, bool *is_unchanged,
                  struct err *e) WARN_UNUSED;

/* Opens a transaction with what the source's method wants to know, and checks that it has what it
 * needs. After a failure no transaction is open. */
bool fault_look(struct source *s, struct conn *conn, bool with_sizes, struct err *e) WARN_UNUSED;

enum fault_news {
    FAULT_GOES_ON,
    FAULT_STARTS,     /* a new position, which must be saved before any row is read that relies on
                       * it */
    FAULT_STARTS_NOW, /* likewise; what is there already is yet to be passed over */
};

/* Opens the step's transaction and brings the position in line with what the facts say. */
bool fault_begin(struct source *s, struct conn *conn, enum fault_news *news,
                 struct err *e) WARN_UNUSED;

/* All of the first read was read: polls come next. */
void fault_end_snapshot(struct source *s);

#endif
