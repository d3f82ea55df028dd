/* position.c -- how far a source has come, as it is kept.             floor 2
 * SPDX-License-Identifier: MIT */
#include "position.h"

#include <stdlib.h>
#include <string.h>

void position_fini(struct position *p)
{
    horizon_fini(&p->horizon);
    free(p->signature);
    free(p->leaves);
    free(p->cut_key);
    *p = (struct position){ 0 };
}

bool position_copy(struct position *to, const struct position *from)
{
    *to = *from;
    to->horizon.seen = (struct xidset){ 0 };
    to->signature = from->signature != NULL ? strdup(from->signature) : NULL;
    to->cut_key = from->cut_key != NULL ? strdup(from->cut_key) : NULL;
    to->leaves = malloc((from->n_leaves + 1) * sizeof *to->leaves);
    if (to->leaves != NULL && from->n_leaves > 0)
        memcpy(to->leaves, from->leaves, from->n_leaves * sizeof *to->leaves);
    if (to->leaves != NULL && (from->signature == NULL || to->signature != NULL) &&
        (from->cut_key == NULL || to->cut_key != NULL) &&
        horizon_copy(&to->horizon, &from->horizon))
        return true;
    position_fini(to);
    return false;
}

struct leaf *position_leaf(const struct position *p, uint32_t oid)
{
    for (size_t i = 0; i < p->n_leaves; i++)
        if (p->leaves[i].oid == oid)
            return &p->leaves[i];
    return NULL;
}

bool position_set_leaves(struct position *p, size_t n)
{
    struct leaf *leaves = calloc(n + 1, sizeof *leaves);

    if (leaves == NULL)
        return false;
    free(p->leaves);
    p->leaves = leaves;
    p->n_leaves = n;
    return true;
}

bool position_cut(struct position *p, const struct xidset *delivered, uint64_t xid, const char *key,
                  size_t len)
{
    char *copy = malloc(len + 1);

    if (copy == NULL)
        return false;
    memcpy(copy, key, len);
    copy[len] = '\0';
    for (size_t i = 0; i < delivered->n && delivered->v[i] < xid; i++)
        if (!xidset_add(&p->horizon.seen, delivered->v[i])) {
            free(copy);
            return false;
        }
    free(p->cut_key);
    p->cut_key = copy;
    p->cut_xid = xid;
    return true;
}

void position_uncut(struct position *p)
{
    free(p->cut_key);
    p->cut_key = NULL;
    p->cut_xid = 0;
}

void position_progress(const struct position *p, uint64_t *done, uint64_t *total)
{
    *done = *total = 0;
    for (size_t i = 0; i < p->n_leaves; i++) {
        const struct leaf *leaf = &p->leaves[i];

        *done += leaf->next < leaf->blocks ? leaf->next : leaf->blocks;
        *total += leaf->blocks;
    }
}
