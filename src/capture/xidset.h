/* xidset.h -- a sorted set of 64-bit transaction ids.
 *
 * SPDX-License-Identifier: MIT */
#ifndef XIDSET_H
#define XIDSET_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

/* Zeroed is empty. */
struct xidset {
    uint64_t *v; /* ascending, each once */
    size_t n, cap;
};

/* The index of the first element that is not below <xid>; n if there is none. */
size_t xidset_lower_bound(const struct xidset *s, uint64_t xid);

bool xidset_has(const struct xidset *s, uint64_t xid);

/* False, as from the next two: out of memory. xidset_copy overwrites <to>. */
bool xidset_add(struct xidset *s, uint64_t xid) WARN_UNUSED;
bool xidset_add_all(struct xidset *s, const struct xidset *more) WARN_UNUSED;

/* Takes out what is below <xid>. */
void xidset_drop_below(struct xidset *s, uint64_t xid);

bool xidset_copy(struct xidset *to, const struct xidset *from) WARN_UNUSED;
void xidset_fini(struct xidset *s);

#endif
