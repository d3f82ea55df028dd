/* log_leaves.h -- partitions that join a table whose changes come by the log.
 *
 * The log brings what is written to a partition while it is one, under the name of its table. What
 * it had when it was attached must be read. The rule:
 *
 * A position knows a partition, and since when it is attached, if the rows that it had then were
 * read, or it was empty. No change of a partition that the position does not know is delivered.
 * pgoutput helps to keep that: before the first change of a partition, and again after it was
 * attached anew, it announces it by its own name, after its table. There the stream looks at the
 * facts, and if the partition is new and has rows it stops before the change.
 *
 * So there is a place C in the log, before the change or wherever a step finds the partition, at
 * which it is to be read: nothing of it was delivered, and the log before C has the ATTACH. In a
 * snapshot P, which shows that too, a row was written before the ATTACH, or after it; then the log
 * brings it after C. Who wrote it P does not tell, since savepoints have xids of their own. But of
 * each row that the log wrote between C and P it has the key (log_keys.h). The others are those
 * that the partition had, and are delivered before the log goes on at C. What of those is not there
 * any more in P was ended by a change that the log brings.
 *
 * That the log before C has the ATTACH is known if the facts showed it before, and the log was read
 * up to an LSN that was read after those facts. If the stream comes to the partition first, it had
 * been attached by then; but it may have been detached and attached once more since, with rows that
 * were written in between. Then a row that the log names must not be one that it says is deleted,
 * and bear the xid that it names, or, since it may be that of a savepoint, be just the row that it
 * has. If it is otherwise nobody can tell: the position becomes one of xmins.
 *
 * The pgoutput of Postgres 14 goes on to take a table that was written to for what it was when it
 * was attached, until the stream begins anew. So there the position becomes one of xmins always;
 * and where the stream has sent, for other sources that share it, what was before the place from
 * which on this source goes by the log again, it begins anew at that place: what is sent from there
 * on is written after the ATTACH, and nothing that was before it.
 *
 * While it was detached nothing but new xids can have been written to a partition that was known:
 * of that, rows of xids below the floor are passed over.
 *
 * Since when a partition is attached is a hash of the rows of pg_inherits between it and its table,
 * with the xids that wrote them.
 *
 * SPDX-License-Identifier: MIT */
#ifndef LOG_LEAVES_H
#define LOG_LEAVES_H

#include "capture/position.h"

struct log_leaves_item {
    uint32_t oid;
    uint64_t attached;
    bool has_rows; /* of one that the position does not know by its oid: it has blocks */
};

/* Zeroed: nothing is known. */
struct log_leaves {
    struct log_leaves_item *v; /* as the newest facts have them; owned */
    size_t n, cap;
    uint64_t tree;      /* a hash of them */
    uint64_t lsn;       /* the log's end, read after the newest facts, */
    uint64_t before;    /* and after those before: the newest facts are younger */
    /* some are new, and to be read: */
    uint64_t due_tree;  /* these, */
    uint64_t due_lsn;   /* once the log was read up to here; 0: there are none */
    uint64_t met_lsn;   /* the log has come to a change of one, in the transaction that commits
                         * here; 0: it has not */
    bool is_stale;      /* the stream is to begin anew, see above */
    const char *doubt;  /* why nobody can tell which of their rows to read; NULL: one can */
};

void log_leaves_fini(struct log_leaves *l);

/* Reads "oid attached has_rows ...", as the facts have it; NULL: there are none. <lsn>: the log's
 * end, which was read after that. */
bool log_leaves_read(struct log_leaves *l, const char *text, uint64_t lsn,
                     struct err *e) WARN_UNUSED;

/* True if the partition is new, and is to be read before the log brings changes of it. */
bool log_leaves_is_new(const struct log_leaves *l, const struct position *p, uint32_t oid);

/* True if any is. */
bool log_leaves_has_new(const struct log_leaves *l, const struct position *p);

/* True if what the log brings of the transaction that commits at <lsn> is older than the newest
 * facts, so that it may be held against them. */
bool log_leaves_is_past(const struct log_leaves *l, uint64_t lsn);

/* After the facts of a step were read: true if those that are new are to be read in this step.
 * *is_sure: the log before the position has what attached them. */
bool log_leaves_are_due(struct log_leaves *l, const struct position *p, bool *is_sure);

/* The position knows the one with this oid, which is not new. False: out of memory. */
bool log_leaves_know(const struct log_leaves *l, struct position *p, uint32_t oid) WARN_UNUSED;

/* The position knows all those of the facts by their oids: it learns since when they are attached.
 * None is new any more. */
void log_leaves_know_all(struct log_leaves *l, struct position *p);

#endif
