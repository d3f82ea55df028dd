/* slots.c -- an index from hashes to numbers of rows.                 floor 3
 *
 * A row that is gone leaves no gap: what follows it moves up.
 *
 * SPDX-License-Identifier: MIT */
#include "slots.h"

#include <stdlib.h>

size_t slots_home(const struct slots *s, uint32_t tag)
{
    return (tag * 0x9e3779b1u >> 3) & (s->n_v - 1);
}

size_t slots_next(const struct slots *s, size_t i)
{
    return (i + 1) & (s->n_v - 1);
}

static void place(struct slots *s, struct slot slot)
{
    size_t i = slots_home(s, slot.tag);

    while (s->v[i].id != 0)
        i = slots_next(s, i);
    s->v[i] = slot;
}

/* Room for one more. */
bool slots_make_room(struct slots *s, struct err *e)
{
    struct slot *old = s->v;
    size_t n_old = s->n_v;

    if ((s->n + 1) * 4 <= n_old * 3)
        return true;
    s->v = calloc(n_old > 0 ? 2 * n_old : 1024, sizeof *s->v);
    if (s->v == NULL) {
        s->v = old;
        return err_memory(e);
    }
    s->n_v = n_old > 0 ? 2 * n_old : 1024;
    for (size_t i = 0; i < n_old; i++)
        if (old[i].id != 0)
            place(s, old[i]);
    free(old);
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
    for (size_t j = slots_next(s, i); s->v[j].id != 0; j = slots_next(s, j)) {
        struct slot slot = s->v[j];

        s->v[j].id = 0;
        place(s, slot);
    }
    count(s, hash, -1);
}
