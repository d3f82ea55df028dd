/* begin.h -- what is true when a poll or a range begins.
 *
 * Opens the transaction, takes the lock and then the snapshot, and reads which server answers and
 * what the table looks like. The lock comes first: otherwise a TRUNCATE, or an ALTER TABLE that
 * rewrites the table, could commit between the two, and the snapshot would see an empty table.
 * Decides nothing. Functions that take a connection block until the server has answered.
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
    bool is_new_rowtype;               /* no chunk with it was handed out yet; whoever hands out the
                                        * first sets it to false */
    enum increment_growth growth;      /* of the position's growing column, or else of the one that
                                        * the config names */
};

/* Zeroed is empty. */
void begin_facts_fini(struct begin_facts *f);

/* Finds the table that the script names, and fills its names and oid in f->table. <by_value>: rows
 * need no xmin. ERR_REFUSED: there is none, or it cannot be captured. */
bool begin_resolve(struct begin_facts *f, struct conn *conn, const struct config *c,
                   bool by_value, struct err *e) WARN_UNUSED;

/* One statement, no transaction: reads the snapshot, and the part of the identity that sql_glance
 * asks for; the other facts stay as they are. */
bool begin_glance(struct begin_facts *f, struct conn *conn, struct err *e) WARN_UNUSED;

/* The same, and if <is_full> the whole identity, from <from>, which were read for several sources
 * in common. */
bool begin_share(struct begin_facts *to, const struct begin_facts *from, bool is_full,
                 struct err *e) WARN_UNUSED;

/* Opens a transaction that locks nothing, and reads its snapshot and the whole identity; then what
 * <more> asks for, <n> results, BEGIN_MORE at most. After a failure it may be open. */
#define BEGIN_MORE 4
bool begin_unlocked(struct begin_facts *f, struct conn *conn, const char *more,
                    const struct result_shape *shapes, struct result **rows, size_t n,
                    struct err *e) WARN_UNUSED;

/* One statement, no transaction: reads the snapshot and the whole identity. */
bool begin_identify(struct begin_facts *f, struct conn *conn, struct err *e) WARN_UNUSED;

/* What is asked for, all borrowed. */
struct begin_request {
    const struct config *config;
    bool with_sizes;      /* those of the leaves */
    bool by_value;        /* rows need no xmin */
    bool by_index;        /* sequential scans are off in the transaction */
    const char *column;   /* the growing column of the position, or NULL; the table may lack it,
                           * unless <config> names it too */
    const struct relation *const *locked; /* all tables that are locked in the transaction, which
                                           * is also that of other sources */
    size_t n_locked;
    const struct begin_facts *leader; /* of the source that has opened the transaction already, with
                                       * all locks; NULL: there is none */
    const char *snapshot; /* one that was exported, which the transaction has then, though it is
                           * older than the lock; NULL: a new one */
    const char *more;     /* one more statement, with a semicolon, that gives a result; or NULL */
    const struct result_shape *shape; /* of that result */
    struct result **answer; /* where the result of <more> goes; the caller frees it, also after a
                             * failure */
};

/* Fills <f>, and leaves a transaction open that holds the locks and the snapshot. Keeps the row
 * type of <f> if the columns are the same. After a failure no transaction is open, and <f> may be
 * part old, part new. */
bool begin_transaction(struct begin_facts *f, struct conn *conn, const struct begin_request *r,
                       struct err *e) WARN_UNUSED;

#endif
