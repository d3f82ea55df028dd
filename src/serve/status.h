/* status.h -- the figures as JSON: what GET /status answers, version 1.
 *
 * lua/operate.md says what is in it. Fields may be added; none is removed or changes its meaning
 * without another version.
 *
 * SPDX-License-Identifier: MIT */
#ifndef STATUS_H
#define STATUS_H

#include "serve/health.h"
#include "serve/history.h"

#define STATUS_VERSION 1

struct status {
    const struct figures *figures; /* borrowed, as all that follows */
    const struct health *health;
    const struct health_options *options;
    const struct history *history;
    int64_t since_us;              /* when it became ready, or stopped being so */
    int64_t now_us, now_ms;
};

/* Appends all of it; one line. */
void status_put(struct buf *to, const struct status *s);

/* Appends what GET /readyz answers: {"ready":, "problems": [...]}. */
void status_put_ready(struct buf *to, const struct status *s);

#endif
