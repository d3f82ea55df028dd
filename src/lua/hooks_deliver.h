/* hooks_deliver.h -- hands rows over to the handlers of their source.
 *
 * Through the one door; no function here throws, errors are those of script_call.
 *
 * SPDX-License-Identifier: MIT */
#ifndef HOOKS_DELIVER_H
#define HOOKS_DELIVER_H

#include "base/err.h"
#include "base/warn.h"
#include "capture/chunk.h"
#include "lua/api_source.h"

/* Rows for the handlers of a source. */
struct hooks_deliver_rows {
    size_t source;
    uint64_t batch; /* the number of the batch that they are of */
    const struct chunk *chunk;
    size_t done;   /* how many are handled: the index of the next one */
    bool may_stop; /* delivery may end in the middle of the chunk when the program is to stop */
};

/* Gives the rows from <done> on to the handlers, and counts <done> up. Stops early and returns true
 * if the source was paused, if a handler asks for the same change again later, or by <may_stop>,
 * where a sink wants to be flushed as well.
 * After a failure row <done> is the one that failed, and <e> names its key. */
bool hooks_deliver(struct script *s, struct hooks_deliver_rows *rows, struct err *e) WARN_UNUSED;

#endif
