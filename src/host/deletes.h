/* deletes.h -- from the server's tally to deletes in the script's hands.
 *
 * SPDX-License-Identifier: MIT */
#ifndef DELETES_H
#define DELETES_H

#include "capture/reader.h"
#include "host/delivery.h"
#include "lua/script.h"

/* Delivers the deletes that are known. *is_done false: the source is paused, or the program is to
 * stop; in the former case the message in hand is to be handled again: see delivery_set_again. */
bool deletes_deliver(struct script *s, struct delivery *d, bool *is_done,
                     struct err *e) WARN_UNUSED;

/* Handles a MESSAGE_TALLY or MESSAGE_KEYS of the source whose delivery is <d>: answers the reader,
 * and once all deletes are known delivers them; of sources that are read together rows_handle does,
 * since the step may yet fail. Where the source is paused before that is done the
 * message is to be handled again: see delivery_set_again. */
bool deletes_handle(struct script *s, struct reader *r, struct delivery *d, struct message *m,
                    struct err *e) WARN_UNUSED;

/* Handles a MESSAGE_TRUNCATE, by the log: tells of it, and delivers the deletes of what is kept, if
 * that is so. Again as above. */
bool deletes_truncate(struct script *s, struct delivery *d, struct message *m,
                      struct err *e) WARN_UNUSED;

#endif
