/* slots.c -- an index from hashes to numbers of rows.
 *
 * A row that is gone leaves no gap: what follows it moves up.
 *
 * SPDX-License-Identifier: MIT */
#include "state/slots.h"

#include <stdlib.h>
#include <string.h>

size_t slots_home(const struct slots *s, uint32_t tag)
{
    return (tag * 0x9e3779b1u >> 3) & (s->n_v - 1);
}

size_t slots_next(const struct slots *s, size_t i)
{
    return (i + 1) & (s->n_v - 1);
}

void slots_fini(struct slots *s)
{
    free(s->v);
    free(s->dirty);
    *s = (struct slots){ NULL, 0, 0, NULL, { { 0, 0 } } };
}

size_t slots_parts(const struct slots *s)
{
    return (s->n_v + SLOTS_PART - 1) / SLOTS_PART;
}

void slots_clean(struct slots *s)
{
    if (s->dirty != NULL)
        memset(s->dirty, 0, slots_parts(s));
}

static void soil(struct slots *s, size_t i)
{
    s->dirty[i / SLOTS_PART] = 1;
}

bool slots_init(struct slots *s, size_t n_v, struct err *e)
{
    s->v = calloc(n_v + 1, sizeof *s->v);
    s->dirty = calloc(n_v / SLOTS_PART + 1, 1);
    if (s->v == NULL || s->dirty == NULL) {
        slots_fini(s);
        return err_memory(e);
    }
    s->n_v = n_v;
    return true;
}

static void place(struct slots *s, struct slot slot)
{
    size_t i = slots_home(s, slot.tag);

    while (s->v[i].id != 0)
        i = slots_next(s, i);
    s->v[i] = slot;
    soil(s, i);
}

static bool is_moved(const unsigned char *moved, size_t i)
{
    return moved[i / 8] >> i % 8 & 1;
}

/* Gives every row its place among twice as many, without a second table: a row that stands where
 * another one belongs is moved next. What was moved stays. */
static void spread(struct slots *s, unsigned char *moved)
{
    for (size_t i = 0; i < s->n_v; i++) {
        struct slot in_hand = s->v[i];

        if (in_hand.id == 0 || is_moved(moved, i))
            continue;
        s->v[i].id = 0;
        while (in_hand.id != 0) {
            size_t to = slots_home(s, in_hand.tag);
            struct slot was;

            while (is_moved(moved, to))
                to = slots_next(s, to);
            was = s->v[to];
            s->v[to] = in_hand;
            moved[to / 8] |= (unsigned char)(1 << to % 8);
            in_hand = was;
        }
    }
}

bool slots_make_room(struct slots *s, struct err *e)
{
    size_t n = s->n_v > 0 ? 2 * s->n_v : 1024;
    unsigned char *moved, *dirty;
    struct slot *v;

    if ((s->n + 1) * 4 <= s->n_v * 3)
        return true;
    dirty = realloc(s->dirty, n / SLOTS_PART + 1);
    if (dirty == NULL)
        return err_memory(e);
    s->dirty = dirty;
    v = realloc(s->v, n * sizeof *v); /* of a big one the pages move, not the bytes */
    if (v == NULL)
        return err_memory(e);
    s->v = v;
    memset(v + s->n_v, 0, (n - s->n_v) * sizeof *v);
    if ((moved = calloc(n / 8, 1)) == NULL)
        return err_memory(e);
    s->n_v = n;
    memset(dirty, 1, slots_parts(s));
    spread(s, moved);
    free(moved);
    return true;
}

static void count(struct slots *s, uint64_t hash, int by)
{
    struct bucket *b = &s->buckets[hash >> BUCKET_SHIFT];

    b->count += (uint64_t)by;
    b->xor ^= hash;
    s->n += (size_t)by;
}

void slots_add(struct slots *s, uint64_t hash, int64_t id)
{
    place(s, (struct slot){ (uint32_t)(hash >> 32), (uint32_t)id });
    count(s, hash, 1);
}

void slots_drop(struct slots *s, uint64_t hash, int64_t id)
{
    uint32_t tag = (uint32_t)(hash >> 32);
    size_t i = slots_home(s, tag);

    while (s->v[i].id != (uint32_t)id)
        i = slots_next(s, i);
    s->v[i].id = 0;
    soil(s, i);
    for (size_t j = slots_next(s, i); s->v[j].id != 0; j = slots_next(s, j)) {
        struct slot slot = s->v[j];

        s->v[j].id = 0;
        soil(s, j);
        place(s, slot);
    }
    count(s, hash, -1);
}
