/* reread.c -- rows that are read again because a user wants them again, while polls go on.
 * SPDX-License-Identifier: MIT */
#include "capture/reread.h"

#include "base/array.h"

#include <stdlib.h>
#include <string.h>

void reread_fini(struct reread *r)
{
    free(r->where);
    free(r->leaves);
    *r = (struct reread){ 0 };
}

bool reread_copy(struct reread *to, const struct reread *from)
{
    bool ok = true;

    *to = *from;
    to->where = from->where != NULL ? strdup(from->where) : NULL;
    to->leaves = array_copy(from->leaves, from->n_leaves, sizeof *from->leaves, &ok);
    to->cap_leaves = from->n_leaves;
    if (ok && (from->where == NULL || to->where != NULL))
        return true;
    reread_fini(to);
    return false;
}

bool reread_is_due(const struct reread *r)
{
    return r->where != NULL;
}

void reread_progress(const struct reread *r, uint64_t *done, uint64_t *total)
{
    *done = *total = 0;
    for (size_t i = 0; i < r->n_leaves; i++) {
        *done += r->leaves[i].next;
        *total += r->leaves[i].blocks;
    }
}
