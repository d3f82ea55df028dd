/* slot_claims.c -- what of the log the sources of a slot still need.
 * SPDX-License-Identifier: MIT */
#include "capture/slot_claims.h"

#include "base/array.h"
#include "base/clock.h"

#include <stdlib.h>

bool slot_claims_add(struct slot_claims *cs)
{
    return ARRAY_PUSH(cs->v, cs->n, cs->cap, ((struct slot_claims_one){ .lsn = 0 }));
}

void slot_claims_fini(struct slot_claims *cs)
{
    free(cs->v);
    *cs = (struct slot_claims){ 0 };
}

void slot_claims_set(struct slot_claims *cs, size_t i, uint64_t lsn)
{
    struct slot_claims_one *c = &cs->v[i];

    if (!c->is_known || c->lsn != lsn)
        c->since_ms = clock_mono_ms();
    c->is_known = true;
    c->lsn = lsn;
}

void slot_claims_expect(struct slot_claims *cs, size_t i, uint64_t lsn)
{
    struct slot_claims_one *c = &cs->v[i];

    if (!c->is_known || c->lsn == 0 || lsn < c->lsn)
        slot_claims_set(cs, i, lsn);
}

uint64_t slot_claims_least(const struct slot_claims *cs)
{
    for (size_t i = 0; i < cs->n; i++)
        if (!cs->v[i].is_known)
            return 0;
    return cs->n > 0 ? cs->v[slot_claims_holder(cs)].lsn : 0;
}

size_t slot_claims_holder(const struct slot_claims *cs)
{
    size_t least = 0;

    for (size_t i = 1; i < cs->n; i++)
        if (cs->v[i].lsn != 0 && (cs->v[least].lsn == 0 || cs->v[i].lsn < cs->v[least].lsn))
            least = i;
    return least;
}

bool slot_claims_has(const struct slot_claims *cs, size_t except)
{
    for (size_t i = 0; i < cs->n; i++)
        if (i != except && (!cs->v[i].is_known || cs->v[i].lsn != 0))
            return true;
    return false;
}

bool slot_claims_is_named(const struct slot_claims *cs)
{
    for (size_t i = 0; i < cs->n; i++)
        if (cs->v[i].names_slot)
            return true;
    return false;
}
