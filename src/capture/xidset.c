/* xidset.c -- a sorted set of 64-bit transaction ids.
 * SPDX-License-Identifier: MIT */
#include "capture/xidset.h"

#include "base/array.h"

#include <stdlib.h>

size_t xidset_lower_bound(const struct xidset *s, uint64_t xid)
{
    size_t i;

    ARRAY_LOWER_BOUND(i, s->n, s->v[i] < xid);
    return i;
}

bool xidset_has(const struct xidset *s, uint64_t xid)
{
    size_t i = xidset_lower_bound(s, xid);

    return i < s->n && s->v[i] == xid;
}

bool xidset_add(struct xidset *s, uint64_t xid)
{
    size_t i = s->n > 0 && s->v[s->n - 1] < xid ? s->n : xidset_lower_bound(s, xid);

    return (i < s->n && s->v[i] == xid) || ARRAY_INSERT(s->v, s->n, s->cap, i, xid);
}

bool xidset_add_all(struct xidset *s, const struct xidset *more)
{
    for (size_t i = 0; i < more->n; i++)
        if (!xidset_add(s, more->v[i]))
            return false;
    return true;
}

void xidset_drop_below(struct xidset *s, uint64_t xid)
{
    size_t n = xidset_lower_bound(s, xid);

    s->n -= n;
    if (n > 0 && s->n > 0)
        memmove(s->v, s->v + n, s->n * sizeof *s->v);
}

bool xidset_copy(struct xidset *to, const struct xidset *from)
{
    bool ok = true;

    *to = (struct xidset){ .v = array_copy(from->v, from->n, sizeof *from->v, &ok) };
    if (ok)
        to->n = to->cap = from->n;
    return ok;
}

void xidset_fini(struct xidset *s)
{
    free(s->v);
    *s = (struct xidset){ 0 };
}
