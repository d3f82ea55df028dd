/* histogram.c -- how long things took: counts by size.
 * SPDX-License-Identifier: MIT */
#include "base/histogram.h"

const double histogram_bounds[HISTOGRAM_BOUNDS] = { 1e-6, 1e-5, 1e-4, 0.001, 0.005, 0.01, 0.05, 0.1,
                                                    0.5, 1, 5, 10, 30, 60 };

void histogram_add(struct histogram *h, double seconds, uint64_t n)
{
    int i = 0;

    if (n == 0)
        return;
    while (i < HISTOGRAM_BOUNDS && seconds > histogram_bounds[i])
        i++;
    h->buckets[i] += n;
    h->count += n;
    h->sum += seconds * (double)n;
    h->last = seconds;
}

void histogram_add_all(struct histogram *h, const struct histogram *other)
{
    for (int i = 0; i <= HISTOGRAM_BOUNDS; i++)
        h->buckets[i] += other->buckets[i];
    h->count += other->count;
    h->sum += other->sum;
    if (other->count > 0)
        h->last = other->last;
}
