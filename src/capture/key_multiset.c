/* key_multiset.c -- a multiset of keys: each is matched as often as it was added.
 * SPDX-License-Identifier: MIT */
#include "capture/key_multiset.h"

#include "base/array.h"

#include <stdlib.h>
#include <string.h>

struct key_multiset_entry {
    const char *p;
    size_t len;
    bool is_taken;
};

static int compare(const void *a, const void *b)
{
    const struct key_multiset_entry *x = a, *y = b;

    if (x->len != y->len)
        return x->len < y->len ? -1 : 1;
    return memcmp(x->p, y->p, x->len);
}

bool key_multiset_init(struct key_multiset *k, const char *text)
{
    size_t n = 0;

    for (const char *p = text; (p = strchr(p, '\n')) != NULL; p++)
        n++;
    *k = (struct key_multiset){ 0 };
    k->v = calloc(n + 1, sizeof *k->v);
    if (k->v == NULL)
        return false;
    for (const char *p = text, *end; (end = strchr(p, '\n')) != NULL; p = end + 1)
        k->v[k->n++] = (struct key_multiset_entry){ p, (size_t)(end - p), false };
    qsort(k->v, k->n, sizeof *k->v, compare);
    return true;
}

void key_multiset_fini(struct key_multiset *k)
{
    free(k->v);
    *k = (struct key_multiset){ 0 };
}

bool key_multiset_take(struct key_multiset *k, const char *key, size_t len)
{
    struct key_multiset_entry wanted = { key, len, false };
    size_t i;

    ARRAY_LOWER_BOUND(i, k->n, compare(&k->v[i], &wanted) < 0);
    for (; i < k->n && compare(&k->v[i], &wanted) == 0; i++)
        if (!k->v[i].is_taken) {
            k->v[i].is_taken = true;
            return true;
        }
    return false;
}
