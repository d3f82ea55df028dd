/* step.h -- one poll, or one range of the snapshot, of one source.
 *
 * Brings a position forward by one step and hands out what became visible as
 * batches; the last batch of a step carries the position that holds once it
 * is done. Does not retry, log, sleep or know Lua. Blocks while it reads.
 *
 *     capture_begin   what is there to do? (opens a transaction, or finds nothing)
 *     capture_next    a batch, a batch ..., NULL: the transaction is closed
 *     capture_abort   instead, after an error in either
 *
 * The rule itself is in horizon.h, the fault table in fault.h.
 *
 * SPDX-License-Identifier: MIT */
#ifndef CAPTURE_H
#define CAPTURE_H

#include "capture/message.h"
#include "capture/fault.h"

struct capture;

/* <config> is borrowed and must outlive it. Returns owned, or NULL: out of memory. */
struct capture *capture_new(const struct config *config, size_t number);
void capture_free(struct capture *c);

/* Finds the table. Once only; afterwards the names are known. */
bool capture_resolve(struct capture *c, struct conn *conn, struct err *e) WARN_UNUSED;
bool capture_is_resolved(const struct capture *c);
const char *capture_schema(const struct capture *c);
const char *capture_table(const struct capture *c);

/* Gives it the position that was kept (copied), NULL for none. Comes between resolve and begin. */
bool capture_restore(struct capture *c, const struct position *kept) WARN_UNUSED;

enum capture_found {
    CAPTURE_NOTHING, /* nothing has committed since; no transaction was opened */
    CAPTURE_STEP,    /* call capture_next */
};

bool capture_begin(struct capture *c, struct conn *conn, enum capture_found *found,
                   struct err *e) WARN_UNUSED;
bool capture_next(struct capture *c, struct conn *conn, struct message **message,
                  struct err *e) WARN_UNUSED;

/* Ends the step, unfinished. Rows of a poll that were handed out are not handed out again.
 * <conn>: NULL if the connection is gone. */
void capture_abort(struct capture *c, struct conn *conn);

/* Behind capture_abort: names the column in <e> if that says that a text cannot be sent. */
void capture_name_bad_column(struct capture *c, struct conn *conn, struct err *e);

/* True while the snapshot is not finished: the next step is due at once. */
bool capture_is_in_snapshot(const struct capture *c);

/* True once a poll was complete, or found that there was nothing to read. */
bool capture_has_polled(const struct capture *c);

/* True if the batches of the step in hand must not reach the host before it is complete: after
 * capture_abort all of them come again. (Rows of a poll do not, see there.) */
bool capture_is_held(const struct capture *c);

/* True while the poll that was complete last has not been checked for deletes, and is to be. */
bool capture_owes_census(const struct capture *c);

/* The host's answer to a MESSAGE_TALLY that capture_next gave: the buckets whose keys it wants (see
 * diff.h), or NULL; no answer came in time, if not <is_answered>. */
bool capture_answer(struct capture *c, bool is_answered, const unsigned char *asked,
                    struct err *e) WARN_UNUSED;

/* The number that commits which may concern the source are announced under, see listener.h; 0: they
 * are not. Known behind the first step. */
uint64_t capture_announced_as(const struct capture *c);

/* A standby that is behind is taken for a restored one from now on. */
void capture_stop_waiting(struct capture *c);

/* --check: looks at the table as a step would, and says what would be captured. */
bool capture_check(struct capture *c, struct conn *conn, struct buf *report,
                   struct err *e) WARN_UNUSED;

#endif
