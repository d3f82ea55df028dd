/* hints.c -- which blocks a poll must read: those that the server's WAL says were written since.
 * SPDX-License-Identifier: MIT */
#include "capture/hints.h"

#include "base/array.h"

#include <stdlib.h>
#include <string.h>

void hints_drop(struct hints *h)
{
    h->xid = h->lsn = h->next_xid = h->next_lsn = h->read_to = h->any_below = 0;
    h->n_leaves = h->n_pairs = h->n_ranges = 0;
}

void hints_fini(struct hints *h)
{
    free(h->leaves);
    free(h->pairs);
    free(h->ranges);
    *h = (struct hints){ 0 };
}

void hints_begin_note(struct hints *h, uint64_t lsn, const struct identity *server)
{
    hints_drop(h);
    h->lsn = h->read_to = lsn;
    h->server = *server;
}

bool hints_add_leaf(struct hints *h, uint32_t oid, uint32_t filenode)
{
    const struct hints_leaf leaf = { oid, filenode };

    return ARRAY_PUSH(h->leaves, h->n_leaves, h->cap_leaves, leaf);
}

void hints_end_note(struct hints *h, uint64_t xid)
{
    h->xid = xid;
}

uint64_t hints_next_xid(uint64_t xmax, int64_t age)
{
    uint32_t next = (uint32_t)age + HORIZON_FIRST_XID;

    return xmax + (uint32_t)(next - (uint32_t)xmax);
}

bool hints_is_of(const struct hints *h, const struct identity *now, bool *is_other)
{
    const struct identity *then = &h->server;

    *is_other = strcmp(then->system, now->system) != 0 || then->database != now->database ||
                then->timeline != now->timeline || then->in_recovery != now->in_recovery;
    return !*is_other && strcmp(then->started, now->started) == 0 &&
           strcmp(then->stats, now->stats) == 0;
}

static uint32_t filenode_of(const struct hints *h, uint32_t oid)
{
    for (size_t i = 0; i < h->n_leaves; i++)
        if (h->leaves[i].oid == oid)
            return h->leaves[i].filenode;
    return 0;
}

bool hints_has_leaves(const struct hints *h, const struct relation *t)
{
    for (size_t i = 0; i < t->n_leaves; i++) {
        uint32_t filenode = i < h->n_leaves && h->leaves[i].oid == t->leaves[i].oid
                                ? h->leaves[i].filenode
                                : filenode_of(h, t->leaves[i].oid);

        if (filenode == 0 || filenode != t->leaves[i].filenode)
            return false;
    }
    return true;
}

uint64_t hints_end(const struct identity *now, uint64_t replayed)
{
    return now->in_recovery ? replayed : now->lsn;
}

bool hints_must_wait(uint64_t flush, uint64_t end)
{
    return flush < end;
}

bool hints_is_armed(const struct hints *h, const struct horizon *horizon)
{
    return h->xid != 0 && horizon->floor >= h->xid;
}

uint64_t hints_widen(uint32_t xid, uint64_t floor)
{
    int64_t away = (int32_t)(xid - (uint32_t)floor);

    return away < 0 && (uint64_t)-away > floor ? 0 : floor + (uint64_t)away;
}

bool hints_add(struct hints *h, uint64_t xid, uint32_t filenode, uint32_t block)
{
    const struct hints_pair pair = { xid, filenode, block };

    return ARRAY_PUSH(h->pairs, h->n_pairs, h->cap_pairs, pair);
}

void hints_have_read(struct hints *h, uint64_t end)
{
    h->read_to = end;
}

/* ---- summaries ---- */

static int compare_summaries(const void *a, const void *b)
{
    const struct hints_summary *x = a, *y = b;

    return x->start < y->start ? -1 : x->start > y->start;
}

uint64_t hints_cover(struct hints_summary *summaries, size_t *n, uint64_t from)
{
    size_t n_used = 0;

    if (*n > 1)
        qsort(summaries, *n, sizeof *summaries, compare_summaries);
    for (size_t i = 0; i < *n && summaries[i].start <= from; i++) {
        if (summaries[i].end <= from)
            continue;
        from = summaries[i].end;
        summaries[n_used++] = summaries[i];
    }
    *n = n_used;
    return from;
}

bool hints_add_summarized(struct hints *h, uint32_t filenode, uint32_t block)
{
    return hints_add(h, HINTS_ANY_XID, filenode, block);
}

void hints_have_summaries(struct hints *h, uint64_t end, uint64_t next_xid)
{
    h->read_to = end;
    h->any_below = next_xid;
}

/* ---- plans ---- */

/* False: all that the pair may stand for is done. */
static bool may_be_new(const struct hints *h, const struct horizon *horizon, uint64_t xid)
{
    return xid == HINTS_ANY_XID ? horizon->floor < h->any_below : horizon_is_new(horizon, xid);
}

/* Drops the pairs of what is done. */
static void drop_done(struct hints *h, const struct horizon *horizon)
{
    size_t n = 0;

    for (size_t i = 0; i < h->n_pairs; i++)
        if (may_be_new(h, horizon, h->pairs[i].xid))
            h->pairs[n++] = h->pairs[i];
    h->n_pairs = n;
}

static int compare_pairs(const void *a, const void *b)
{
    const struct hints_pair *x = a, *y = b;

    if (x->filenode != y->filenode)
        return x->filenode < y->filenode ? -1 : 1;
    if (x->block != y->block)
        return x->block < y->block ? -1 : 1;
    return x->xid < y->xid ? -1 : x->xid > y->xid;
}

/* Sorts the pairs, by block, and drops those that are there twice: an xid may write for long. */
static void sort_pairs(struct hints *h)
{
    size_t n = 0;

    if (h->n_pairs > 1)
        qsort(h->pairs, h->n_pairs, sizeof *h->pairs, compare_pairs);
    for (size_t i = 0; i < h->n_pairs; i++)
        if (n == 0 || compare_pairs(&h->pairs[n - 1], &h->pairs[i]) != 0)
            h->pairs[n++] = h->pairs[i];
    h->n_pairs = n;
}

bool hints_plan(struct hints *h, const struct horizon *horizon, uint64_t *blocks)
{
    struct hints_range *last = NULL;

    *blocks = 0;
    h->n_ranges = 0;
    drop_done(h, horizon);
    sort_pairs(h);
    for (size_t i = 0; i < h->n_pairs; i++) {
        const struct hints_pair *p = &h->pairs[i];
        const struct hints_range range = { p->filenode, p->block, p->block + 1 };

        if (last != NULL && last->filenode == p->filenode && p->block < last->end)
            continue;
        ++*blocks;
        if (last != NULL && last->filenode == p->filenode && p->block == last->end) {
            last->end++;
            continue;
        }
        if (!ARRAY_PUSH(h->ranges, h->n_ranges, h->cap_ranges, range))
            return false;
        last = &h->ranges[h->n_ranges - 1];
    }
    return true;
}

void hints_forget(struct hints *h, const struct horizon *horizon, uint64_t *xid, uint64_t *lsn)
{
    drop_done(h, horizon);
    h->n_ranges = 0;
    if (h->next_xid != 0 && horizon->floor >= h->next_xid) {
        *xid = h->next_xid;
        *lsn = h->next_lsn;
        h->next_xid = 0;
    } else if (h->xid > *xid && horizon->floor >= h->xid) {
        *xid = h->xid;
        *lsn = h->lsn;
    }
}
