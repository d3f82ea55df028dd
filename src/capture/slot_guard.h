/* slot_guard.h -- the server must not run out of room because of a slot of ours.
 *
 * Looks every few seconds how much of its log the server holds for the slot. Half of what it may
 * hold is warned of, with what holds it; what becomes of one that holds more is the script's
 * choice. The first look also warns of settings that let the log grow, or lose the slot, while
 * nobody reads it. Not thread-safe.
 *
 * SPDX-License-Identifier: MIT */
#ifndef SLOT_GUARD_H
#define SLOT_GUARD_H

#include "capture/config.h"
#include "capture/sender.h"
#include "pg/conn.h"

struct slot_guard {
    const char *slot;     /* borrowed */
    uint64_t max_retained;
    enum config_on_full on_full;
    int64_t look_ms;      /* between two looks */
    int64_t looked_ms, warned_ms; /* when that was done last; 0: not yet */
    int64_t much_ms;      /* since when it holds more than half; 0: it does not */
    bool has_told_over;   /* the last warning said that it holds more than it may */
    uint64_t retained;    /* what the slot held then */
    bool has_begun;       /* the settings were looked at */
};

/* The source of whose changes the least is saved. */
struct slot_guard_holder {
    struct sender *sender; /* its warnings go there; borrowed */
    int64_t since_ms;      /* so it is since then, by clock_mono_ms */
    bool is_full;          /* the queue is: what was read waits for handlers and sinks */
};

/* One more source with the slot: the least that any of them lets it hold counts, and the slot is
 * looked at as often as the facts of any of them are read, twice a second at most. */
void slot_guard_heed(struct slot_guard *g, const struct config *c);

/* Looks if that is due. *retained: how much the slot held at the last look. *is_full: it holds more
 * than it may, and is to be dropped. */
bool slot_guard_look(struct slot_guard *g, struct conn *conn, const struct slot_guard_holder *h,
                     uint64_t *retained, bool *is_full, struct err *e) WARN_UNUSED;

/* Drops the slot; ends who reads it, which must be us. Always false: ERR_SQL with 42704, since it
 * is not there any more; ERR_REFUSED if the script wants to stop then; or why it cannot be
 * dropped. */
bool slot_guard_drop(struct slot_guard *g, struct conn *conn, struct err *e) WARN_UNUSED;

/* The same because of <e>, an error of decoding that comes again and again. <e> becomes ERR_SQL
 * with 42704, or why the slot cannot be dropped. */
void slot_guard_drop_stuck(struct slot_guard *g, struct conn *conn, struct err *e);

#endif
