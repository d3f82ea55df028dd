/* diff.h -- who came, who went: deletes, and inserts told from updates.
 *
 * Of a source with deletes = true. Rows pass through before they are handed
 * to the script: they are noted in the state file, and get their op. Tallies
 * of the server are weighed against what is known, which tells what is gone.
 *
 * Known rows contain the server's after each poll's deliveries, so a bucket
 * that counts as many rows as are known (the poll's own new ones included)
 * misses none, whatever its xor. One that has one less misses the row whose
 * hash is the difference of the xors. For the others the keys are asked for.
 *
 * SPDX-License-Identifier: MIT */
#ifndef DIFF_H
#define DIFF_H

#include "capture/message.h"
#include "state/kept_rows.h"
#include "capture/config.h"

struct diff;

/* Opens that of <source>. <p>: its position, or NULL where there is none yet. Both pointers are
 * borrowed. Returns owned, or NULL. */
struct diff *diff_open(struct store *store, const struct config *config,
                       const char *source, const struct position *p, struct err *e);
void diff_close(struct diff *l);

/* The program ends in good order; <saved>: as in diff_note. */
bool diff_keep(struct diff *l, uint64_t saved, struct err *e) WARN_UNUSED;

/* Notes the rows of a batch, unless that was done: sets their ops and sides, and takes those out
 * that are not to be delivered. <saved>: the last change that the saved position accounts for. */
bool diff_note(struct diff *l, struct chunk *b, uint64_t saved, struct err *e) WARN_UNUSED;

/* Weighs a tally, of which it takes over the parts. *asked: the buckets whose keys are wanted,
 * borrowed, or NULL: then all is known that is gone. */
bool diff_weigh(struct diff *l, struct message_tally *tally, const unsigned char **asked,
                struct err *e) WARN_UNUSED;

/* The reader will not send them: only what is known for sure counts. */
void diff_do_without(struct diff *l);

/* Takes keys that were asked for; behind the last of them all is known that is gone. */
bool diff_take_keys(struct diff *l, const struct chunk *b, uint64_t saved,
                    struct err *e) WARN_UNUSED;

/* The table was truncated: true once, before the deletes. */
bool diff_take_truncated(struct diff *l);

/* The next rows that are gone, noted, as a batch of deletes; *b NULL: there are no more. */
bool diff_next_gone(struct diff *l, uint64_t saved, struct chunk **b,
                    struct err *e) WARN_UNUSED;

/* Sets what <p> is to tell of the diff, where the change <noted> was delivered last. */
void diff_mark(const struct diff *l, struct position *p, uint64_t noted);

/* The number of the last change. */
uint64_t diff_last(const struct diff *l);

#endif
