/* stuck_once.c -- a mutant of when a slot is given up, which a test must find out.
 * SPDX-License-Identifier: MIT
 *
 * One error of decoding is enough: but the server may do better in a while.
 *
 * Linked in place of src/capture/slot_stuck.c. */
#define slot_stuck_add slot_stuck_add_by_the_rule
#include "../../src/capture/slot_stuck.c"
#undef slot_stuck_add

bool slot_stuck_add(struct slot_stuck *s, uint64_t lsn, int64_t now_ms, bool is_brief);

bool slot_stuck_add(struct slot_stuck *s, uint64_t lsn, int64_t now_ms, bool is_brief)
{
    return slot_stuck_add_by_the_rule(s, lsn, now_ms, is_brief) || s->n > 0;
}
