/* horizon_highest.c -- a mutant of the capture rule, which a test must find out.
 * SPDX-License-Identifier: MIT
 *
 * New is what has a higher xid than anything delivered so far, as cursors on
 * a growing column have it. Whatever commits later than a higher xid is lost.
 *
 * Linked in place of src/capture/horizon.c. */
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
    (void)s;
    (void)durable;
    xidset_fini(&h->seen);
    if (delivered->n > 0 && delivered->v[delivered->n - 1] >= h->floor)
        h->floor = delivered->v[delivered->n - 1] + 1;
    return true;
}
