/* counters.h -- asks the server what its statistics counters say of sources.
 *
 * For `quiet`; the rule, and what it promises, is in quiet.h. One statement asks for all sources of
 * a database. Outside of a transaction.
 *
 * SPDX-License-Identifier: MIT */
#ifndef COUNTERS_H
#define COUNTERS_H

#include "capture/source.h"

/* True if the source asks for it, its next step is a poll, and nothing better spares it a scan: the
 * glance has been taken. Otherwise sets s->quiet.why, where people would want to know. */
bool counters_are_wanted(struct source *s);

/* Asks for <n> sources, and sets s->quiet.asked of each. */
bool counters_ask(struct source *const *sources, size_t n, struct conn *conn,
                  struct err *e) WARN_UNUSED;

/* True if the poll that is due may be left out, after counters_ask. */
bool counters_stand_still(const struct source *s);

/* For --check: appends whether counters will stand in for scans, and for how long. */
bool counters_report(struct source *s, struct conn *conn, struct buf *b,
                     struct err *e) WARN_UNUSED;

#endif
