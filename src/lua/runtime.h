/* runtime.h -- what the host does with a script.
 *
 * Loads it and hands it changes and events, each time through the one door.
 * No function here throws; a script's failure is an ERR_SCRIPT (ERR_USAGE for
 * wrong NAME=VALUE words), with script->traceback beside it.
 *
 * SPDX-License-Identifier: MIT */
#ifndef RUNTIME_H
#define RUNTIME_H

#include "capture/batch.h"
#include "lua/bind_source.h"

/* Runs the main chunk. Afterwards script->sources is what it declared. */
bool runtime_load(struct script *s, struct err *e) WARN_UNUSED;

/* Prints the pipeline. */
bool runtime_graph(struct script *s, struct err *e) WARN_UNUSED;

/* The script is loaded, the state file open: sinks are opened. */
bool runtime_start(struct script *s, struct err *e) WARN_UNUSED;

/* Gives rows *done, *done + 1 ... of <b> to the handlers of its source, and counts *done up
 * behind each that is handled. Stops early, and is true, if the source was paused, or if
 * <may_stop> and the program was asked to stop. After a failure row *done is the one that
 * failed. */
bool runtime_deliver(struct script *s, const struct batch *b, size_t *done, bool may_stop,
                     struct err *e) WARN_UNUSED;

/* Saves what can be saved of the group of <source>, positions and all that belongs to them:
 * the positions are s->sources[i].position, of those of the group that have a new one.
 * <is_known>: they are all known. <is_moment>: a batch of <source> has ended; else something
 * was let go. *taken: the positions are saved, or will be. *done is false if a sink failed and it
 * is to be tried again, when the source is not paused any more. */
bool runtime_settle(struct script *s, size_t source, bool is_known, bool is_moment, bool *taken,
                    bool *done, struct err *e) WARN_UNUSED;

/* The program stops in good order: what operators may pass on early is passed on. */
bool runtime_last(struct script *s, struct err *e) WARN_UNUSED;

/* Nothing more will be delivered: sinks are closed. */
bool runtime_finish(struct script *s, struct err *e) WARN_UNUSED;

/* Events of a source. Each is a no-op where nobody listens. */
bool runtime_batch(struct script *s, size_t source, uint64_t count, struct err *e) WARN_UNUSED;
bool runtime_truncate(struct script *s, size_t source, struct err *e) WARN_UNUSED;
bool runtime_ready(struct script *s, size_t source, struct err *e) WARN_UNUSED;
bool runtime_schema(struct script *s, const struct batch *b, struct err *e) WARN_UNUSED;
bool runtime_error(struct script *s, const struct batch *b, struct err *e) WARN_UNUSED;

struct timers {
    int64_t wait_ms;   /* until the next one is due; -1: there is none */
    bool has_windows;  /* an operator holds values and waits for its time */
    bool has_released; /* something that held batches back was let go */
};

/* Runs the timers that are due. */
bool runtime_timers(struct script *s, struct timers *t, struct err *e) WARN_UNUSED;

#endif
