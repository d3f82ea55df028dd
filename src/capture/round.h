/* round.h -- what the server is asked in common for sources that are due at the same time.
 *
 *     glance         one statement: has anything committed since?        no: nothing to do
 *     counters       one, for all that have `quiet` (quiet.h)            they stand still: likewise
 *     tables, WAL    one transaction, for all whose polls go by hints    no block of a table was
 *                    (hints.h)                                           written: its poll is over
 *
 * The others take a step of their own (step.h). So a thousand tables of which few are written cost
 * the server little more than those few.
 *
 * The transaction locks no table. Its snapshot S is taken with the facts of the server; then it
 * reads in S, from the catalog, which leaves each table has, and which file each leaf is; then it
 * asks for E, and reads the WAL from the oldest R of all of them. A poll is over if in S the leaves
 * and files are those of the note and of the table's last step, the note is armed, and no pair is
 * left whose xid is >= F and not seen. Its horizon moves as after a poll by S that brings nothing.
 *
 * Nothing is missed. Let v be a version that is visible in S and new. The files that the table has
 * in S are those of the note, so whatever else writes the table anew is not visible in S, and v is,
 * in S, in one of these files. From here on the proof of hints.h holds as it stands: v's block is
 * among the pairs, which therefore are not empty. The lock of a step sees to it that COPY finds
 * what S shows, and here nothing is read. What S does not show, a rewrite included, is left to the
 * next poll.
 *
 * What else a step would notice shows in the rows of the catalog: the same ones, told by their
 * xmin, as before the last step mean the same table, name, columns and rights. An xmin does not
 * come back, so what was the same before that step and is now was the same in it. What does not
 * show there (a type that changed, a right by way of another role) is noticed by a step of its own,
 * which each source takes once a minute.
 *
 * SPDX-License-Identifier: MIT */
#ifndef ROUND_H
#define ROUND_H

#include "capture/step.h"

enum round_found {
    ROUND_POLLS,   /* the source must take a step of its own */
    ROUND_NOTHING, /* nothing has committed since */
    ROUND_QUIET,   /* nothing was counted since */
    ROUND_MOVES,   /* nothing is to be read, but the position moves: step_finish comes next */
};

/* True if the source may be asked for together with others: no step is under way, and the next one
 * is a poll. */
bool round_may_have(struct step *step);

/* Asks for <n> sources of one database, and sets <found> of each. After a failure no transaction is
 * open, and those that are ROUND_POLLS take a step of their own, in which they meet what has
 * failed. ERR_INTERNAL: the one at *at has missed something, see CONFIG_HINTS_CHECK. */
bool round_ask(struct step *const *steps, size_t n, struct conn *conn, enum round_found *found,
               size_t *at, struct err *e) WARN_UNUSED;

#endif
