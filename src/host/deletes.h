/* deletes.h -- from the server's tally to deletes in the script's hands.
 *
 * SPDX-License-Identifier: MIT */
#ifndef DELETES_H
#define DELETES_H

#include "capture/reader.h"
#include "lua/script.h"
#include "host/delivery.h"

/* Handles a MESSAGE_TALLY or MESSAGE_KEYS of the source whose delivery is <t>: answers the reader,
 * and delivers the deletes once all of them are known. *parked: not done with; to be handled again
 * when the source is not paused. */
bool deletes_handle(struct script *s, struct reader *r, struct delivery *t, struct message *b,
                    bool *parked, struct err *e) WARN_UNUSED;

#endif
