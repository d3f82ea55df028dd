/* progress.h -- how far a snapshot is, for people.
 *
 * A bar on a terminal, a log line every ten seconds elsewhere: rows, rate,
 * time left.
 *
 * SPDX-License-Identifier: MIT */
#ifndef PROGRESS_H
#define PROGRESS_H

#include "base/log.h"
#include "capture/position.h"

/* Zeroed at birth. */
struct progress {
    int64_t start_ms, shown_ms;
    uint64_t start_rows, start_blocks;
};

/* Shows where <p> is, unless that was done a moment ago. After the end it says so once. */
void progress_show(struct progress *g, struct log *log, const char *source,
                   const struct position *p);

#endif
