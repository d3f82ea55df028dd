/* delivery.c -- where the delivery of one source is.
 * SPDX-License-Identifier: MIT */
#include "host/delivery.h"

#include <stdlib.h>

void delivery_init(struct delivery *t)
{
    *t = (struct delivery){ 0 };
    buf_init(&t->last.keys, SIZE_MAX / 2);
}

void delivery_fini(struct delivery *t)
{
    position_fini(&t->position);
    xidset_fini(&t->delivered);
    buf_fini(&t->last.keys);
    diff_close(t->diff);
    chunk_free(t->gone);
    while (!queue_list_is_empty(&t->parked))
        message_free(message_of(queue_list_take(&t->parked)));
}

void delivery_adopt(struct delivery *t, struct chunk *c)
{
    position_fini(&t->position);
    t->position = *c->position;
    free(c->position);
    c->position = NULL;
    t->is_known = t->is_unsaved = true;
    t->position.is_learned = false;
    if (t->diff != NULL)
        diff_mark(t->diff, &t->position, diff_last(t->diff));
    t->has_gone = t->last.is_gone = false;
    xidset_fini(&t->delivered);
    t->count = 0;
    t->last.is_known = false;
    buf_clear(&t->last.keys);
}

bool delivery_delivered(struct delivery *t, const struct chunk *c, size_t from, size_t done)
{
    uint64_t last = 0;

    t->count += done - from;
    if (!c->is_ordered)
        return true;
    for (size_t i = from; i < done; i++)
        if (c->rows[i].xid != last && !xidset_add(&t->delivered, last = c->rows[i].xid))
            return false;
    return true;
}

bool delivery_note_last(struct delivery *t, const struct chunk *c, size_t from, size_t done)
{
    struct buf *keys = &t->last.keys;

    if (done == from && t->last.is_gone)
        return true;
    t->last.is_gone = false;
    t->last.is_known = t->is_known && (c->is_snapshot || c->is_ordered);
    t->last.is_snapshot = c->is_snapshot;
    t->last.is_recheck = c->is_recheck;
    if (!t->last.is_known || done == from)
        return true;
    t->last.xid = c->rows[done - 1].xid;
    t->last.is_tombstone = c->rows[done - 1].is_key_only;
    t->last.leaf = c->leaf;
    t->last.end = c->end;
    t->last.seq = c->sides != NULL ? c->sides[done - 1].seq : 0;
    if (!c->is_snapshot)
        buf_clear(keys);
    for (size_t i = c->is_snapshot ? from : done - 1; i < done; i++) {
        if (!chunk_row_key(c, &c->rows[i], keys))
            return false;
        if (c->is_snapshot)
            buf_putc(keys, '\n');
    }
    return buf_ok(keys);
}

void delivery_gone(struct delivery *t, const struct chunk *c, size_t from, size_t done)
{
    t->count += done - from;
    if (done == from || (t->last.is_known && !t->last.is_gone))
        return;
    t->last.is_known = t->is_known;
    t->last.is_gone = true;
    t->last.seq = c->sides[done - 1].seq;
}

void delivery_name_failure(const char *source, const struct chunk *c, size_t i, struct err *e)
{
    struct buf key;

    buf_init(&key, 200);
    if (i < c->n_rows && chunk_row_key(c, &c->rows[i], &key)) {
        for (char *p = key.data; *p != '\0'; p++)
            if (*p == '\t')
                *p = ',';
        err_prefix(e, "source %s, key %s", source, key.data);
    } else {
        err_prefix(e, "source %s", source);
    }
    buf_fini(&key);
}

bool delivery_cut(const struct delivery *t, struct position *p)
{
    const struct buf *keys = &t->last.keys;

    if (t->diff != NULL && t->last.seq > 0)
        diff_mark(t->diff, p, t->last.seq);
    if (t->last.is_gone)
        return true;
    if (t->last.is_snapshot)
        return position_add_done(p, t->last.leaf, t->last.end, keys->data, keys->len);
    return position_end_early(p, &t->delivered,
                              &(struct position_last){ .xid = t->last.xid,
                                                       .is_tombstone = t->last.is_tombstone,
                                                       .is_recheck = t->last.is_recheck,
                                                       .key = keys->data,
                                                       .len = keys->len });
}

bool delivery_restart(struct delivery *t)
{
    bool ok = !t->last.is_known || delivery_cut(t, &t->position);

    t->last.is_known = t->last.is_gone = false;
    xidset_fini(&t->delivered);
    return ok;
}

bool delivery_write(const struct delivery *t, const char *source, char **text, bool *is_known)
{
    bool is_cut = t->count > 0;
    struct position p = { 0 };
    struct buf b;
    bool ok = true;

    *text = NULL;
    *is_known = !is_cut || t->last.is_known;
    if (!*is_known || (!is_cut && !t->is_unsaved))
        return true;
    buf_init(&b, SIZE_MAX / 2);
    if (is_cut)
        ok = position_copy(&p, &t->position) && delivery_cut(t, &p);
    if (ok)
        position_text_write(is_cut ? &p : &t->position, source, &b);
    position_fini(&p);
    *text = ok ? buf_take(&b) : NULL;
    buf_fini(&b);
    return *text != NULL;
}
