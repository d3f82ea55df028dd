/* slot_errors.h -- what errors of slots, and of the role that uses them, mean.
 *
 * SPDX-License-Identifier: MIT */
#ifndef SLOT_ERRORS_H
#define SLOT_ERRORS_H

#include "capture/config.h"
#include "pg/conn.h"

#define SLOT_ERRORS_IN_USE_MS 90000 /* for a slot that somebody else reads */

/* True if somebody else reads the slot: one of us that was killed, which the server has not noticed
 * yet, or a script that runs twice. */
bool slot_errors_is_in_use(const struct err *e);

/* Says in <e>, where it is known, what to do. <conn>, or NULL: a connection on which the server can
 * be asked, not in a transaction that has failed. True: the slot was taken from who had the
 * pipeline before, and is to be used at once. */
bool slot_errors_explain(const struct config *c, struct conn *conn, struct err *e);

/* True if the slot cannot bring what follows: the sources are to look what is left of it. */
bool slot_errors_is_lost(const struct err *e);

#endif
