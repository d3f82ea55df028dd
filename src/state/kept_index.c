/* kept_index.c -- an index from hashes to numbers of rows.
 *
 * A row that is dropped leaves no gap: what follows it moves up.
 *
 * SPDX-License-Identifier: MIT */
#include "state/kept_index.h"

#include <stdlib.h>
#include <string.h>

size_t kept_index_home(const struct kept_index *x, uint32_t tag)
{
    return (tag * 0x9e3779b1u >> 3) & (x->n_v - 1);
}

size_t kept_index_next(const struct kept_index *x, size_t i)
{
    return (i + 1) & (x->n_v - 1);
}

void kept_index_fini(struct kept_index *x)
{
    free(x->v);
    free(x->is_changed);
    *x = (struct kept_index){ NULL, 0, 0, NULL, { { 0, 0 } } };
}

size_t kept_index_parts(const struct kept_index *x)
{
    return (x->n_v + KEPT_INDEX_PART - 1) / KEPT_INDEX_PART;
}

void kept_index_clean(struct kept_index *x)
{
    if (x->is_changed != NULL)
        memset(x->is_changed, 0, kept_index_parts(x));
}

static void mark_changed(struct kept_index *x, size_t i)
{
    x->is_changed[i / KEPT_INDEX_PART] = 1;
}

bool kept_index_init(struct kept_index *x, size_t n_v, struct err *e)
{
    x->v = calloc(n_v + 1, sizeof *x->v);
    x->is_changed = calloc(n_v / KEPT_INDEX_PART + 1, 1);
    if (x->v == NULL || x->is_changed == NULL) {
        kept_index_fini(x);
        return err_memory(e);
    }
    x->n_v = n_v;
    return true;
}

static void place(struct kept_index *x, struct kept_index_entry entry)
{
    size_t i = kept_index_home(x, entry.tag);

    while (x->v[i].id != 0)
        i = kept_index_next(x, i);
    x->v[i] = entry;
    mark_changed(x, i);
}

static bool is_moved(const unsigned char *moved, size_t i)
{
    return moved[i / 8] >> i % 8 & 1;
}

/* Gives every row its place among twice as many, without a second table: a row that stands where
 * another one belongs is moved next. What was moved stays. */
static void spread(struct kept_index *x, unsigned char *moved)
{
    for (size_t i = 0; i < x->n_v; i++) {
        struct kept_index_entry in_hand = x->v[i];

        if (in_hand.id == 0 || is_moved(moved, i))
            continue;
        x->v[i].id = 0;
        while (in_hand.id != 0) {
            size_t to = kept_index_home(x, in_hand.tag);
            struct kept_index_entry was;

            while (is_moved(moved, to))
                to = kept_index_next(x, to);
            was = x->v[to];
            x->v[to] = in_hand;
            moved[to / 8] |= (unsigned char)(1 << to % 8);
            in_hand = was;
        }
    }
}

bool kept_index_make_room(struct kept_index *x, struct err *e)
{
    size_t n = x->n_v > 0 ? 2 * x->n_v : 1024;
    unsigned char *moved, *is_changed;
    struct kept_index_entry *v;

    if ((x->n + 1) * 4 <= x->n_v * 3)
        return true;
    is_changed = realloc(x->is_changed, n / KEPT_INDEX_PART + 1);
    if (is_changed == NULL)
        return err_memory(e);
    x->is_changed = is_changed;
    v = realloc(x->v, n * sizeof *v); /* a big block is moved by pages, not by bytes */
    if (v == NULL)
        return err_memory(e);
    x->v = v;
    memset(v + x->n_v, 0, (n - x->n_v) * sizeof *v);
    if ((moved = calloc(n / 8, 1)) == NULL)
        return err_memory(e);
    x->n_v = n;
    memset(is_changed, 1, kept_index_parts(x));
    spread(x, moved);
    free(moved);
    return true;
}

static void count(struct kept_index *x, uint64_t hash, int by)
{
    struct tally_bucket *b = &x->buckets[hash >> TALLY_SHIFT];

    b->count += (uint64_t)by;
    b->xor ^= hash;
    x->n += (size_t)by;
}

void kept_index_add(struct kept_index *x, uint64_t hash, int64_t id)
{
    place(x, (struct kept_index_entry){ (uint32_t)(hash >> 32), (uint32_t)id });
    count(x, hash, 1);
}

void kept_index_drop(struct kept_index *x, uint64_t hash, int64_t id)
{
    uint32_t tag = (uint32_t)(hash >> 32);
    size_t i = kept_index_home(x, tag);

    while (x->v[i].id != (uint32_t)id)
        i = kept_index_next(x, i);
    x->v[i].id = 0;
    mark_changed(x, i);
    for (size_t j = kept_index_next(x, i); x->v[j].id != 0; j = kept_index_next(x, j)) {
        struct kept_index_entry entry = x->v[j];

        x->v[j].id = 0;
        mark_changed(x, j);
        place(x, entry);
    }
    count(x, hash, -1);
}
