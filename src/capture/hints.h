/* hints.h -- which blocks a poll must read: those that the server's WAL says were written since.
 *
 * Pure functions, no I/O; hinted.h asks the server. A hint only decides which blocks are read. What
 * is delivered is decided by xids, as horizon.h has it; so a hint that is too wide costs time, and
 * in doubt the table is scanned. Terms: F, "seen" and S are those of horizon.h.
 *
 * A note is (L0, the filenodes of the leaves, N0), asked for outside of a transaction, in this
 * order, as statements of their own: L0, up to where the WAL is flushed (on a standby: replayed);
 * the filenodes; N0, the next xid. Not the xmax of a snapshot, which is above the last xid that is
 * over, not above those that are under way. Not the insert position, since after a crash WAL that
 * was not flushed is written anew, by new xids. It names the server that was asked.
 *
 * A poll takes its lock and its snapshot S, and only then asks for E, up to where WAL is inserted
 * (replayed). It waits until the WAL is flushed up to there, and reads what it has from R, where
 * the poll before it stopped, to E: pairs (xid, block) of records that put a version of a row into
 * a block of these filenodes. Then R is E. The first R is L0. R is the border of two records; a
 * flush position may lie inside of one, which both ranges would leave out. (What L0 cuts has an xid
 * below N0.)
 *
 * The poll is armed if F >= N0, the ranges from L0 to R have no hole between them, and the leaves
 * have the filenodes of the note. Then it reads the blocks of all pairs whose xid is >= F and not
 * seen, by the condition of a scan. Otherwise it scans. What is behind F or seen afterwards is
 * forgotten.
 *
 * Nothing is missed. Let v be a version that is visible in S, and its xid x be >= F and not seen.
 *  1. x >= F >= N0, so x was given out after N0 was asked for, and all its records lie behind L0.
 *  2. v's writer had committed before S was taken, and E was asked for after that. So the record of
 *     v ends at or before E. (On a standby a commit may be visible before its own record counts as
 *     replayed; v's record does count.)
 *  3. The WAL from L0 to E was read whole. It was flushed, so on one timeline no crash changes it.
 *  4. The record that put v where it was put bears x, the very (sub)transaction, and names the
 *     block: so do INSERT, MULTI_INSERT, UPDATE (the new page is block 0) and HOT_UPDATE, with
 *     images of the page and +INIT too. What is not known to put no version anywhere counts as if
 *     it did.
 *  5. v is still in that block: pruning and freezing move nothing to another page. Whatever writes
 *     the table anew (VACUUM FULL, CLUSTER, TRUNCATE, many an ALTER TABLE) gives it another
 *     filenode, and a filenode does not come back. x had not begun when the filenodes were asked
 *     for, so v was written to the file of the note.
 *  6. Not in the WAL are unlogged tables, which are not read this way, and with wal_level = minimal
 *     what the transaction wrote that made the file. That one was over at the note: its xid is
 *     below N0.
 * Nothing is repeated: which rows of the blocks are new, horizon.h says.
 *
 * Summaries. From Postgres 17 on a server may keep summaries of its WAL, for days: each has the
 * blocks that were written from one LSN to another, without xids. Where WAL from R on was removed,
 * or is more than pays to be read, summaries of the timeline take its place that have all of it
 * from R to some X without a hole. Afterwards the next xid is asked for, N'. Then R is X, and the
 * blocks count as written by every xid below N': they are read until the floor has reached it.
 *
 * That misses nothing either. Let the record that put v into its block begin between the former R
 * and X. A summary begins and ends at the border of two records, and has the blocks of all that
 * begin in it; so v's block is named. It is made of WAL that is flushed (on a standby: replayed).
 * What it leaves out are blocks that a later record cut off, or whose file was dropped: v would
 * not be there. And x was given out before X was written, so it is below N'. (R may lie inside of
 * a summary: its other blocks are read too.)
 *
 * After a crash R and the pairs are forgotten. The note stays good: L0 was flushed, so what xids do
 * that are given out again lies behind it.
 *
 * SPDX-License-Identifier: MIT */
#ifndef HINTS_H
#define HINTS_H

#include "capture/horizon.h"
#include "capture/identity.h"
#include "capture/relation.h"

#define HINTS_MOST_PAIRS 1000000 /* of more, the table is scanned */
#define HINTS_MOST_RANGES 100000
#define HINTS_ANY_XID 0 /* which no version has */

