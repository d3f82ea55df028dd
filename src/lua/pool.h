/* pool.h -- small blocks of memory for one Lua state.
 *
 * A stream of changes makes many small short-lived objects of a few sizes. Blocks up to POOL_MAX
 * bytes come from slabs, and go back to a list of blocks of their size; larger ones come from
 * malloc. Slabs are freed together with the pool. Not for several threads. Under a sanitizer all
 * blocks come from malloc: what is used after it was freed would not be noticed in a slab.
 *
 * SPDX-License-Identifier: MIT */
#ifndef POOL_H
#define POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define POOL_MAX 512
#define POOL_STEP 16

struct pool {
    void *free[POOL_MAX / POOL_STEP]; /* lists of free blocks, by size */
    char *next, *end;                 /* what is left of the newest slab */
    void *slabs;                      /* all of them, linked by their first word */
};

/* Frees all slabs. A pool of zeros is an empty one. */
void pool_fini(struct pool *p);

/* Takes a block of <size> bytes, 1 to POOL_MAX, from a slab, when the list has none; NULL if there
 * is no memory. */
void *pool_take_new(struct pool *p, size_t size);

/* The index of the list of blocks of <size> bytes. */
static inline size_t pool_class(size_t size)
{
    return (size - 1) / POOL_STEP;
}

/* Takes a block of <size> bytes, 1 to POOL_MAX; NULL if there is no memory. */
static inline void *pool_take(struct pool *p, size_t size)
{
    void **list = &p->free[pool_class(size)], *block = *list;

    if (block == NULL) /* always, under a sanitizer */
        return pool_take_new(p, size);
    memcpy(list, block, sizeof block);
    return block;
}

/* Gives back a block that was taken with the same <size>. */
static inline void pool_give_back(struct pool *p, void *block, size_t size)
{
#ifdef SANITIZED
    (void)p, (void)size;
    free(block);
#else
    void **list = &p->free[pool_class(size)];

    memcpy(block, list, sizeof block);
    *list = block;
#endif
}

/* As realloc: gives a block of <old> bytes (0 and NULL: there is none) <new> bytes (0: frees it).
 * NULL if there is no memory; then the block is as it was. */
void *pool_resize(struct pool *p, void *block, size_t old, size_t new);

#endif
