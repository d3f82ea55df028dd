/* ready_lane.h -- lanes that have a record which may go, the oldest record first: a heap.
 *
 * SPDX-License-Identifier: MIT */
#ifndef READY_LANE_H
#define READY_LANE_H

#include "base/warn.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A lane whose first record is at that place. */
struct ready_lane {
    uint64_t place;
    uint32_t lane;
};

struct ready_lane_heap {
    struct ready_lane *v;
    size_t n, cap;
};

/* False without memory. */
bool ready_lane_push(struct ready_lane_heap *h, struct ready_lane it) WARN_UNUSED;

/* Takes the one whose record is the oldest. There is one. */
struct ready_lane ready_lane_pop(struct ready_lane_heap *h);

void ready_lane_fini(struct ready_lane_heap *h);

#endif
