/* failures.c -- failures in a row, and whether to try again.
 * SPDX-License-Identifier: MIT */
#include "capture/failures.h"

#include "base/clock.h"

#define BRIEF_TRIES 3      /* --once and --check give up then */
#define PATIENCE_MS 60000  /* for a table that is missing, or a standby that lags */

bool failures_add(struct failures *f, const struct err *e, bool is_brief, int64_t *wait_ms)
{
    enum sqlstate_action action = sqlstate_action(e, f->has_worked);
    int64_t now = clock_mono_ms();

    if (f->n++ == 0)
        f->since_ms = now;
    f->is_impatient = now - f->since_ms >= PATIENCE_MS;
    *wait_ms = sqlstate_backoff_ms(f->n);
    return (action == SQLSTATE_RETRY || (action == SQLSTATE_PATIENCE && !f->is_impatient)) &&
           !(is_brief && f->n >= BRIEF_TRIES);
}
