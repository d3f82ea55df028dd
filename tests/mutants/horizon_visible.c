/* horizon_visible.c -- a mutant of the capture rule, which a test must find out.
 * SPDX-License-Identifier: MIT
 *
 * New is what was not visible in the snapshot of the previous poll, as
 * pg_visible_in_snapshot() would have it. That snapshot lists no
 * subtransactions (and on a standby nobody), so it takes the work of an open
 * savepoint for done and loses it.
 *
 * Linked in place of src/capture/horizon.c: floor is the snapshot's xmin, seen is all
 * that it takes for done from there on. */
#include <stdlib.h>

#define horizon_advance horizon_advance_by_the_rule
#include "../../src/capture/horizon.c"
#undef horizon_advance

bool horizon_advance(struct horizon *h, const struct horizon_snapshot *s,
                     const struct xidset *delivered,
                     uint64_t durable) WARN_UNUSED;

bool horizon_advance(struct horizon *h, const struct horizon_snapshot *s,
                     const struct xidset *delivered,
                     uint64_t durable)
{
    const char *list = strrchr(s->text, ':') + 1;
    char *end;
    uint64_t open = *list != '\0' ? strtoull(list, &end, 10) : s->xmax;

    (void)delivered;
    (void)durable;
    xidset_fini(&h->seen);
    h->floor = s->xmin;
    for (uint64_t xid = s->xmin; xid < s->xmax; xid++) {
        if (xid < open) {
            if (!xidset_add(&h->seen, xid))
                return false;
            continue;
        }
        open = *end == ',' ? strtoull(end + 1, &end, 10) : s->xmax;
    }
    return true;
}
