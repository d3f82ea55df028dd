/* unit.h -- the sources that are read in one step: one, or several that are read together.
 *
 *     one transaction:   orders   rows, keys        one snapshot, so that all
 *                        items    rows, keys        of them are at one moment
 *     after it:          orders   its last chunk
 *                        items    its last chunk    ends the batch of all
 *
 * The transaction locks all tables before its snapshot is taken. No position moves before it is
 * over. What several sources bring must not reach the host before that, see step_is_held.
 *
 * A batch of such a unit is over when the step has left none of its sources behind (is_complete).
 * If one has (its census was not answered in time, say), the next step is due at once, and its
 * snapshot is the moment of them all.
 *
 * A step may also be of one source only, which reads a range again (reread.h): between two polls,
 * when no batch is under way.
 *
 * SPDX-License-Identifier: MIT */
#ifndef UNIT_H
#define UNIT_H

#include "capture/step.h"

struct unit {
    struct step **steps;              /* in the order of declaration; the array is owned, the steps
                                       * are borrowed */
    size_t n, cap;
    const struct relation **tables;   /* of the steps; owned */
    bool is_joint;                    /* they were declared to be read together */
    bool is_amid;                     /* the host may have got a part of a batch that is not over */
    struct load load;                 /* under the crew's mutex */
    size_t chosen;                    /* of unit_choose */
    /* while a step is under way: */
    size_t turn;                      /* the number of the step in hand; after a failure, of the one
                                       * that failed */
    bool is_open;                     /* a transaction is open */
    int64_t began_ms;                 /* when it began, by clock_mono_ms */
    bool is_start;                    /* a position is new, and that is all that the step brings */
    bool has_begun;                   /* step_begin was called for <turn> */
    bool is_ending;                   /* all was read, and the transaction is over */
    bool has_finished;                /* then: step_finish was called for <turn> */
    char figures[400];                /* of unit_figures */
};

/* Zeroed is empty. Adds a source. False: out of memory. */
bool unit_add(struct unit *u, struct step *step, bool is_joint) WARN_UNUSED;

/* Frees what it owns. */
void unit_fini(struct unit *u);

/* The next steps are of source <i> only, which reads ranges again, or, UNIT_ALL, polls of all. */
#define UNIT_ALL SIZE_MAX
void unit_choose(struct unit *u, size_t i);

/* Before the first step, when all of its sources are resolved. */
void unit_start(struct unit *u);

/* How the polls of the step that is over were read, for the log; "" of a range. Borrowed, until the
 * next call. */
const char *unit_figures(struct unit *u);

enum unit_found {
    UNIT_NOTHING, /* nothing has committed since; no transaction was opened */
    UNIT_QUIET,   /* nothing was counted since (quiet.h); likewise */
    UNIT_BEGUN,   /* call unit_next */
};

/* After a failure call unit_abort. */
bool unit_begin(struct unit *u, struct conn *conn, enum unit_found *found,
                struct err *e) WARN_UNUSED;

/* The same of a unit of one, for which all was asked in common with others, see round.h. <moves>:
 * the position does; call unit_next, which needs no connection. */
void unit_take_round(struct unit *u, bool moves);

/* The next message, which the caller owns; it names its source. NULL: the step is over, and its
 * transaction closed. After a MESSAGE_TALLY call step_answer first. After a failure call
 * unit_abort. */
bool unit_next(struct unit *u, struct conn *conn, struct message **message,
               struct err *e) WARN_UNUSED;

/* Ends the step, unfinished, as step_abort does. */
void unit_abort(struct unit *u, struct conn *conn);

/* True if the next step is not due at once. */
bool unit_is_complete(const struct unit *u);

/* When the next step is due, see step_due_ms. */
int64_t unit_due_ms(const struct unit *u, int64_t poll_ms);

/* A poll is complete. Puts *due_ms off, if scans of all units, <all>, would take too much of the
 * time, see load.h. */
void unit_put_off(struct unit *u, const struct load_all *all, int64_t interval_ms,
                  int64_t *due_ms);

#endif
