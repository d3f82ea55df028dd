/* complete_fill.h -- values that an update left as they were, and that the log does not have.
 *
 * A long value, which is stored apart from its row, is in the log only if it is new. Until the next
 * change of the row that sets it, it is what the change before has, if that waits too. Else it is
 * asked for by the key. What a query sees is the value only if the row is still the version that
 * this change wrote, which its xmin says, and if no later change of its transaction sets the value.
 * Otherwise it may be one of the future. What is not found stays COPYTEXT_UNKNOWN. (Such a value is
 * never NULL.)
 *
 * SPDX-License-Identifier: MIT */
#ifndef COMPLETE_FILL_H
#define COMPLETE_FILL_H

#include "capture/complete_table.h"

struct complete_fill;

/* For rows of <ct>, which has a plan, borrowed. <open_xid>: not all rows of this transaction are
 * there. Returns owned, or NULL: out of memory. */
struct complete_fill *complete_fill_new(const struct complete_table *ct, uint64_t open_xid);
void complete_fill_free(struct complete_fill *f);

/* Adds the rows of a chunk: all that wait, in order. */
bool complete_fill_add(struct complete_fill *f, const struct chunk *chunk,
                       struct err *e) WARN_UNUSED;

/* Looks for the values. */
bool complete_fill_find(struct complete_fill *f, struct conn *conn, struct err *e) WARN_UNUSED;

/* Writes what was found into the chunks, in the order in which they were added. */
bool complete_fill_put(struct complete_fill *f, struct chunk *chunk, struct err *e) WARN_UNUSED;

#endif
