/* declared.h -- what a source was declared to read, kept with its position.
 *
 * A position goes on being kept where a script names another condition, other columns or another
 * key. What was delivered before followed the old ones, so that is said, and how to begin anew.
 *
 * SPDX-License-Identifier: MIT */
#ifndef DECLARED_H
#define DECLARED_H

#include "capture/source.h"

/* Compares the position's <declared> with what the source declares, adds a notice for each
 * difference, and keeps the new text there. Of a position of an earlier version, which has none,
 * nothing is known. ERR_MEMORY. */
bool declared_check(struct source *s, struct err *e) WARN_UNUSED;

#endif
