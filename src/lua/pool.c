/* pool.c -- small blocks of memory for one Lua state.
 * SPDX-License-Identifier: MIT */
#include "lua/pool.h"

#include <stdlib.h>

#define SLAB_BYTES ((size_t)64 << 10)

void pool_fini(struct pool *p)
{
    while (p->slabs != NULL) {
        void *slab = p->slabs;

        memcpy(&p->slabs, slab, sizeof p->slabs);
        free(slab);
    }
    *p = (struct pool){ 0 };
}

#ifdef SANITIZED
void *pool_take_new(struct pool *p, size_t size)
{
    (void)p;
    return malloc(size);
}

void *pool_resize(struct pool *p, void *block, size_t old, size_t new)
{
    (void)p, (void)old;
    if (new > 0)
        return realloc(block, new);
    free(block);
    return NULL;
}
#else
/* What is left of the old slab goes to the lists, as the largest blocks that fit. */
static bool add_slab(struct pool *p)
{
    char *slab = malloc(SLAB_BYTES);

    if (slab == NULL)
        return false;
    while (p->end - p->next >= POOL_STEP) {
        size_t left = (size_t)(p->end - p->next);
        size_t class = pool_class(left < POOL_MAX ? left : POOL_MAX);

        memcpy(p->next, &p->free[class], sizeof(void *));
        p->free[class] = p->next;
        p->next += (class + 1) * POOL_STEP;
    }
    memcpy(slab, &p->slabs, sizeof p->slabs);
    p->slabs = slab;
    p->next = slab + POOL_STEP;
    p->end = slab + SLAB_BYTES;
    return true;
}

void *pool_take_new(struct pool *p, size_t size)
{
    size_t bytes = (pool_class(size) + 1) * POOL_STEP;
    void *block;

    if ((size_t)(p->end - p->next) < bytes && !add_slab(p))
        return NULL;
    block = p->next;
    p->next += bytes;
    return block;
}

void *pool_resize(struct pool *p, void *block, size_t old, size_t new)
{
    void *fresh;

    if (block == NULL)
        old = 0;
    if (old > POOL_MAX && new > POOL_MAX)
        return realloc(block, new);
    if (old > 0 && old <= POOL_MAX && new > 0 && new <= POOL_MAX &&
        pool_class(old) == pool_class(new))
        return block;
    fresh = NULL;
    if (new > 0) {
        fresh = new <= POOL_MAX ? pool_take(p, new) : malloc(new);
        if (fresh == NULL)
            return NULL;
        if (old > 0)
            memcpy(fresh, block, old < new ? old : new);
    }
    if (old > POOL_MAX)
        free(block);
    else if (old > 0)
        pool_give_back(p, block, old);
    return fresh;
}
#endif
