/* delivery.h -- where the delivery of one source is.
 *
 * Its acknowledged position, what of the poll or range in hand has been
 * delivered, and where that may be cut: rows of a poll come by xid and key, so
 * the last one tells; of a range the keys delivered are kept. No Lua.
 *
 * SPDX-License-Identifier: MIT */
#ifndef DELIVERY_H
#define DELIVERY_H

#include "state/diff.h"
#include "capture/position_text.h"

struct delivery {
    struct position position; /* the newest one that was acknowledged */
    bool is_known;            /* there is one */
    bool is_resolved;         /* the source's name is final */
    bool is_unsaved;
    uint64_t count;           /* changes of the poll or range in hand that were delivered */
    struct xidset delivered;  /* the xids of the poll in hand */
    struct {                  /* where what is in hand may be cut: behind its last row delivered */
        bool is_known, is_snapshot, is_recheck, is_tombstone;
        uint64_t xid;         /* of that row, in a poll */
        uint32_t leaf, end;   /* of the range */
        bool is_gone;         /* nothing but deletes was delivered yet: it is where it was */
        uint64_t seq;         /* of the last change; 0: it has none */
        struct buf keys;      /* that row's key; of all rows of the range, a newline behind each */
    } last;
    struct queue_list parked; /* taken from the queue while the source was paused */
    struct diff *diff;    /* owned; NULL: the source does not look for deletes */
    bool has_gone;            /* the batch in hand began with deletes, not with its rows */
    struct chunk *gone;       /* deletes that are being delivered, <gone_done> of them done */
    size_t gone_done;
    size_t resume;            /* rows of the first one that were delivered */
    bool is_settling;         /* all of them were, and what is left is to save the position */
};

void delivery_init(struct delivery *t);
void delivery_fini(struct delivery *t);

/* Takes the position of <c>, whose poll or range is done. */
void delivery_adopt(struct delivery *t, struct chunk *c);

/* Rows <from> to <done> of <c> were delivered. False: out of memory, as below. */
bool delivery_delivered(struct delivery *t, const struct chunk *c, size_t from,
                        size_t done) WARN_UNUSED;

/* And more is to come: notes where the batch may be cut. */
bool delivery_note_last(struct delivery *t, const struct chunk *c, size_t from,
                        size_t done) WARN_UNUSED;

/* The same for deletes, which come before the rows. */
void delivery_gone(struct delivery *t, const struct chunk *c, size_t from, size_t done);

/* What the change at row <i> was, which failed, for its error. */
void delivery_name_failure(const char *source, const struct chunk *c, size_t i, struct err *e);

/* Moves <p>, a copy of the position or itself, behind the last row delivered. */
bool delivery_cut(const struct delivery *t, struct position *p) WARN_UNUSED;

/* The reader lost its connection in the middle of a poll and has begun another one, which
 * goes on where that one was; its rows come from the lowest xid again. */
bool delivery_restart(struct delivery *t) WARN_UNUSED;

/* The text of the position of <source> as it is now; owned. *text NULL: it is not a new one, or,
 * with *is_known false, in the middle of a batch that cannot be cut. */
bool delivery_write(const struct delivery *t, const char *source, char **text,
                    bool *is_known) WARN_UNUSED;

#endif
