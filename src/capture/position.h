/* position.h -- how far a source has come, as it is kept.
 *
 * A value: copied into the last batch of a poll or of a snapshot range, saved
 * by the host once that batch is delivered. No I/O here.
 *
 * SPDX-License-Identifier: MIT */
#ifndef POSITION_H
#define POSITION_H

#include "capture/horizon.h"
#include "capture/identity.h"
#include "capture/increment.h"
#include "capture/pages.h"

enum phase {
    PHASE_NONE,     /* never read */
    PHASE_SNAPSHOT, /* existing rows are read, range by range */
    PHASE_POLL,     /* the snapshot is behind us */
};

/* A cut's key begins with this where the last change was a tombstone: of an xid these come first.
 * (No field of COPY does.) */
#define RESUME_AFTER_TOMBSTONE "\\d"

/* Where the snapshot is in one relation: blocks before <next> are done, those
 * from <blocks> on need not be read. */
struct leaf {
    uint32_t oid, filenode;
    uint32_t blocks, next;
};

/* A poll that ended early delivered the rows of <xid> up to and including the one whose key
 * fields read <key> (COPY text, tabs between, a NUL behind). */
struct resume_point {
    uint64_t xid;
    char *key;
};

/* A range of the snapshot that ended early: of the blocks of <leaf> before <end> the rows with
 * these keys were delivered, once for each time that a key stands here. */
struct done_keys {
    uint32_t leaf, end;
    char *keys; /* as in a cut, a newline behind each; NULL: no range ended early */
};

struct position {
    enum phase phase;
    struct horizon horizon; /* in the snapshot phase: floor is S0.xmin, nothing is seen */
    uint64_t floor_lsn;     /* the floor holds after a crash once this is flushed; 0: it is */
    struct identity identity;
    uint32_t table;         /* oid */
    char *signature;        /* the columns, see struct rowtype */
    struct leaf *leaves;    /* known leaves; ranges are read in this order */
    size_t n_leaves;
    uint64_t rows;          /* delivered by the snapshot so far, for the progress line */
    uint64_t reads;         /* how often the snapshot was begun, if we look for deletes */
    uint64_t last_change;   /* number of the last change delivered, see kept_rows.h; 0: none is
                             * kept */
    bool is_learned;        /* every row that was there when deletes were first looked for is
                             * known, see diff.h */
    struct resume_point *resume_points; /* of the polls that ended early; of xids not done yet */
    size_t n_resume_points;
    struct done_keys done;
    uint64_t stamped_since; /* the horizon is one of stamps, of triggers of that xid; 0: of xmins */
    uint64_t gone_floor;    /* tombstones below it were delivered; 0 where there are none */
    struct increment increment; /* where polls go by a column that grows */
    struct pages pages;       /* where rows have no xids */
};

void position_fini(struct position *p);
bool position_copy(struct position *to, const struct position *from) WARN_UNUSED;

struct leaf *position_leaf(const struct position *p, uint32_t oid);
/* Replaces the known leaves by room for <n>, zeroed. */
bool position_set_leaves(struct position *p, size_t n) WARN_UNUSED;

/* Records a poll that ends early: all rows of the xids <delivered> below <xid> are done, and
 * those of <xid> up to <key>, <len> bytes. Rows came by xid: what was cut below it is done too.
 * Where it goes by a column that grows increment.is_rechecking tells which rows "all" are. */
bool position_end_early(struct position *p, const struct xidset *delivered, uint64_t xid,
                        const char *key, size_t len) WARN_UNUSED;

/* Adds a cut as it stands; <key> is copied. */
bool position_add_resume_point(struct position *p, uint64_t xid, const char *key,
                               size_t len) WARN_UNUSED;

/* Are the resume points those of windows, which were to deliver no row below the base? */
bool position_resumes_window(const struct position *p);

/* A poll is complete, so that no cut counts any more: their xids are added to <delivered>. */
bool position_take_resume_points(struct position *p, struct xidset *delivered) WARN_UNUSED;
void position_forget_resume_points(struct position *p);

/* Records a range of the snapshot, of the blocks of <leaf> before <end>, that ends early behind
 * the rows with the <keys>, <len> bytes. What was recorded of it before is kept. */
bool position_add_done(struct position *p, uint32_t leaf, uint32_t end, const char *keys,
                       size_t len) WARN_UNUSED;
void position_forget_done(struct position *p);

/* The snapshot's share that is done, in blocks. */
void position_progress(const struct position *p, uint64_t *done, uint64_t *total);

#endif
