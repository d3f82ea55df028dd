/* rows.h -- from chunks of rows to batches in the script's hands.
 *
 * SPDX-License-Identifier: MIT */
#ifndef ROWS_H
#define ROWS_H

#include "host/checkpoint.h"

/* Handles a MESSAGE_ROWS: delivers its rows, and after the last one of a batch saves the position.
 * Where the source is paused before that is done the message is to be handled again: see
 * delivery_set_again. */
bool rows_handle(struct checkpoint *c, struct message *m, struct err *e) WARN_UNUSED;

/* The program was asked to stop: batches that were begun end where they are, if they may.
 * *must_go_on: one of them may not. One that is held up by a source that is paused is waited for
 * for 15 seconds, or not at all if the source is to be paused for longer; then it ends unsaved, and
 * comes again as a whole. */
bool rows_stop(struct checkpoint *c, bool *must_go_on, struct err *e) WARN_UNUSED;

/* Waits while another process may have the pipeline, if its state is in a database: nothing may be
 * delivered then. False with ERR_TAKEN: another one has it; ERR_STOPPED: the program is to stop. */
bool rows_wait_for_lease(struct script *s, struct err *e) WARN_UNUSED;

#endif
