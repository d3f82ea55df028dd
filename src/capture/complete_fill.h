/* complete_fill.h -- values that an update left as they were, and that the log does not have.
 *
 * A long value, which is stored apart from its row, is in the log only if it is new. Until the next
 * change of the row that sets it, it is what the change before has, if that waits too. Else it is
 * asked for by the key, in a snapshot P that shows the change. What is there is the value
 *
 * - if the row is still the version that this change wrote, which its xmin says, and no later
 *   change of its transaction sets the value;
 * - or if no later change that P may show sets the value, ends the row, or makes another one with
 *   this key. P shows only what commits before an LSN that was read after P was taken: so the log
 *   is looked at up to there, beyond what was read of it. What the log does not have does not
 *   change the value either: the table's definition, and what its partitions are, must be older
 *   than the change, which is so if the xids that wrote it are below the position's floor, since
 *   those were over before.
 *
 * In any case the definition of the columns must be older, or another one may have their names.
 * Otherwise what is there may be a value of the future. What is not found stays COPYTEXT_UNKNOWN.
 * (Such a value is never NULL.)
 *
 * SPDX-License-Identifier: MIT */
#ifndef COMPLETE_FILL_H
#define COMPLETE_FILL_H

#include "capture/complete_table.h"

struct complete_fill;

/* Who can look at the log beyond the rows that wait. */
struct complete_fill_ahead {
    void *arg;
    /* Calls complete_fill_heed for each change of the source that commits before <lsn> and comes
     * after all rows that wait. *is_all: these are all. */
    bool (*look)(void *arg, struct complete_fill *f, const struct source *s, uint64_t lsn,
                 bool *is_all, struct err *e);
};

/* For rows of <ct>, which has a plan, borrowed. <open_xid>: not all rows of this transaction are
 * there. Returns owned, or NULL: out of memory. */
struct complete_fill *complete_fill_new(const struct complete_table *ct, uint64_t open_xid);
void complete_fill_free(struct complete_fill *f);

/* Adds the rows of a chunk: all that wait, in order. */
bool complete_fill_add(struct complete_fill *f, const struct chunk *chunk,
                       struct err *e) WARN_UNUSED;

/* Looks for the values. <ahead>, or NULL: the log cannot be looked at. */
bool complete_fill_find(struct complete_fill *f, struct conn *conn,
                        const struct complete_fill_ahead *ahead, struct err *e) WARN_UNUSED;

/* A later change: what it makes of the row, as fields of the row type. <is_end>: there was none
 * with this key before it, or is none after it. */
bool complete_fill_heed(struct complete_fill *f, const char *line, size_t len, bool is_end,
                        struct err *e) WARN_UNUSED;

/* Writes what was found into the chunks, in the order in which they were added. */
bool complete_fill_put(struct complete_fill *f, struct chunk *chunk, struct err *e) WARN_UNUSED;

#endif
