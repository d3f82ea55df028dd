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
#include "capture/pages.h"

enum position_phase {
    POSITION_NONE,     /* never read */
    POSITION_SNAPSHOT, /* existing rows are read, range by range */
    POSITION_POLL,     /* the snapshot is complete */
};

/* Where the snapshot is in one relation: blocks before <next> are done, those
 * from <blocks> on need not be read. */
struct position_leaf {
    uint32_t oid, filenode;
    uint32_t blocks, next;
};

/* A poll that ended early delivered the rows of <xid> up to and including the one with this key.
 * Of an xid the tombstones come first. */
struct position_resume_point {
    uint64_t xid;
    bool is_tombstone; /* the last row was one: no other rows of <xid> were delivered */
    char *key;         /* its fields as COPY text, tabs between; owned */
};

/* A range of the snapshot that ended early: of the blocks of <leaf> before <end> the rows with
 * these keys were delivered, each as often as its key stands here. */
struct position_done {
    uint32_t leaf, end;
    char *keys; /* fields as COPY text, tabs between, a newline after each key; owned;
                 * NULL: no range ended early */
};

/* The horizon is one of stamps, see sql_trigger.h, or, unless <is_used>, of xmins. */
struct position_stamps {
    bool is_used;
    uint64_t since;           /* the xid that made the triggers */
    uint64_t tombstone_floor; /* tombstones below it were delivered */
};

struct position {
    enum position_phase phase;
    struct horizon horizon; /* in the snapshot phase: floor is S0.xmin, nothing is seen */
    uint64_t floor_lsn;     /* the floor holds after a crash once this is flushed; 0: it is */
    struct identity identity;
    uint32_t table;         /* oid */
    char *signature;        /* the columns, see struct rowtype */
    struct position_leaf *leaves; /* known leaves; ranges are read in this order */
    size_t n_leaves, cap_leaves;
    uint64_t rows;          /* delivered by the snapshot so far, for the progress line */
    uint64_t reads;         /* how often the snapshot was begun, if we look for deletes */
    uint64_t last_change;   /* the number of the last change that was delivered, see state/diff.h;
                             * 0: none */
    bool is_learned;        /* every row that was there when deletes were first looked for is
                             * known, see diff.h */
    /* of the polls that ended early; of xids not done yet */
    struct position_resume_point *resume_points;
    size_t n_resume_points, cap_resume_points;
    struct position_done done;
    struct position_stamps stamps;
    struct increment increment; /* where polls go by a column that grows */
    struct pages pages;         /* where rows have no xids */
};

void position_fini(struct position *p);
bool position_copy(struct position *to, const struct position *from) WARN_UNUSED;

struct position_leaf *position_leaf(const struct position *p, uint32_t oid);

/* True if tombstones below the floor are still to be delivered. */
bool position_owes_tombstones(const struct position *p);

/* Replaces the known leaves by room for <n>, zeroed. */
bool position_set_leaves(struct position *p, size_t n) WARN_UNUSED;

/* The last row of a poll that ends early. */
struct position_last {
    uint64_t xid;
    bool is_tombstone;
    bool is_recheck; /* the poll reads all rows, not those of a window, see increment.h */
    const char *key; /* <len> bytes, as in a resume point */
    size_t len;
};

/* Records a poll that ends early: all rows of the xids <delivered> below that of <last> are done,
 * and those of its own up to its key. Rows came by xid: polls that ended early at an xid below it
 * are done too. */
bool position_end_early(struct position *p, const struct xidset *delivered,
                        const struct position_last *last) WARN_UNUSED;

/* Adds a resume point as it stands; <key>, <len> bytes, is copied. */
bool position_add_resume_point(struct position *p, uint64_t xid, bool is_tombstone,
                               const char *key, size_t len) WARN_UNUSED;

/* True if the resume points are those of windows, which were to deliver no row below the base. */
bool position_resumes_window(const struct position *p);

/* A poll is complete, so that no resume point counts any more: their xids are added to
 * <delivered>. */
bool position_take_resume_points(struct position *p, struct xidset *delivered) WARN_UNUSED;
void position_forget_resume_points(struct position *p);

/* Records a range of the snapshot, of the blocks of <leaf> before <end>, that ends early after
 * the rows with the <keys>, <len> bytes. What was recorded of it before is kept. */
bool position_add_done(struct position *p, uint32_t leaf, uint32_t end, const char *keys,
                       size_t len) WARN_UNUSED;
void position_forget_done(struct position *p);

/* The snapshot's share that is done, in blocks. */
void position_progress(const struct position *p, uint64_t *done, uint64_t *total);

#endif
