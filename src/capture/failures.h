/* failures.h -- failures in a row, and whether to try again.
 *
 * pg/sqlstate.h says what an error means; this adds how often and for how long it came.
 *
 * SPDX-License-Identifier: MIT */
#ifndef FAILURES_H
#define FAILURES_H

#include "pg/sqlstate.h"

/* Zeroed: none yet. The owner sets <n> to 0, or <has_worked>, when it succeeds. */
struct failures {
    unsigned n;        /* in a row */
    int64_t since_ms;
    bool has_worked;   /* it has succeeded before, so what it asks for is right */
    bool is_impatient; /* the row is a long one */
};

/* One more. True: to be tried again after *wait_ms. <is_brief>: it is given up after a few. */
bool failures_add(struct failures *f, const struct err *e, bool is_brief, int64_t *wait_ms);

#endif
