/* claims_heard.c -- a mutant of what is confirmed, which a test must find out.
 * SPDX-License-Identifier: MIT
 *
 * All that was heard of the log counts as saved. The server forgets it then, and what was heard and
 * not saved is lost with the program.
 *
 * Linked in place of src/capture/slot_claims.c. */
#define slot_claims_least slot_claims_least_by_the_rule
#include "../../src/capture/slot_claims.c"
#undef slot_claims_least

uint64_t slot_claims_least(const struct slot_claims *cs);

uint64_t slot_claims_least(const struct slot_claims *cs)
{
    return slot_claims_least_by_the_rule(cs) != 0 ? UINT64_MAX : 0;
}
