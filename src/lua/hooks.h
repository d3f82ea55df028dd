/* hooks.h -- what the host asks of a script that is loaded.
 *
 * Hands changes and events over to it, each time through the one door. No function here throws;
 * errors are those of script_call.
 *
 * SPDX-License-Identifier: MIT */
#ifndef HOOKS_H
#define HOOKS_H

#include "capture/message.h"
#include "lua/api_source.h"
#include "lua/script_figures.h"

/* Prints the pipeline. */
bool hooks_graph(struct script *s, struct err *e) WARN_UNUSED;

/* Finds out who listens to which source. To be called when the script is loaded. */
bool hooks_wire(struct script *s, struct err *e) WARN_UNUSED;

/* Opens the sinks. The state file must be open. */
bool hooks_start(struct script *s, struct err *e) WARN_UNUSED;

/* Where a source is at this moment. */
struct hooks_position {
    bool is_member;       /* of the group that is saved */
    char *text;           /* its position; NULL: it has no new one */
    uint64_t last_change; /* see struct position */
};

struct hooks_checkpoint {
    size_t source;
    bool is_moment; /* a batch of the source has ended; else something was let go */
    bool is_known;  /* the positions of all members are known */
    const struct hooks_position *positions; /* one for each source */
    bool is_taken;  /* the positions are saved, or will be */
    bool is_done;   /* false: a sink failed; to be tried again when the source is not paused */
};

/* Saves what can be saved of the group of a source: positions, and all that belongs to them, in one
 * transaction. Sets is_taken and is_done. */
bool hooks_checkpoint(struct script *s, struct hooks_checkpoint *c, struct err *e) WARN_UNUSED;

/* Call it when the program stops in good order: operators pass on what they may pass on early. */
bool hooks_last(struct script *s, struct err *e) WARN_UNUSED;

/* Call it when nothing more will be delivered: closes the sinks. */
bool hooks_finish(struct script *s, struct err *e) WARN_UNUSED;

/* Rows of this type would come, or are to come: shows the script an example of them, unless it has
 * seen one. */
bool hooks_announce(struct script *s, size_t source, struct rowtype *rowtype,
                    struct err *e) WARN_UNUSED;

/* The source has its name. To be called before its position is looked up, which sinks may forget:
 * then the table is read again. */
bool hooks_resolved(struct script *s, size_t source, struct err *e) WARN_UNUSED;

/* The source is read from its start, and all its rows are to come. */
bool hooks_reading(struct script *s, size_t source, struct err *e) WARN_UNUSED;

/* The source's table was truncated, and no deletes are told: all that it had is not there any
 * more. */
bool hooks_emptied(struct script *s, size_t source, struct err *e) WARN_UNUSED;

/* The source is read; its snapshot had <rows> rows. */
bool hooks_read(struct script *s, size_t source, uint64_t rows, struct err *e) WARN_UNUSED;

/* Events of a source. Each does nothing where there is no handler. */
bool hooks_batch(struct script *s, size_t source, uint64_t count, struct err *e) WARN_UNUSED;
bool hooks_truncate(struct script *s, size_t source, struct err *e) WARN_UNUSED;
bool hooks_commit(struct script *s, size_t source, const struct message_log *log,
                  struct err *e) WARN_UNUSED;
bool hooks_emitted(struct script *s, size_t source, const struct message_log *log,
                   struct err *e) WARN_UNUSED;
bool hooks_ready(struct script *s, size_t source, struct err *e) WARN_UNUSED;
bool hooks_schema(struct script *s, size_t source, const struct message_schema *schema,
                  struct err *e) WARN_UNUSED;
bool hooks_error(struct script *s, size_t source, const struct message_notice *notice,
                 struct err *e) WARN_UNUSED;

/* What the Lua half knows of the pipeline just now. *f: owned, with one reference; NULL if memory
 * is out. */
bool hooks_figures(struct script *s, struct script_figures **f, struct err *e) WARN_UNUSED;

/* poll() says this of a descriptor that is watched (see api_watch.h). */
bool hooks_watched(struct script *s, int fd, short events, struct err *e) WARN_UNUSED;

struct hooks_timers {
    int64_t wait_ms;   /* until the next one is due; -1: there is none */
    bool has_windows;  /* an operator holds values and waits for its time */
    bool has_released; /* something that held batches back was let go */
    bool is_due;       /* a sink has something to do, which a checkpoint asks of it */
};

/* Runs the timers that are due. */
bool hooks_run_timers(struct script *s, struct hooks_timers *t, struct err *e) WARN_UNUSED;

#endif
