/* increment.h -- the rule for a column that grows: what was delivered.
 *
 * Pure functions, no I/O. A poll of such a source reads a window, the rows
 * whose value is at or above a base, by an ordinary index; now and then a
 * recheck reads every row that was written since the recheck before. Why
 * nothing is repeated and nothing that a recheck finds is lost:
 *
 * The horizon goes on as by any poll (horizon.h): below its floor and among
 * its seen xids is whatever was visible to a window, so a row of the next
 * window is new by that rule alone, since the base never falls.
 *
 * A recheck must tell rows that no window showed from those that one did. All
 * versions of an xid become visible at once, so a row (xid, value) was
 * delivered if and only if value >= the base of the first window to which the
 * xid was visible. For an xid that brought rows to a window that base is kept
 * (struct increment_first). Once the floor has passed an xid it is over, and it was
 * visible at the latest to the poll that moved the floor: the bases of these
 * polls are kept by xid (struct increment_stretch), and the entry of the xid itself is
 * dropped, unless it had rows below that base. An xid that brought no rows to any
 * window before needs no entry: its rows are all below the base.
 *
 * The base may be any value, but it is well chosen if late rows lie above it:
 * a row that is yet to come was written by a transaction that began after
 * every poll whose S.xmax is at or below the floor, so the highest value that
 * the newest of these saw (struct increment_rung) is a good guess; and it is at least
 * <lookback> below the highest value of all, for values that are drawn long
 * before they are written: cached sequences, now() at a transaction's start.
 *
 * SPDX-License-Identifier: MIT */
#ifndef INCREMENT_H
#define INCREMENT_H

#include "capture/horizon.h"

#define INCREMENT_LOWEST INT64_MIN /* as a base: all rows, also those without a value */
#define INCREMENT_ENTRIES 20000    /* with more a recheck is due */

/* What a column is whose values grow, for capture = "increment". */
enum increment_growth {
    INCREMENT_GROWS_NOT,
    INCREMENT_INTEGER,
    INCREMENT_DATE,
    INCREMENT_TIMESTAMP,
    INCREMENT_TIMESTAMPTZ,
};

/* <xid> brought rows to a window with <base>; the least of their values is <least>. */
struct increment_first {
    uint64_t xid;
    int64_t base, least;
};

/* By xid. Zeroed is empty. */
struct increment_firsts {
    struct increment_first *v;
    size_t n, cap;
};

/* The xids from <below> of the stretch before up to, not including, <below> were over at a window
 * with <base>. */
struct increment_stretch {
    uint64_t below;
    int64_t base;
};

/* A poll with this S.xmax saw this highest value. */
struct increment_rung {
    uint64_t xmax;
    int64_t top;
};

struct increment {
    char *column;       /* the column that grows; owned; NULL: no recheck has been made yet */
    enum increment_growth growth; /* what its values mean */
    uint64_t since;     /* the floor after the newest recheck: all below was delivered */
    int64_t base;       /* of the next window */
    struct increment_firsts firsts;
    struct increment_stretch *stretches;
    size_t n_stretches, cap_stretches;
    struct increment_rung *rungs; /* ascending in both */
    size_t n_rungs, cap_rungs;
    int64_t rechecked_ms; /* when the newest recheck was made, in ms since 1970 */
    bool is_rechecking; /* a recheck ended early: the next poll is one */
};

void increment_fini(struct increment *i);

/* Overwrites <to>. False: out of memory, <to> is empty. */
bool increment_copy(struct increment *to, const struct increment *from) WARN_UNUSED;

/* Adds <xid> with <base> and <least>, or lowers those of the entry that is there. False: out of
 * memory. */
bool increment_add_first(struct increment_firsts *f, uint64_t xid, int64_t base,
                         int64_t least) WARN_UNUSED;
void increment_fini_firsts(struct increment_firsts *f);

/* Add parts of a kept position, in the order in which they were kept. False: out of memory. */
bool increment_add_stretch(struct increment *i, uint64_t below, int64_t base) WARN_UNUSED;
bool increment_add_rung(struct increment *i, uint64_t xmax, int64_t top) WARN_UNUSED;

/* True if a recheck delivers this row, since no window did. <value>: NULL if it has none. <h>: as
 * the poll before left it. */
bool increment_escaped(const struct increment *i, const struct horizon *h, uint64_t xid,
                       const int64_t *value);

/* What a poll found, and what it was. */
struct increment_poll {
    bool is_recheck;
    uint64_t xmax;              /* S.xmax */
    const int64_t *top;         /* the highest value there is; NULL: no row has a value */
    /* of a window: the xids that it delivered, with any bases; NULL: none */
    const struct increment_firsts *fresh;
    int64_t lookback;           /* in the units of the column, >= 0 */
    bool keeps;                 /* a recheck will come */
};

/* A poll is complete and has moved the horizon to <h>: moves the base, and keeps what the next
 * recheck needs to know. False: out of memory. */
bool increment_advance(struct increment *i, const struct horizon *h,
                       const struct increment_poll *poll) WARN_UNUSED;

/* After a crash, xids from the floor on may be given out again: forgets them. */
void increment_forget(struct increment *i, uint64_t floor);

/* True if a recheck is due although its time has not come: too much is kept, or xids grow too old
 * to be compared. <xmax>: S.xmax. */
bool increment_is_full(const struct increment *i, uint64_t xmax);

#endif
