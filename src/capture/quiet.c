/* quiet.c -- whether statistics counters that stand still may stand in for a scan.
 * SPDX-License-Identifier: MIT */
#include "capture/quiet.h"

#include <string.h>

bool quiet_holds(const struct quiet *q, int64_t most_ms, int64_t now_ms)
{
    const struct quiet_counters *a = &q->asked, *b = &q->scanned;

    return a->is_known && b->is_known && a->sum == b->sum && strcmp(a->reset, b->reset) == 0 &&
           now_ms - b->at_ms < most_ms;
}

bool quiet_lets_rise(const struct quiet *q)
{
    return !q->is_used;
}

void quiet_scanned(struct quiet *q)
{
    q->scanned = q->asked;
    q->asked.is_known = false;
}
