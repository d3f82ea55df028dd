/* summary.h -- what would be captured of a source, for people.
 *
 * SPDX-License-Identifier: MIT */
#ifndef SUMMARY_H
#define SUMMARY_H

#include "capture/source.h"

/* Makes <report>: that in one line, once the facts are known, and a line for each notice that waits
 * to be sent, which is taken. Asks, outside of a transaction, how polls will be read. */
bool summary_make(struct source *s, struct conn *conn, struct buf *report,
                  struct err *e) WARN_UNUSED;

#endif
