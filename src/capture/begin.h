/* begin.h -- what is true when a poll or a range begins.
 *
 * Opens the transaction, takes the lock and then the snapshot (in this
 * order: the other way round, a rewriting ALTER TABLE or a TRUNCATE that
 * commits in between would show that snapshot an empty table), and reads who
 * the server is and what the table looks like. Judges nothing.
 *
 * SPDX-License-Identifier: MIT */
#ifndef BEGIN_H
#define BEGIN_H

#include "capture/config.h"
#include "capture/sql_trigger.h"

/* What the server says of the table's triggers, see stamps.h. */
struct stamp_marks {
    uint64_t number; /* stands for the table in tombstones and notifications */
    uint64_t since;  /* the xid that made the triggers; 0: there are none */
    uint64_t pruned; /* tombstones below this xid may have been forgotten */
    bool notifies;   /* commits are announced */
    char *key;       /* the columns that tombstones hold, newlines between */
};

struct begin_facts {
    struct horizon_snapshot snapshot; /* its text is owned by this facts */
    struct horizon_in_doubt in_doubt;     /* of that snapshot, behind begin_transaction */
    struct identity identity;
    struct relation table;
    struct rowtype *rowtype;      /* counted reference */
    struct stamp_marks marks; /* where the capture is by triggers */
    enum increment_growth growth;       /* of the column that it was asked about */
};

void begin_facts_fini(struct begin_facts *s);

/* Which table the script means. Fills the names in s->table. */
bool begin_resolve(struct begin_facts *s, struct conn *conn, const struct config *c,
                   struct err *e) WARN_UNUSED;

/* One statement, no transaction: the snapshot, and of the identity what can tell that it is
 * another server or another run of it; the rest stays. */
bool begin_glance(struct begin_facts *s, struct conn *conn, struct err *e) WARN_UNUSED;

/* One statement, no transaction: the snapshot and the whole identity. */
bool begin_identify(struct begin_facts *s, struct conn *conn, struct err *e) WARN_UNUSED;

/* Says in a line what would be captured. */
void begin_report(const struct begin_facts *v, const struct config *c, int server_version,
                  struct buf *report);

/* Leaves a transaction open that holds the lock and the snapshot. Keeps the shape that it
 * finds in <s> where nothing has changed. After a failure no transaction is open. Where the capture
 * goes by an index sequential scans are off in it. <column>: one that grows, or NULL; it may be
 * gone if it is not the one that <c> names. */
bool begin_transaction(struct begin_facts *s, struct conn *conn, const struct config *c,
                       bool with_sizes, const char *column, struct err *e) WARN_UNUSED;

#endif
