/* complete_ask.h -- asks the server about rows of one source, see complete.h.
 *
 * About many at once; if the server refuses, about fewer, until it is known which row it refuses,
 * and what of it.
 *
 * SPDX-License-Identifier: MIT */
#ifndef COMPLETE_ASK_H
#define COMPLETE_ASK_H

#include "capture/complete_table.h"

/* Asks about all units, and sets what they say. ERR_REFUSED: what is wanted of a row cannot be
 * computed. */
bool complete_ask(struct complete_table *ct, struct conn *conn, struct err *e) WARN_UNUSED;

/* True if the server refuses what it was asked, and will do so again. */
bool complete_ask_is_refusal(const struct err *e);

#endif
