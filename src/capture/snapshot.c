/* snapshot.c -- the first read of a table, in ranges of blocks.
 * SPDX-License-Identifier: MIT */
#include "capture/snapshot.h"

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

static uint32_t range_length(const struct position_leaf *leaf)
{
    uint32_t left = leaf->blocks - leaf->next;
    uint32_t half = (leaf->next < left ? leaf->next : left) / 2;

    half = half < FIRST_BLOCKS ? FIRST_BLOCKS : half > RANGE_BLOCKS ? RANGE_BLOCKS : half;
    return half < left ? half : left;
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
        r->end = leaf->next + range_length(leaf);
        buf_init(&r->key, SIZE_MAX / 2);
        return p->done.keys == NULL || p->done.leaf != leaf->oid ||
               key_multiset_init(&r->done, p->done.keys) || err_memory(e);
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
