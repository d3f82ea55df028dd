/* position.h -- how far a source has come, as it is kept.
 *
 * A value: copied into the last chunk of a poll or of a snapshot range, saved
 * by the host once that is delivered. No I/O here.
 *
 * SPDX-License-Identifier: MIT */
#ifndef POSITION_H
#define POSITION_H

#include "capture/horizon.h"
#include "capture/identity.h"
#include "capture/increment.h"
#include "capture/logical.h"
#include "capture/pages.h"
#include "capture/reread.h"
#include "capture/row_order.h"

enum position_phase {
    POSITION_NONE,     /* never read */
    POSITION_SNAPSHOT, /* existing rows are read, range by range */
    POSITION_POLL,     /* the snapshot is complete */
};

/* Where the snapshot is in one leaf: its blocks before <next> are done, those from <blocks> on need
 * not be read. */
struct position_leaf {
    uint32_t oid, filenode;
    uint32_t blocks, next;
    uint64_t attached; /* where changes come by the log: see log_leaves.h; 0: it is not known */
};

/* A poll that ended early delivered the rows of <xid> up to and including the one with this key, or
 * those with a lower fingerprint and <n> with this one. The tombstones of an xid come before its
 * rows. What was delivered is told whatever the order of rows is now. */
struct position_resume_point {
    uint64_t xid;
    bool is_tombstone; /* the last row was one: no other rows of <xid> were delivered */
    enum row_order order;
    char *key;         /* its fields as COPY text, tabs between; owned; NULL: by fingerprint */
    int64_t fingerprint;
    uint64_t n;
    uint64_t scope;    /* what the fingerprint is of, see struct rowtype */
};

/* A range of the snapshot that ended early: of the blocks of <leaf> before <end>, the rows with
 * these marks (see chunk_row_mark) were delivered, a mark that stands here twice for two rows. */
struct position_done {
    uint32_t leaf, end;
    char *keys; /* a newline after each; owned; NULL: no range ended early */
};

/* If <is_used>, the horizon is one of stamps, see sql_trigger.h; otherwise of xmins. */
struct position_stamps {
    bool is_used;
    uint64_t since;           /* the xid that installed the triggers */
    uint64_t tombstone_floor; /* tombstones below it were delivered */
};

struct position {
    enum position_phase phase;
    struct horizon horizon; /* in the snapshot phase the floor is the xmin of the snapshot that the
                             * position began with, and nothing is seen */
    uint64_t floor_lsn;     /* once this is flushed, no crash undoes the floor; 0: it is flushed */
    struct identity identity;
    uint32_t table;         /* oid */
    char *signature;        /* the columns of rows, see struct rowtype */
    char *columns;          /* what is known of all columns, see alter.h; NULL: nothing */
    char *declared;         /* what the script asked for, see declared.h; NULL: it is not known */
    struct position_leaf *leaves; /* known leaves; ranges are read in this order */
    size_t n_leaves, cap_leaves;
    uint64_t rows;          /* delivered by the snapshot so far, for the progress line */
    uint64_t reads;         /* how often the snapshot was begun; only counted with deletes */
    uint64_t last_change;   /* the number of the last change that was delivered, see state/diff.h;
                             * 0: none */
    bool is_learned;        /* every row that was there when deletes were first looked for is
                             * known, see state/diff.h */
    bool is_partial;        /* the first read, or the poll after it, is under way: rows may be there
                             * that are not known */
    /* of the polls that ended early, for xids that are not done yet */
    struct position_resume_point *resume_points;
    size_t n_resume_points, cap_resume_points;
    struct position_done done; /* also of a range that is read again */
    struct reread reread;
    uint64_t hint_xid, hint_lsn; /* a note of hints.h, whose filenodes are those of <leaves>; 0:
                                  * none */
    struct position_stamps stamps;
    struct increment increment; /* where polls go by a column that grows */
    struct pages pages;         /* where rows have no xids */
    struct logical logical;     /* where changes come by the log */
    char *fed;                  /* CONFIG_BY_FEED: how far, in the words of who feeds; else NULL */
};

void position_fini(struct position *p);

/* Overwrites <to>. False: out of memory, <to> is empty. */
bool position_copy(struct position *to, const struct position *from) WARN_UNUSED;

/* By what a poll that reads the whole table tells new rows: the horizon, or, if that is a recheck
 * (increment.h), the floor of the one before. (Of those a recheck leaves out what windows brought.)
 * What it owns is borrowed. */
struct horizon position_scan_horizon(const struct position *p);

/* The known leaf with this oid, borrowed, or NULL. */
struct position_leaf *position_leaf(const struct position *p, uint32_t oid);

/* True if tombstones below the floor are still to be delivered. */
bool position_owes_tombstones(const struct position *p);

/* Replaces the known leaves by <n> zeroed ones. False: out of memory. */
bool position_set_leaves(struct position *p, size_t n) WARN_UNUSED;

/* The last row of a poll that ends early. */
struct position_last {
    uint64_t xid;
    bool is_tombstone;
    bool is_recheck; /* the poll reads all rows, not those of a window, see increment.h */
    enum row_order order;
    const char *key; /* <len> bytes, as the rest as in a resume point */
    size_t len;
    int64_t fingerprint;
    uint64_t n, scope;
};

/* Records a poll that ends early. Its rows came by xid and in <last>'s order: so all rows of the
 * xids <delivered> below that of <last> are done, rows of that xid up to <last>, and earlier polls
 * that ended early at an xid below it. False: out of memory. */
bool position_end_early(struct position *p, const struct xidset *delivered,
                        const struct position_last *last) WARN_UNUSED;

/* Adds a resume point as it stands, with a copy of the key. False: out of memory. */
bool position_add_resume_point(struct position *p, const struct position_last *point) WARN_UNUSED;

/* Forgets the resume points by fingerprints of another scope, so that all rows of their xids come
 * again. *n: how many there were. */
void position_forget_other_scopes(struct position *p, uint64_t scope, size_t *n);

/* True if the resume points are those of windows, which deliver no row below the base. */
bool position_resumes_window(const struct position *p);

/* A poll is complete: moves the xids of the resume points to <delivered>, and forgets the points.
 * False: out of memory. */
bool position_take_resume_points(struct position *p, struct xidset *delivered) WARN_UNUSED;
void position_forget_resume_points(struct position *p);

/* Records a range of the snapshot, of the blocks of <leaf> before <end>, that ends early after
 * the rows with the <keys>, <len> bytes. What was recorded of it before is kept. False: out of
 * memory. */
bool position_add_done(struct position *p, uint32_t leaf, uint32_t end, const char *keys,
                       size_t len) WARN_UNUSED;
void position_forget_done(struct position *p);

/* How much of the snapshot is done, in blocks. */
void position_progress(const struct position *p, uint64_t *done, uint64_t *total);

#endif
