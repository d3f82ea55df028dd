/* step.h -- one poll, or one range of the snapshot, of one source.
 *
 * Brings a position forward by one step and hands out what became visible as
 * chunks; the last chunk of a step carries the position that holds once it
 * is done. Does not retry, log, sleep or know Lua. Blocks while it reads.
 *
 *     step_begin   finds out what there is to do; opens a transaction if there is
 *     step_next    again and again: gives a message, or NULL once the step is over
 *     step_abort   after an error of either, instead of more of step_next
 *
 * The method says how changes are found (method.h); the rule itself is in
 * horizon.h, the fault table in fault.h.
 *
 * SPDX-License-Identifier: MIT */
#ifndef STEP_H
#define STEP_H

#include "capture/source.h"

struct step;

/* <config> is borrowed and must outlive it. Returns owned, or NULL: out of memory. */
struct step *step_new(const struct config *config, size_t number);
void step_free(struct step *step);

/* Finds the table. Once only; afterwards the names are known. */
bool step_resolve(struct step *step, struct conn *conn, struct err *e) WARN_UNUSED;
bool step_is_resolved(const struct step *step);
const char *step_schema(const struct step *step);
const char *step_table(const struct step *step);

/* Gives <step> the position that was kept (copied), NULL for none. To be called between
 * step_resolve and step_begin. False: out of memory. */
bool step_restore(struct step *step, const struct position *kept) WARN_UNUSED;

enum step_found {
    STEP_NOTHING, /* nothing has committed since; no transaction was opened */
    STEP_BEGUN,   /* call step_next */
};

/* After a failure call step_abort. */
bool step_begin(struct step *step, struct conn *conn, enum step_found *found,
                struct err *e) WARN_UNUSED;

/* The next message, which the caller owns. NULL: the step is over, and its transaction closed.
 * After a MESSAGE_TALLY call step_answer first. After a failure call step_abort. */
bool step_next(struct step *step, struct conn *conn, struct message **message,
               struct err *e) WARN_UNUSED;

/* Ends the step, unfinished, and rolls back. Rows of a poll that were handed out are not handed out
 * again, unless step_is_held. <conn>: NULL if there is none. */
void step_abort(struct step *step, struct conn *conn);

/* After step_abort: if <e> says that a text cannot be sent, puts the name of its column into <e>;
 * where the method knows what may be wrong, that. */
void step_name_bad_column(struct step *step, struct conn *conn, struct err *e);

/* True while the snapshot is not finished: the next step is due at once. */
bool step_is_in_snapshot(const struct step *step);

/* True once a poll was complete, or found that there was nothing to read. */
bool step_has_polled(const struct step *step);

/* True if the chunks of the step in hand must not reach the host before it is complete: after
 * step_abort all of them come again. */
bool step_is_held(const struct step *step);

/* True while a census is due that no poll has completed: the next poll is due at once. */
bool step_owes_census(const struct step *step);

/* When the next step is due after one that was made just now, if the next poll is due at <poll_ms>:
 * then, or when a census or a recheck is. */
int64_t step_due_ms(const struct step *step, int64_t poll_ms);

/* The host's answer to a MESSAGE_TALLY that step_next gave. <asked>: the buckets whose keys it
 * wants (copied, see key_census.h), or NULL. Unless <is_answered>, no answer came in time. */
bool step_answer(struct step *step, bool is_answered, const struct tally_request *asked,
                 struct err *e) WARN_UNUSED;

/* The number by which commits that may concern the source are announced, see listener.h; 0: they
 * are not announced. Known after the first step. */
uint64_t step_announced_as(const struct step *step);

/* A standby that lags is taken for a restored one from now on. */
void step_stop_waiting(struct step *step);

/* For --check: looks at the table as a step would, and appends to <report>, in one line, what would
 * be captured and what is wrong with it. */
bool step_check(struct step *step, struct conn *conn, struct buf *report,
                struct err *e) WARN_UNUSED;

#endif
