/* trial.h -- whether a source's columns, key and condition work at all.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TRIAL_H
#define TRIAL_H

#include "capture/source.h"

/* In a transaction that has begun: runs a query of the source that reads nothing. If it fails, <e>
 * says what of the declaration is wrong, where that can be told. */
bool trial_query(const struct source *s, struct conn *conn, struct err *e) WARN_UNUSED;

#endif
