/* logical.h -- which transactions of the server's log are new: capture = "logical".
 *
 * Pure functions on the part of a position that speaks of the log, no I/O. Why this is exact:
 *
 * The log (pg/pgoutput.h) brings transactions whole, in the order of their commit records. A
 * position has an LSN: those whose commit record begins before it are done.
 *
 * A position of xmins (horizon.h) is handed over in one poll. Before it a slot is made, which
 * brings what commits after its consistent point L0, and a snapshot S0 of just what committed
 * before it, whose text lists every other xid, those of savepoints too. The poll's snapshot P must
 * contain S0 (logical_contains). Then what P shows was delivered by the poll, or before it; what it
 * does not show is not in S0, so the log brings it. Of that the transactions that P shows are
 * skipped. They committed before P was taken, so before any LSN that was read after it: beyond that
 * (<until>) P need not be asked. P lists no savepoints, but the log names top-level transactions
 * only.
 *
 * P may not contain S0 at first: a commit is in the log before other sessions see it, and where it
 * waits for a standby the time between is long. Then the poll is made again.
 *
 * On a standby an ordinary snapshot lists nobody. So there the poll is made in S0 itself, which is
 * imported, and nothing is skipped. S0 is older than the poll's lock: where the table was written
 * anew in between, S0 shows nothing of it, and another slot is made. S0 contains all that the
 * standby showed before the slot was made, since what is visible there is what was replayed.
 *
 * Back: the floor and the seen xids of the position's horizon follow the log, see
 * method_logical.c.
 *
 * SPDX-License-Identifier: MIT */
#ifndef LOGICAL_H
#define LOGICAL_H

#include "capture/horizon.h"

#define LOGICAL_MOST_SEEN 1000000 /* xids that a position has; the oldest go first */

/* A place in a transaction: the changes whose records begin before <lsn> are done, and <n> of the
 * source's that have this LSN. (It never goes back within a transaction, and is the same whenever
 * that is decoded. Rows that were written at once, as by COPY, share one.) Zeroed: none. */
struct logical_inside {
    uint64_t commit; /* of the transaction: where its commit record begins; 0: there is no place */
    uint64_t lsn, n;
};

/* Zeroed: the position is one of another method. */
struct logical {
    char *slot;       /* a slot of ours, or one that is to be made; owned; NULL: none */
    uint64_t lsn;     /* 0: the position was not handed over yet */
    struct logical_inside inside; /* the transaction that comes next is done up to here */
    uint64_t until;   /* 0: <shown> need not be asked */
    char *shown;      /* text of P; owned; NULL if <until> is 0 */
    uint64_t published; /* a hash of how the publication had the table before the slot was made */
};

void logical_fini(struct logical *l);

/* Overwrites <to>. False: out of memory, <to> is empty. */
bool logical_copy(struct logical *to, const struct logical *from) WARN_UNUSED;

/* The position is handed over: the log brings what commits from <lsn> on, of which <shown>, copied,
 * shows some that commit before <until>. <published>: as above. False: out of memory. */
bool logical_begin(struct logical *l, uint64_t lsn, const char *shown, uint64_t until,
                   uint64_t published) WARN_UNUSED;

/* It is one of xmins again. The slot stays known. */
void logical_end(struct logical *l);

/* True if the transaction was delivered before. */
bool logical_is_done(const struct logical *l, uint64_t commit_lsn, uint64_t xid);

/* True if the source's <nth> change with this LSN, of the transaction of <in>, is done. */
bool logical_is_inside(const struct logical_inside *in, uint64_t lsn, uint64_t nth);

/* All before <lsn> is done. */
void logical_advance(struct logical *l, uint64_t lsn);

/* The 64-bit xid nearest to <near> with this lower half. */
uint64_t logical_widen(uint32_t xid, uint64_t near);

/* True if the snapshot shows what <xid> has written, which may be a savepoint's only in a text that
 * lists them. */
bool logical_shows(const struct horizon_snapshot *s, uint64_t xid);

/* True if the snapshot, of an ordinary session, shows all that transactions <seen> have written,
 * which are all that were delivered of those that are not below the floor. (If there were more than
 * LOGICAL_MOST_SEEN nobody knows: false.) */
bool logical_shows_all(const struct horizon_snapshot *s, const struct xidset *seen);

/* True if <p>, taken later than <s0> by an ordinary session, shows all that <s0> shows. */
bool logical_contains(const struct horizon_snapshot *p, const struct horizon_snapshot *s0);

#endif
