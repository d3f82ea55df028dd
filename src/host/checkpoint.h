/* checkpoint.h -- saves positions, and all that belongs to them.
 *
 * The only way to save a position. The sources of a group are saved together,
 * as they are at one moment, also one that is in the middle of a batch. What
 * may be saved then is decided by the Lua half (see hooks_checkpoint): sinks
 * are flushed first, and what operators hold waits.
 *
 * SPDX-License-Identifier: MIT */
#ifndef CHECKPOINT_H
#define CHECKPOINT_H

#include "host/delivery.h"
#include "lua/hooks.h"

#ifndef CHECKPOINT_LAZY_MS
#define CHECKPOINT_LAZY_MS 5000 /* a position that says only "nothing happened" waits so long */
#endif

struct checkpoint {
    struct script *script;           /* borrowed */
    struct delivery **deliveries;    /* borrowed: one for each source */
    size_t n;
    struct hooks_position *positions; /* owned scratch, as many */
    bool has_lazy;                   /* a position waits that says only "nothing happened", */
    int64_t lazy_since_ms;           /* since then; */
    bool has_lazy_failed;            /* the last try to save such ones failed */
    bool is_due;                     /* checkpoint_retry is to be called */
    int64_t stop_ms;                 /* when rows_stop was first called; 0: never */
};

bool checkpoint_init(struct checkpoint *c, struct script *script, struct delivery **deliveries,
                     struct err *e) WARN_UNUSED;
void checkpoint_fini(struct checkpoint *c);

/* Saves the position of a source, or sees that it will be. *is_done false: a sink failed, and it is
 * to be tried again when the source is not paused. */
bool checkpoint_save(struct checkpoint *c, size_t source, bool *is_done,
                     struct err *e) WARN_UNUSED;

/* There is a new position that says only that nothing happened: it is saved within some seconds,
 * unless a save of its group has failed and has its own time to come again. */
void checkpoint_save_later(struct checkpoint *c);
/* How many milliseconds that may wait yet; -1: none waits. */
int64_t checkpoint_wait_ms(const struct checkpoint *c);
bool checkpoint_save_lazy(struct checkpoint *c, struct err *e) WARN_UNUSED;

/* What operators held was let go, or a sink failed before: perhaps what waits can be saved now. A
 * source that is paused is not tried, unless it is the last time. */
bool checkpoint_retry(struct checkpoint *c, bool is_last, struct err *e) WARN_UNUSED;

#endif
