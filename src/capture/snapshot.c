/* snapshot.c -- the first read of a table, in ranges of blocks.
 * SPDX-License-Identifier: MIT */
#include "capture/snapshot.h"

#include "base/array.h"

#include <stdio.h>

#define RANGE_BLOCKS 1024 /* 8 MB of table at a time, */
#define FIRST_BLOCKS 64   /* but little at first and at last, when only one side is at work */

void snapshot_range_fini(struct snapshot_range *r)
{
    key_multiset_fini(&r->done);
    buf_fini(&r->key);
    *r = (struct snapshot_range){ 0 };
}

/* VACUUM FULL and CLUSTER move rows to other blocks with their old xids. */
static bool has_moved(const struct position_leaf *leaf, const struct relation_leaf *now)
{
    return now != NULL && now->filenode != leaf->filenode;
}

bool snapshot_has_moved(const struct source *s)
{
    const struct position *p = &s->position;

    for (size_t i = 0; p->phase == POSITION_SNAPSHOT && i < p->n_leaves; i++)
        if (has_moved(&p->leaves[i], relation_leaf(&s->facts.table, p->leaves[i].oid)))
            return true;
    return false;
}

/* A leaf that is not there any more is forgotten: should it come back, it is a new one. */
static void forget_lost_leaves(struct source *s)
{
    struct position *p = &s->position;
    size_t n = 0;

    for (size_t i = 0; i < p->n_leaves; i++)
        if (relation_leaf(&s->facts.table, p->leaves[i].oid) != NULL)
            p->leaves[n++] = p->leaves[i];
    p->n_leaves = n;
}

static bool check_leaves(struct source *s, struct err *e)
{
    struct position *p = &s->position;

    forget_lost_leaves(s);
    for (size_t i = 0; i < p->n_leaves; i++) {
        struct position_leaf *leaf = &p->leaves[i];
        const struct relation_leaf *now = relation_leaf(&s->facts.table, leaf->oid);
        char text[256];

        if (!has_moved(leaf, now))
            continue;
        snprintf(text, sizeof text, "%.100s was rewritten while it was read: it is read again "
                 "from its start", now->name);
        if (p->done.leaf == leaf->oid)
            position_forget_done(p);
        if (leaf->next > 0 && !source_add_notice(s, LOG_WARN, text, e))
            return false;
        *leaf = (struct position_leaf){ .oid = now->oid, .filenode = now->filenode,
                                        .blocks = now->blocks };
    }
    return true;
}

/* How long the next range is, of so many blocks, those before <next> being done. */
static uint32_t range_length(uint32_t blocks, uint32_t next)
{
    uint32_t left = blocks - next;
    uint32_t half = (next < left ? next : left) / 2;

    half = half < FIRST_BLOCKS ? FIRST_BLOCKS : half > RANGE_BLOCKS ? RANGE_BLOCKS : half;
    return half < left ? half : left;
}

/* The range in hand may have been left half done. */
static bool begin_marks(struct snapshot_range *r, const struct position *p, struct err *e)
{
    buf_init(&r->key, SIZE_MAX / 2);
    return p->done.keys == NULL || p->done.leaf != r->leaf ||
           key_multiset_init(&r->done, p->done.keys) || err_memory(e);
}

bool snapshot_begin(struct source *s, struct snapshot_range *r, struct err *e)
{
    const struct position *p = &s->position;

    if (!check_leaves(s, e))
        return false;
    for (size_t i = 0; i < p->n_leaves; i++) {
        const struct position_leaf *leaf = &p->leaves[i];

        if (leaf->next >= leaf->blocks)
            continue;
        r->leaf = leaf->oid;
        r->block = leaf->next;
        r->end = leaf->next + range_length(leaf->blocks, leaf->next);
        return begin_marks(r, p, e);
    }
    return true;
}

bool snapshot_has_delivered(struct snapshot_range *r, const struct rowtype *rowtype,
                            const struct chunk_place *place, const char *fields, size_t len)
{
    if (r->done.n == 0)
        return false;
    buf_clear(&r->key);
    if (rowtype->has_place && (!chunk_put_place(place, &r->key) ||
                               key_multiset_take(&r->done, r->key.data, r->key.len)))
        return buf_ok(&r->key);
    buf_clear(&r->key); /* an older version of the program kept keys */
    return rowtype_put_key(rowtype, fields, len, &r->key) &&
           key_multiset_take(&r->done, r->key.data, r->key.len);
}

bool snapshot_advance(struct position *p, const struct snapshot_range *r)
{
    struct position_leaf *leaf = r->end > 0 ? position_leaf(p, r->leaf) : NULL;

    if (leaf != NULL) {
        leaf->next = r->end;
        if (p->done.leaf == leaf->oid && p->done.end <= leaf->next)
            position_forget_done(p);
    }
    for (size_t i = 0; i < p->n_leaves; i++)
        if (p->leaves[i].next < p->leaves[i].blocks)
            return false;
    return true;
}

/* ---- what is read again ---- */

bool snapshot_wants_sizes(const struct reread *r)
{
    return reread_is_due(r) && !r->has_begun;
}

static bool begin_leaves(struct source *s, struct reread *r, struct err *e)
{
    const struct relation *t = &s->facts.table;

    r->n_leaves = 0;
    for (size_t i = 0; i < t->n_leaves; i++)
        if (!ARRAY_PUSH(r->leaves, r->n_leaves, r->cap_leaves,
                        ((struct reread_leaf){ .oid = t->leaves[i].oid,
                                               .filenode = t->leaves[i].filenode,
                                               .blocks = t->leaves[i].blocks })))
            return err_memory(e);
    r->has_begun = true;
    return true;
}

bool snapshot_begin_again(struct source *s, struct snapshot_range *range, struct err *e)
{
    struct reread *r = &s->position.reread;

    if (!r->has_begun) {
        position_forget_done(&s->position);
        return begin_leaves(s, r, e);
    }
    for (size_t i = 0; i < r->n_leaves; i++) {
        struct reread_leaf *leaf = &r->leaves[i];
        const struct relation_leaf *now = relation_leaf(&s->facts.table, leaf->oid);

        if (now == NULL)
            leaf->next = leaf->blocks; /* it was dropped, or detached */
        if (leaf->next >= leaf->blocks)
            continue;
        if (now->filenode != leaf->filenode) {
            r->has_begun = false;
            return source_add_notice(s, LOG_WARN, "the table was rewritten while it was read "
                                     "again: that begins anew", e);
        }
        range->leaf = leaf->oid;
        range->block = leaf->next;
        range->end = leaf->next + range_length(leaf->blocks, leaf->next);
        return begin_marks(range, &s->position, e);
    }
    return true;
}

bool snapshot_advance_again(struct position *p, const struct snapshot_range *range)
{
    struct reread *r = &p->reread;

    for (size_t i = 0; range->end > 0 && i < r->n_leaves; i++)
        if (r->leaves[i].oid == range->leaf)
            r->leaves[i].next = range->end;
    if (range->end > 0)
        position_forget_done(p);
    for (size_t i = 0; i < r->n_leaves; i++)
        if (r->leaves[i].next < r->leaves[i].blocks)
            return false;
    return r->has_begun;
}
