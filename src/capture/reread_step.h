/* reread_step.h -- what a user wants to be read again: the wish, and its ranges between polls.
 *
 * What is read and why that is exact: reread.h.
 *
 * SPDX-License-Identifier: MIT */
#ifndef REREAD_STEP_H
#define REREAD_STEP_H

#include "capture/method.h"
#include "capture/snapshot.h"

/* The wish becomes part of the position, between two steps. <where>: a condition in SQL, or ""
 * (copied). ERR_REFUSED: why that cannot be. */
bool reread_step_ask(struct source *s, const char *where, struct err *e) WARN_UNUSED;

/* True if a range is to be read, and no poll must come before. */
bool reread_step_is_due(const struct source *s);

/* In the transaction: finds out, once, whether the condition works. It must be one, and no more
 * than that. */
bool reread_step_try(struct source *s, struct conn *conn, struct err *e) WARN_UNUSED;

/* The range was read: the position moves over it. MESSAGE_REREAD, after the chunk with that
 * position, says that it begins, and that it has ended. */
bool reread_step_advance(struct source *s, const struct snapshot_range *range,
                         struct err *e) WARN_UNUSED;

/* Nothing is read again any more. */
void reread_step_drop(struct source *s);

#endif
