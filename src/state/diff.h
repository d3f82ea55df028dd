/* diff.h -- tells inserts, updates and deletes apart.
 *
 * Of a source with deletes = true. Rows pass through before they are handed
 * to the script: they are recorded in the state file, and get their op. Tallies
 * of the server are compared with what is known, which tells what was deleted
 * (see missing.h).
 *
 * Changes are numbered from 1 in the order in which they are recorded, those
 * that are not delivered included. A position says which one was delivered
 * last; after a crash what was recorded beyond it is undone.
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
void diff_close(struct diff *d);

/* The program ends in good order: the next start is quicker. */
bool diff_save_index(struct diff *d, struct err *e) WARN_UNUSED;

/* Records the rows of a chunk in the state file, unless that was done: sets their ops and sides,
 * and takes those out that are not to be delivered. Rows of the log have their ops; they get the
 * rows before, and what they lack of these. */
bool diff_record(struct diff *d, struct chunk *c, struct err *e) WARN_UNUSED;

/* All rows will come again, as if none had come: nothing is known of any. */
bool diff_begin_anew(struct diff *d, struct err *e) WARN_UNUSED;

/* No change after the one with this number was delivered: rows that were recorded for such changes
 * and were not known before are forgotten. (Where it is not known whether a change was delivered,
 * they are kept in doubt, see kept_rows.h.) */
bool diff_undo_after(struct diff *d, uint64_t change, struct err *e) WARN_UNUSED;

/* All of a batch was recorded, and delivered: sets what <p> is to tell of the diff. <is_all>: every
 * row that is there was recorded by now. */
void diff_end_batch(struct diff *d, bool is_all, struct position *p);

/* Compares a tally, of which it takes the counts, with what is known. *asked: the buckets whose
 * keys are needed, borrowed, or NULL: all deletes are known. */
bool diff_compare(struct diff *d, struct message_tally *tally, const struct tally_request **asked,
                  struct err *e) WARN_UNUSED;

/* The reader will not send the keys: only what is known without them was deleted. */
void diff_do_without_keys(struct diff *d);

/* Takes keys that were asked for; after the last of them all deletes are known. */
bool diff_take_keys(struct diff *d, const struct chunk *c, struct err *e) WARN_UNUSED;

/* By the log, the table was truncated: all rows that are known are deleted. <log>: when and where,
 * see MESSAGE_TRUNCATE. */
bool diff_truncate(struct diff *d, struct rowtype *rowtype, const struct message_log *log,
                   struct err *e) WARN_UNUSED;

/* A tally tells that the table was truncated: true once, before the deletes. */
bool diff_take_truncated(struct diff *d);

/* The next deletes, recorded, as a chunk that the caller owns; *chunk NULL: there are no more.
 * It has no rows if all of them were reported before. */
bool diff_next_deletes(struct diff *d, struct chunk **chunk, struct err *e) WARN_UNUSED;

/* Sets what <p> is to tell of the diff, where the change <last_change> was delivered last. */
void diff_set_position(const struct diff *d, struct position *p, uint64_t last_change);

#endif
