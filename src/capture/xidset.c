/* xidset.c -- a sorted set of 64-bit transaction ids.
 * SPDX-License-Identifier: MIT */
#include "capture/xidset.h"

#include <stdlib.h>
#include <string.h>

size_t xidset_lower_bound(const struct xidset *s, uint64_t xid)
{
    size_t lo = 0, hi = s->n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (s->v[mid] < xid)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

bool xidset_has(const struct xidset *s, uint64_t xid)
{
    size_t i = xidset_lower_bound(s, xid);

    return i < s->n && s->v[i] == xid;
}

bool xidset_add(struct xidset *s, uint64_t xid)
{
    size_t i = s->n > 0 && s->v[s->n - 1] < xid ? s->n : xidset_lower_bound(s, xid);

    if (i < s->n && s->v[i] == xid)
        return true;
    if (s->n == s->cap) {
        size_t cap = s->cap == 0 ? 16 : s->cap * 2;
        uint64_t *v = realloc(s->v, cap * sizeof *v);

        if (v == NULL)
            return false;
        s->v = v;
        s->cap = cap;
    }
    memmove(s->v + i + 1, s->v + i, (s->n - i) * sizeof *s->v);
    s->v[i] = xid;
    s->n++;
    return true;
}

bool xidset_add_all(struct xidset *s, const struct xidset *more)
{
    for (size_t i = 0; i < more->n; i++)
        if (!xidset_add(s, more->v[i]))
            return false;
    return true;
}

bool xidset_copy(struct xidset *to, const struct xidset *from)
{
    *to = (struct xidset){ 0 };
    if (from->n == 0)
        return true;
    to->v = malloc(from->n * sizeof *to->v);
    if (to->v == NULL)
        return false;
    memcpy(to->v, from->v, from->n * sizeof *to->v);
    to->n = to->cap = from->n;
    return true;
}

void xidset_fini(struct xidset *s)
{
    free(s->v);
    *s = (struct xidset){ 0 };
}
