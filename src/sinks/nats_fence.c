/* nats_fence.c -- which message is to be the last one before ours. See nats_fence.h.
 * SPDX-License-Identifier: MIT */
#include "sinks/nats_fence.h"

#include <stdlib.h>
#include <string.h>

void nats_fence_set(struct nats_fence *f, uint64_t last, uint64_t origin, uint64_t own)
{
    f->last = last;
    f->origin = origin;
    f->own = own;
    f->id_len = 0;
}

void nats_fence_fini(struct nats_fence *f)
{
    free(f->id);
    *f = (struct nats_fence){ .id = NULL };
}

static bool is_too_large(const struct nats_item *i, const struct nats_item_message *m)
{
    return i != NULL && i->size > m->most;
}

struct nats_item *nats_fence_item(const struct nats_fence *f, const struct nats_item_message *m,
                                  bool is_alone, bool *is_early)
{
    bool is_own = f->last > 0 && (f->last < f->own || m->id == NULL);
    struct nats_item_marks marks = { .last = f->last, .origin = f->origin,
                                     .id = is_own ? NATS_ITEM_OWN : NATS_ITEM_PLAIN };
    struct nats_item *i;

    *is_early = f->last > 0 && !is_alone && f->id_len == 0;
    if (*is_early)
        return NULL;
    if (f->last > 0 && !is_alone) {
        marks.last_id = f->id;
        marks.last_id_len = f->id_len;
    }
    i = nats_item_new(m, &marks);
    if (!is_too_large(i, m) || f->last == 0 || (is_alone && !is_own))
        return i;
    free(i);
    *is_early = !is_alone;
    marks.id = is_own ? NATS_ITEM_NONE : NATS_ITEM_PLAIN;
    return *is_early ? NULL : nats_item_new(m, &marks);
}

void nats_fence_pass(struct nats_fence *f, const struct nats_item *i)
{
    size_t len = i->id != NULL ? strlen(i->id) : 0;

    if (f->last == 0)
        return;
    f->last++;
    if (len > f->size) {
        char *id = realloc(f->id, len);

        len = id != NULL ? len : 0; /* then the next one waits */
        f->id = id != NULL ? id : f->id;
        f->size = id != NULL ? len : f->size;
    }
    if (len > 0)
        memcpy(f->id, i->id, len);
    f->id_len = len;
}
