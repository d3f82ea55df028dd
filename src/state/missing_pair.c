/* missing_pair.c -- which two rows of a bucket are missing, if just two are.
 *
 * Tags, the upper halves of hashes, are in memory. Two rows whose tags have the upper half of the
 * xor are candidates, of which there are few: only their hashes are read.
 *
 * SPDX-License-Identifier: MIT */
#include "state/missing_pair.h"

#include "base/array.h"

#include <stdlib.h>
#include <string.h>

#define MOST_ROWS ((size_t)256 << 10) /* of all buckets; of more they are not looked for */

/* Rows as tag << 32 | id. */
struct rows {
    uint64_t *v;
    size_t n, cap;
};

static uint32_t tag_of(uint64_t row)
{
    return (uint32_t)(row >> 32);
}

/* A kept_rows_visit. */
static bool add_row(void *arg, uint32_t tag, uint32_t id)
{
    struct rows *rows = arg;

    return ARRAY_PUSH(rows->v, rows->n, rows->cap, (uint64_t)tag << 32 | id);
}

static int compare_rows(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* The index of the first row that is not below <row>. */
static size_t lower_bound(const struct rows *rows, uint64_t row)
{
    size_t low = 0, high = rows->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (rows->v[middle] < row)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* *n: how many of the pairs of row <i> with a later one have the xor. */
static bool try_row(struct kept_rows *k, const struct rows *rows, size_t i,
                    struct missing_pair *pair, size_t *n, struct err *e)
{
    uint32_t tag = tag_of(rows->v[i]), other = tag ^ (uint32_t)(pair->xor >> 32);
    size_t j = other > tag ? lower_bound(rows, (uint64_t)other << 32) : i + 1;
    struct kept_row row;
    uint64_t hash;

    if (other < tag || j >= rows->n || tag_of(rows->v[j]) != other)
        return true;
    if (!kept_rows_get(k, (uint32_t)rows->v[i], &row, e))
        return false;
    for (hash = row.hash; j < rows->n && tag_of(rows->v[j]) == other; j++) {
        if (!kept_rows_get(k, (uint32_t)rows->v[j], &row, e))
            return false;
        if ((hash ^ row.hash) != pair->xor)
            continue;
        pair->ids[0] = (uint32_t)rows->v[i];
        pair->ids[1] = (uint32_t)rows->v[j];
        ++*n;
    }
    return true;
}

static bool find(struct kept_rows *k, const struct rows *rows, struct missing_pair *pair,
                 struct err *e)
{
    size_t n = 0, i = lower_bound(rows, (uint64_t)pair->first << TALLY_SHIFT);
    uint64_t last = ((uint64_t)(pair->first + pair->width) << TALLY_SHIFT) - 1; /* 2^64 wraps */

    for (; i < rows->n && rows->v[i] <= last; i++)
        if (!try_row(k, rows, i, pair, &n, e))
            return false;
    pair->is_found = n == 1;
    return true;
}

/* Collects the rows of these buckets, in the order of their tags. *is_few false: there are too
 * many. */
static bool collect(const struct kept_rows *k, const struct missing_pair *pairs, size_t n,
                    struct rows *rows, bool *is_few)
{
    unsigned char buckets[TALLY_BUCKETS / 8] = { 0 };
    uint64_t sum = 0;

    for (size_t i = 0; i < n; i++)
        for (size_t b = pairs[i].first; b < pairs[i].first + pairs[i].width; b++) {
            buckets[b / 8] |= (unsigned char)(1 << b % 8);
            sum += kept_rows_buckets(k)[b].count;
        }
    *is_few = sum <= MOST_ROWS;
    if (!*is_few)
        return true;
    if (!kept_rows_each(k, buckets, add_row, rows))
        return false;
    if (rows->n > 0)
        qsort(rows->v, rows->n, sizeof *rows->v, compare_rows);
    return true;
}

bool missing_pair_find(struct kept_rows *k, struct missing_pair *pairs, size_t n, struct err *e)
{
    struct rows rows = { NULL, 0, 0 };
    bool is_few = false, ok;

    for (size_t i = 0; i < n; i++)
        pairs[i].is_found = false;
    if (n == 0)
        return true;
    ok = collect(k, pairs, n, &rows, &is_few) || err_memory(e);
    for (size_t i = 0; ok && is_few && i < n; i++)
        ok = find(k, &rows, &pairs[i], e);
    free(rows.v);
    return ok;
}
