/* slot_stuck.c -- a slot whose log the server fails to decode, again and again.
 * SPDX-License-Identifier: MIT */
#include "capture/slot_stuck.h"

#define TRIES 3            /* at least */
#define PATIENCE_MS 60000

bool slot_stuck_add(struct slot_stuck *s, uint64_t lsn, int64_t now_ms, bool is_brief)
{
    if (s->n == 0 || lsn > s->lsn)
        *s = (struct slot_stuck){ .since_ms = now_ms, .lsn = lsn };
    s->n++;
    return s->n >= TRIES && (is_brief || now_ms >= s->since_ms + PATIENCE_MS);
}
