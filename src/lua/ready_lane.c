/* ready_lane.c -- a heap, of which the root has the least place.
 * SPDX-License-Identifier: MIT */
#include "lua/ready_lane.h"

#include "base/array.h"

#include <stdlib.h>

bool ready_lane_push(struct ready_lane_heap *h, struct ready_lane it)
{
    size_t i = h->n;

    if (!ARRAY_PUSH(h->v, h->n, h->cap, it))
        return false;
    for (; i > 0 && h->v[(i - 1) / 2].place > it.place; i = (i - 1) / 2)
        h->v[i] = h->v[(i - 1) / 2];
    h->v[i] = it;
    return true;
}

struct ready_lane ready_lane_pop(struct ready_lane_heap *h)
{
    const struct ready_lane top = h->v[0], moved = h->v[--h->n];
    size_t i = 0;

    for (;;) {
        size_t child = 2 * i + 1;

        if (child + 1 < h->n && h->v[child + 1].place < h->v[child].place)
            child++;
        if (child >= h->n || h->v[child].place >= moved.place)
            break;
        h->v[i] = h->v[child];
        i = child;
    }
    if (h->n > 0)
        h->v[i] = moved;
    return top;
}

void ready_lane_fini(struct ready_lane_heap *h)
{
    free(h->v);
    *h = (struct ready_lane_heap){ NULL, 0, 0 };
}
