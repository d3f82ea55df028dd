/* metrics.h -- the figures as Prometheus reads them.
 *
 * SPDX-License-Identifier: MIT */
#ifndef METRICS_H
#define METRICS_H

#include "serve/health.h"

/* Appends all metrics. <is_open>: as OpenMetrics 1.0, else in the older text format 0.0.4. */
void metrics_put(struct buf *to, const struct figures *f, const struct health *h, bool is_open,
                 int64_t now_us, int64_t now_ms);

#endif
