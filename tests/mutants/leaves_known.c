/* leaves_known.c -- a mutant of the rule of partitions that join, which a test must find out.
 * SPDX-License-Identifier: MIT
 *
 * A partition that was known and comes back is not read again: what was written to it while it was
 * none is lost.
 *
 * Linked in place of src/capture/log_leaves.c. */
#include "../../src/capture/position.h"

static const struct position_leaf *position_leaf_once(const struct position *p, uint32_t oid)
{
    static struct position_leaf known;

    if (position_leaf(p, oid) == NULL)
        return NULL;
    known = *position_leaf(p, oid);
    known.attached = 0; /* as one that it is not known of when it was attached */
    return &known;
}

#define position_leaf(p, oid) position_leaf_once(p, oid)
#include "../../src/capture/log_leaves.c"
