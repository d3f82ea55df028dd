/* method_trigger.h -- what triggers leave on the server, for capture = "trigger".
 *
 * lua/pgcdc/postgres/trigger.lua installs them. Every row that is written carries the
 * top-level xid of its writer (its stamp), every key that goes leaves a
 * tombstone with the xid of who took it away. So the capture rule of horizon.h
 * holds for these xids as it does for xmins, and more simply: a transaction
 * has one, of 64 bits. A row without a stamp was not written since the
 * triggers came, and all such rows were committed before: a snapshot reads
 * them, or a poll by xmin did (see `since`).
 *
 * SPDX-License-Identifier: MIT */
#ifndef STAMPS_H
#define STAMPS_H

#include "capture/sql_trigger.h"
#include "capture/begin.h"

/* What was found out of the triggers. Zeroed: nothing yet. */
struct stamps {
    bool is_checked;
    size_t n_leaves; /* of the table, then */
};

/* Inside the transaction that <v> has begun: are the triggers there, and of use? <faults>: what is
 * wrong with them that is no reason to stop, a sentence on each line; asked once, and again
 * when the table's leaves are others. ERR_REFUSED: there are none, or of no use for this source. */
bool stamps_check(struct stamps *s, struct conn *conn, const struct begin_facts *v,
                  struct buf *faults, struct err *e) WARN_UNUSED;

/* The facts of a table failed with <e>, where the capture is by triggers: makes it say so if
 * they are the reason. */
void stamps_explain(const struct begin_facts *v, struct err *e);

/* What stands before the fields of a row in the COPYs of sql_trigger.h. */
struct stamp_row {
    uint32_t xmin;  /* 0 of a tombstone */
    uint64_t later; /* of a tombstone: the xid of the next one of its key; 0: none */
    uint64_t stamp; /* 0: none */
    enum sql_trigger_mark mark;
};

/* Reads it; *p ends at the fields. False: it is something else. */
bool stamps_parse(const char **p, const char *end, struct stamp_row *row) WARN_UNUSED;

#endif
