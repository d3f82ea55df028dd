/* runtime.h -- what the host does with a script.                      floor 4
 *
 * Loads it and hands it changes and events, each time through the one door.
 * No function here throws; a script's failure is an ERR_SCRIPT (ERR_USAGE for
 * wrong NAME=VALUE words), with script->traceback beside it.
 *
 * SPDX-License-Identifier: MIT */
#ifndef RUNTIME_H
#define RUNTIME_H

#include "batch.h"
#include "bind_source.h"

/* Runs the main chunk. Afterwards script->sources is what it declared. */
bool runtime_load(struct script *s, struct err *e) WARN_UNUSED;

/* Gives rows *done, *done + 1 ... of <b> to the handlers of its source, and counts *done up
 * behind each that is handled. Stops early, and is true, if <may_stop> and the program was
 * asked to. After a failure row *done is the one that failed. */
bool runtime_deliver(struct script *s, const struct batch *b, size_t *done, bool may_stop,
                     struct err *e) WARN_UNUSED;

/* Events of a source. Each is a no-op where nobody listens. */
bool runtime_batch(struct script *s, size_t source, uint64_t count, struct err *e) WARN_UNUSED;
bool runtime_ready(struct script *s, size_t source, struct err *e) WARN_UNUSED;
bool runtime_schema(struct script *s, const struct batch *b, struct err *e) WARN_UNUSED;
bool runtime_error(struct script *s, const struct batch *b, struct err *e) WARN_UNUSED;

/* Runs the timers that are due. *wait_ms: until the next one, -1 if there is none. */
bool runtime_timers(struct script *s, int64_t *wait_ms, struct err *e) WARN_UNUSED;

#endif