/* A version of a row was put into this block of the file. */
struct hints_pair {
    uint64_t xid; /* HINTS_ANY_XID: one that is below <any_below> */
    uint32_t filenode, block;
};

/* Blocks from <block> on and before <end>. */
struct hints_range {
    uint32_t filenode, block, end;
};

struct hints_leaf {
    uint32_t oid, filenode;
};

struct hints {
    uint64_t xid, lsn;           /* the note: N0, L0; xid 0: there is none */
    struct hints_leaf *leaves;   /* with these filenodes */
    size_t n_leaves, cap_leaves;
    uint64_t next_xid, next_lsn; /* a younger note, with the same filenodes; next_xid 0: none */
    struct identity server;      /* of whom the notes speak */
    uint64_t read_to;            /* R */
    struct hints_pair *pairs;
    size_t n_pairs, cap_pairs;
    uint64_t any_below;          /* N', of summaries; 0: none was read */
    struct hints_range *ranges;  /* of hints_plan: what the poll in hand reads */
    size_t n_ranges, cap_ranges;
};

/* Zeroed is empty. Frees what it owns and empties it. */
void hints_fini(struct hints *h);

/* Forgets the note, and all that was read since. */
void hints_drop(struct hints *h);

/* A note begins: its leaves follow. */
void hints_begin_note(struct hints *h, uint64_t lsn, const struct identity *server);
/* False: out of memory. */
bool hints_add_leaf(struct hints *h, uint32_t oid, uint32_t filenode) WARN_UNUSED;
/* The xid of a note, N0, makes it one. */
void hints_end_note(struct hints *h, uint64_t xid);

/* N: <xmax>, of a snapshot, is not above the next xid, and <age> is the age of xid 3, which is how
 * far the next xid is from it in 32 bits. */
uint64_t hints_next_xid(uint64_t xmax, int64_t age);

/* False: the note, or what was read since, is of another server than the one that answers, or of
 * another run of it. *is_other: the note itself. */
bool hints_is_of(const struct hints *h, const struct identity *now, bool *is_other);

/* True if the leaves are those of the note, with its filenodes. */
bool hints_has_leaves(const struct hints *h, const struct relation *t);

/* E, in a poll's transaction. On a primary it is what the statement has told that took S, in <now>:
 * WAL that our own reading makes afterwards need not be flushed. A standby was asked again for it:
 * <replayed>, since what <now> has may have been asked for before S. */
uint64_t hints_end(const struct identity *now, uint64_t replayed);

/* True if the WAL must be flushed before it is read: it is up to <flush>, and E is <end>. */
bool hints_must_wait(uint64_t flush, uint64_t end);

/* True if there is no version that is >= F and older than the note. (The caller has looked at the
 * server, the leaves and the WAL.) */
bool hints_is_armed(const struct hints *h, const struct horizon *horizon);

/* The 64-bit xid of a record of the WAL: the one nearest to <floor> with that lower half. */
uint64_t hints_widen(uint32_t xid, uint64_t floor);

/* False: out of memory. */
bool hints_add(struct hints *h, uint64_t xid, uint32_t filenode, uint32_t block) WARN_UNUSED;

/* All pairs up to <end>, an insert position (replayed), were added: R moves there. */
void hints_have_read(struct hints *h, uint64_t end);

/* WAL of which there is a summary. */
struct hints_summary {
    uint64_t start, end;
};

/* Brings those of <n> summaries to the front that together have all WAL from <from> on, without a
 * hole, as far as there are such. *n: how many they are. Returns X, or <from>. */
uint64_t hints_cover(struct hints_summary *summaries, size_t *n, uint64_t from);

/* A block that one of them names. False: out of memory. */
bool hints_add_summarized(struct hints *h, uint32_t filenode, uint32_t block) WARN_UNUSED;

/* All of these were added, up to <end>, and then <next_xid> was asked for. */
void hints_have_summaries(struct hints *h, uint64_t end, uint64_t next_xid);

/* Fills <ranges>: the blocks of all pairs that are not below the floor and not seen, in the order
 * of files and blocks. *blocks: how many they are. False: out of memory. */
bool hints_plan(struct hints *h, const struct horizon *horizon, uint64_t *blocks) WARN_UNUSED;

/* A poll is complete, and has brought the horizon to where it is: forgets the pairs of what is
 * done. A younger note becomes the one to keep, *xid and *lsn, if it is not above the floor. */
void hints_forget(struct hints *h, const struct horizon *horizon, uint64_t *xid, uint64_t *lsn);

#endif
