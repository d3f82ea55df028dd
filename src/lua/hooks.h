/* hooks.h -- what the host does with a script.
 *
 * Loads it and hands it changes and events, each time through the one door.
 * No function here throws; a script's failure is an ERR_SCRIPT (ERR_USAGE for
 * wrong NAME=VALUE words), with script->traceback beside it.
 *
 * SPDX-License-Identifier: MIT */
#ifndef HOOKS_H
#define HOOKS_H

#include "capture/message.h"
#include "lua/api_source.h"

/* Runs the main chunk. Afterwards script->sources is what it declared. */
bool hooks_load(struct script *s, struct err *e) WARN_UNUSED;

/* Prints the pipeline. */
bool hooks_graph(struct script *s, struct err *e) WARN_UNUSED;

/* The script is loaded, the state file open: sinks are opened. */
bool hooks_start(struct script *s, struct err *e) WARN_UNUSED;

/* Rows for the handlers of a source. */
struct hooks_rows {
    size_t source;
    const struct chunk *chunk;
    size_t done;   /* the first one that is to be handled; counted up after each that was */
    bool may_stop; /* in the middle of the chunk, if the program was asked to stop */
};

/* Gives the rows to the handlers. Stops early, and is true, if the source was paused, or by
 * <may_stop>. After a failure row <done> is the one that failed. */
bool hooks_deliver(struct script *s, struct hooks_rows *rows, struct err *e) WARN_UNUSED;

/* Saves what can be saved of the group of <source>, positions and all that belongs to them:
 * the positions are s->sources[i].position, of those of the group that have a new one.
 * <is_known>: they are all known. <is_moment>: a batch of <source> has ended; else something
 * was let go. *taken: the positions are saved, or will be. *done is false if a sink failed and it
 * is to be tried again, when the source is not paused any more. */
bool hooks_settle(struct script *s, size_t source, bool is_known, bool is_moment, bool *taken,
                  bool *done, struct err *e) WARN_UNUSED;

/* The program stops in good order: what operators may pass on early is passed on. */
bool hooks_last(struct script *s, struct err *e) WARN_UNUSED;

/* Nothing more will be delivered: sinks are closed. */
bool hooks_finish(struct script *s, struct err *e) WARN_UNUSED;

/* Events of a source. Each is a no-op where nobody listens. */
bool hooks_batch(struct script *s, size_t source, uint64_t count, struct err *e) WARN_UNUSED;
bool hooks_truncate(struct script *s, size_t source, struct err *e) WARN_UNUSED;
bool hooks_ready(struct script *s, size_t source, struct err *e) WARN_UNUSED;
bool hooks_schema(struct script *s, size_t source, const struct message_schema *schema,
                  struct err *e) WARN_UNUSED;
bool hooks_error(struct script *s, size_t source, const struct message_notice *notice,
                 struct err *e) WARN_UNUSED;

struct hooks_timers {
    int64_t wait_ms;   /* until the next one is due; -1: there is none */
    bool has_windows;  /* an operator holds values and waits for its time */
    bool has_released; /* something that held batches back was let go */
};

/* Runs the timers that are due. */
bool hooks_run_timers(struct script *s, struct hooks_timers *t, struct err *e) WARN_UNUSED;

#endif
