/* horizon.h -- the capture rule: which row versions are new.
 *
 * Pure functions on a source's horizon, no I/O. Why this is exact:
 *
 * A horizon is a floor F (every version written by an xid below F that is
 * still visible has been delivered) and a set of seen xids >= F whose
 * versions have been delivered. A poll reads one snapshot S and delivers each
 * visible version whose xid is >= F and not seen. Then the floor moves to
 * min(S.xmin, D) and what was delivered at or above it becomes seen.
 *
 * Nothing is missed: a version visible in S but not in the previous snapshot
 * P was written by a transaction that was in progress at P or began later, so its
 * top-level xid is >= P.xmin >= F, and a subtransaction's xid is later than
 * its parent's. If its xid were seen, versions of that xid would have been visible
 * at P; but all of them become visible at once, at the top-level commit.
 * Nothing is repeated: a version delivered at P is below F' or in seen'.
 *
 * D, the durable bound: a crash can undo a commit made with
 * synchronous_commit = off after we saw it, and its xid may be given out again.
 * So each poll records (S.xmax, WAL insert position), and D is the newest
 * recorded xmax whose position has been flushed.
 *
 * Aliases: in a cluster older than 2^32 transactions the xmin of a frozen row may read like the
 * xid of a (sub)transaction that is under way. If that xid is taken for seen, the rows that it
 * writes are hidden. The snapshot's text does not tell: it lists no subtransactions, and on a
 * standby no xids at all. So the server is asked for the state of each xid from S.xmin on, right
 * before S is taken and right after it (struct horizon_in_doubt). An xid that was over before S was
 * over in S, hence the row may be its own. An xid that is still under way after S was under way in
 * S, which shows none of its rows; so the row is frozen, and old. An xid that ended (or began) in
 * between counts as under way in S, whether it was or not: its rows are left to the next poll, and
 * the proof above holds as it stands. One effect of aliases remains: a frozen row is delivered once
 * too often, when the transaction whose xid it seems to bear is over.
 *
 * SPDX-License-Identifier: MIT */
#ifndef HORIZON_H
#define HORIZON_H

#include "capture/xidset.h"

#define HORIZON_FIRST_XID 3u
#define HORIZON_MAX_AGE (((uint64_t)1 << 31) - 10000000) /* 32-bit order is lost beyond */
#define HORIZON_UNBOUNDED UINT64_MAX

/* pg_current_snapshot(): all xids below xmin are over, none at or above xmax was over yet. <text>
 * is what the server wrote, borrowed. */
struct horizon_snapshot {
    uint64_t xmin, xmax;
    const char *text;
};

/* False: <text> is no snapshot. <s> borrows it. (One made from the log may have an xmin above its
 * xmax, if the newest transactions have rolled back: it lists nobody, and all below xmin are
 * over.) */
bool horizon_parse_snapshot(struct horizon_snapshot *s, const char *text) WARN_UNUSED;

/* F, and the xids >= F that were seen. */
struct horizon {
    uint64_t floor;
    struct xidset seen;
};

/* Overwrites <to>. False: out of memory. */
bool horizon_copy(struct horizon *to, const struct horizon *from) WARN_UNUSED;
void horizon_fini(struct horizon *h);

/* The 64-bit xid of a row's 32-bit xmin: the newest one below <xmax> with
 * that lower half. The special xids 0, 1 and 2, and what could only be
 * older than the cluster, become 0: below every floor. */
uint64_t horizon_widen(uint32_t xmin, uint64_t xmax);

/* What the server said of xids at one time: all below <xmax> were over, except <xids>. Of xids
 * below 2^32 or S.xmin it was not asked. */
struct horizon_open {
    uint64_t xmax;
    struct xidset xids;
};

/* Which of the xids that an alias may name, from 2^32 and from S.xmin on, were under way when a
 * snapshot S was taken. Zeroed: all of them are in doubt. */
struct horizon_in_doubt {
    struct horizon_open before, after; /* S was taken; after it <xmax> is S.xmax */
    char run[128];                     /* names the run of the server that said so */
};

void horizon_forget_in_doubt(struct horizon_in_doubt *d);

/* Overwrites <to>, for another source that reads by the same snapshot. False: out of memory. */
bool horizon_copy_in_doubt(struct horizon_in_doubt *to,
                           const struct horizon_in_doubt *from) WARN_UNUSED;

/* As horizon_widen, for a row that is visible in <s>: an alias of an xid that is under way becomes
 * 2^32 lower, since the row is old. *is_doubtful: nobody can tell whether the xid was under way in
 * <s>, so the row must be left to the next poll. */
uint64_t horizon_widen_visible(uint32_t xmin, const struct horizon_snapshot *s,
                               const struct horizon_in_doubt *d, bool *is_doubtful);

/* True if a version with this xid is new: it is >= F and not seen. */
bool horizon_is_new(const struct horizon *h, uint64_t xid);

/* A floor as statements write it, in 32 bits. age() of the special xids is the largest integer, so
 * instead of one of them it is the first normal xid. */
uint32_t horizon_floor32(uint64_t floor);

/* All of a poll of snapshot <s> was delivered: the floor moves, and <delivered>, the xids delivered
 * in the poll, are seen. <durable>: D, or HORIZON_UNBOUNDED. False: out of memory, <h> stays as it
 * was. */
bool horizon_advance(struct horizon *h, const struct horizon_snapshot *s,
                     const struct xidset *delivered, uint64_t durable) WARN_UNUSED;

/* The pairs (S.xmax, WAL insert position) that are not known to be flushed yet, in the order of the
 * polls, and the newest one that is. If a pair is dropped, D is only lower than it could be. */
#define HORIZON_DURABLE_MAX 16
struct horizon_durable {
    struct { uint64_t xmax, lsn; } unflushed[HORIZON_DURABLE_MAX];
    size_t n;
    uint64_t xmax, lsn; /* the newest flushed pair; 0, 0 at birth */
};

/* Records the pair of a poll. */
void horizon_add_durable(struct horizon_durable *d, uint64_t xmax, uint64_t lsn);

/* The WAL is flushed up to <flush_lsn>: so are the pairs up to there. */
void horizon_flush_durable(struct horizon_durable *d, uint64_t flush_lsn);

#endif
