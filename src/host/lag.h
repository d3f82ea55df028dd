/* lag.h -- how old the oldest change of a source is that was delivered and is not saved.
 *
 *     delivered   batch 7 (read at 10:00:01)   batch 8 (10:00:02)   batch 9 (10:00:05)
 *     captured    the position after 7         the one after 8
 *     saved       the position after 7                              the oldest is of 10:00:02
 *
 * A checkpoint may wait after it was captured, since an operator holds a value: so that a position
 * was captured says nothing. It counts when its text was saved. Times are microseconds since 1970.
 *
 * SPDX-License-Identifier: MIT */
#ifndef LAG_H
#define LAG_H

#include "base/histogram.h"
#include "base/warn.h"

#include <stdbool.h>
#include <stddef.h>

struct lag_moment {
    uint64_t hash;     /* of the text of the position */
    uint64_t batch;    /* the number of the last batch before it */
    int64_t oldest_us; /* the oldest change that it saves and the moment before does not; 0: there
                        * is none */
};

/* Zeroed at birth. */
struct lag {
    struct lag_moment *moments; /* captured and not saved, the oldest first; owned */
    size_t n, cap;
    int64_t open_us;       /* the oldest change that was delivered since; 0: there is none */
    uint64_t saved_batch;  /* the number of the last batch that is saved */
    int64_t saved_us;      /* when a position was last saved; 0: never */
    struct histogram seconds; /* from the oldest change of what was saved to the save */
};

void lag_fini(struct lag *l);

/* Changes are about to be delivered, the oldest of which is of <us>. */
void lag_deliver(struct lag *l, int64_t us);

/* A checkpoint has taken the position with this text, after batch <batch>. */
void lag_capture(struct lag *l, const char *text, uint64_t batch);

/* The position with this text was saved. */
void lag_save(struct lag *l, const char *text, int64_t now_us);

/* The oldest change that is delivered and not saved; 0: there is none. */
int64_t lag_oldest_us(const struct lag *l);

#endif
