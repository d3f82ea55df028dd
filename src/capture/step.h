/* step.h -- one poll, or one range of the snapshot, of one source.
 *
 * Brings a position forward by one step and hands out what became visible as
 * chunks; the last chunk of a step carries the position that holds once it
 * is done. Does not retry, log, sleep or know Lua. Blocks while it reads.
 *
 *     step_begin   what is there to do? (opens a transaction, or finds nothing)
 *     step_next    a message, a message ..., NULL: the transaction is closed
 *     step_abort   instead, after an error in either
 *
 * How changes are found is the method's to say (method.h), the rule itself is
 * in horizon.h, the fault table in fault.h.
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

/* Gives it the position that was kept (copied), NULL for none. Comes between resolve and begin. */
bool step_restore(struct step *step, const struct position *kept) WARN_UNUSED;

enum step_found {
    STEP_NOTHING, /* nothing has committed since; no transaction was opened */
    STEP_BEGUN,   /* call step_next */
};

bool step_begin(struct step *step, struct conn *conn, enum step_found *found,
                struct err *e) WARN_UNUSED;
bool step_next(struct step *step, struct conn *conn, struct message **message,
               struct err *e) WARN_UNUSED;

/* Ends the step, unfinished. Rows of a poll that were handed out are not handed out again.
 * <conn>: NULL if the connection is lost. */
void step_abort(struct step *step, struct conn *conn);

/* After step_abort: names the column in <e> if that says that a text cannot be sent. */
void step_name_bad_column(struct step *step, struct conn *conn, struct err *e);

/* True while the snapshot is not finished: the next step is due at once. */
bool step_is_in_snapshot(const struct step *step);

/* True once a poll was complete, or found that there was nothing to read. */
bool step_has_polled(const struct step *step);

/* True if the chunks of the step in hand must not reach the host before it is complete: after
 * step_abort all of them come again. (Rows of a poll do not, see there.) */
bool step_is_held(const struct step *step);

/* True while the poll that was complete last has not been checked for deletes, and is to be. */
bool step_owes_census(const struct step *step);

/* The host's answer to a MESSAGE_TALLY that step_next gave: the buckets whose keys it wants (see
 * diff.h), or NULL; no answer came in time, if not <is_answered>. */
bool step_answer(struct step *step, bool is_answered, const unsigned char *asked,
                 struct err *e) WARN_UNUSED;

/* The number that commits which may concern the source are announced under, see listener.h; 0: they
 * are not. Known after the first step. */
uint64_t step_announced_as(const struct step *step);

/* A standby that lags is taken for a restored one from now on. */
void step_stop_waiting(struct step *step);

/* --check: looks at the table as a step would, and says what would be captured. */
bool step_check(struct step *step, struct conn *conn, struct buf *report,
                struct err *e) WARN_UNUSED;

#endif
