/* lag.c -- how old the oldest change of a source is that was delivered and is not saved.
 * SPDX-License-Identifier: MIT */
#include "host/lag.h"

#include "base/array.h"
#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

#define MOST 4096 /* moments; beyond that the newest one stands for several */

void lag_fini(struct lag *l)
{
    free(l->moments);
    *l = (struct lag){ 0 };
}

static int64_t older(int64_t a, int64_t b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

void lag_deliver(struct lag *l, int64_t us)
{
    l->open_us = older(l->open_us, us);
}

void lag_capture(struct lag *l, const char *text, uint64_t batch)
{
    struct lag_moment m = { hash_words(HASH_START, text, strlen(text)), batch, l->open_us };

    l->open_us = 0;
    if (l->n == MOST || !ARRAY_RESERVE(l->moments, l->n, l->cap, 1)) {
        if (l->n == 0) { /* without memory the changes count as not saved yet */
            l->open_us = m.oldest_us;
            return;
        }
        m.oldest_us = older(l->moments[l->n - 1].oldest_us, m.oldest_us);
        l->n--;
    }
    l->moments[l->n++] = m;
}

void lag_save(struct lag *l, const char *text, int64_t now_us)
{
    uint64_t hash = hash_words(HASH_START, text, strlen(text));
    int64_t oldest = 0;
    size_t n = l->n;

    l->saved_us = now_us;
    while (n > 0 && l->moments[n - 1].hash != hash)
        n--;
    if (n == 0)
        return;
    for (size_t i = 0; i < n; i++)
        oldest = older(oldest, l->moments[i].oldest_us);
    l->saved_batch = l->moments[n - 1].batch;
    if (oldest != 0)
        histogram_add(&l->seconds, now_us > oldest ? (double)(now_us - oldest) / 1e6 : 0, 1);
    memmove(l->moments, l->moments + n, (l->n - n) * sizeof *l->moments);
    l->n -= n;
}

int64_t lag_oldest_us(const struct lag *l)
{
    int64_t oldest = l->open_us;

    for (size_t i = 0; i < l->n; i++)
        oldest = older(oldest, l->moments[i].oldest_us);
    return oldest;
}
