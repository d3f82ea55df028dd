/* begin.h -- what is true when a poll or a range begins.
 *
 * Opens the transaction, takes the lock and then the snapshot (in this
 * order: the other way round, a rewriting ALTER TABLE or a TRUNCATE that
 * commits in between would show that snapshot an empty table), and reads which
 * server answers and what the table looks like. Decides nothing.
 *
 * SPDX-License-Identifier: MIT */
#ifndef BEGIN_H
#define BEGIN_H

#include "capture/config.h"
#include "capture/sql.h"

struct begin_facts {
    struct horizon_snapshot snapshot;  /* its text is owned by these facts */
    struct horizon_in_doubt in_doubt;  /* of that snapshot, after begin_transaction */
    struct identity identity;
    struct relation table;
    struct rowtype *rowtype;           /* counted reference */
    enum increment_growth growth;      /* of the column that was asked for */
};

void begin_facts_fini(struct begin_facts *s);

/* Which table the script means. Fills the names in s->table. <by_value>: rows need no xmin. */
bool begin_resolve(struct begin_facts *s, struct conn *conn, const struct config *c,
                   bool by_value, struct err *e) WARN_UNUSED;

/* One statement, no transaction: the snapshot, and of the identity what can tell that it is
 * another server or another run of it; the rest stays. */
bool begin_glance(struct begin_facts *s, struct conn *conn, struct err *e) WARN_UNUSED;

/* One statement, no transaction: the snapshot and the whole identity. */
bool begin_identify(struct begin_facts *s, struct conn *conn, struct err *e) WARN_UNUSED;

/* What is asked for, all borrowed. */
struct begin_request {
    const struct config *config;
    bool with_sizes;      /* those of the leaves */
    bool by_value;        /* rows need no xmin */
    bool by_index;        /* sequential scans are off in the transaction */
    const char *column;   /* one that grows, by which the position goes, or NULL; it may be missing
                           * if it is not the one that <config> names */
    const char *more;     /* a statement that is run last, with a semicolon, or NULL */
    struct result **answer; /* to it; to be freed by the caller, also after a failure */
};

/* Leaves a transaction open that holds the lock and the snapshot. Keeps the row type that it
 * finds in <s> where nothing has changed. After a failure no transaction is open. */
bool begin_transaction(struct begin_facts *s, struct conn *conn, const struct begin_request *r,
                       struct err *e) WARN_UNUSED;

#endif
