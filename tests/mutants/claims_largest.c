/* claims_largest.c -- a mutant of what is confirmed, which a test must find out.
 * SPDX-License-Identifier: MIT
 *
 * The largest claim is confirmed, not the least: what a source that has saved less than the others
 * still needs is forgotten.
 *
 * Linked in place of src/capture/slot_claims.c. */
#define slot_claims_least slot_claims_least_by_the_rule
#include "../../src/capture/slot_claims.c"
#undef slot_claims_least

uint64_t slot_claims_least(const struct slot_claims *cs);

uint64_t slot_claims_least(const struct slot_claims *cs)
{
    uint64_t largest = 0;

    for (size_t i = 0; slot_claims_least_by_the_rule(cs) != 0 && i < cs->n; i++)
        if (cs->v[i].lsn > largest)
            largest = cs->v[i].lsn;
    return largest;
}
