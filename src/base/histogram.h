/* histogram.h -- how long things took: counts by size.
 *
 * The bounds are the same for all histograms: from a microsecond to a minute. A value belongs to
 * the first bucket whose bound is not below it, or to the last bucket, which has no bound.
 *
 * SPDX-License-Identifier: MIT */
#ifndef HISTOGRAM_H
#define HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_BOUNDS 14

/* Zeroed at birth. */
struct histogram {
    uint64_t buckets[HISTOGRAM_BOUNDS + 1]; /* each without those before it */
    uint64_t count;
    double sum;  /* in seconds, as the next one */
    double last; /* the newest value */
};

/* The upper bounds of the buckets, in seconds, in ascending order. */
extern const double histogram_bounds[HISTOGRAM_BOUNDS];

/* Adds <n> values, each of so many seconds. */
void histogram_add(struct histogram *h, double seconds, uint64_t n);

/* Adds all that <other> has. */
void histogram_add_all(struct histogram *h, const struct histogram *other);

#endif
