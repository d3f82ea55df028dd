/* log_leaves.c -- partitions that join a table whose changes come by the log.
 * SPDX-License-Identifier: MIT */
#include "capture/log_leaves.h"

#include "base/array.h"
#include "base/hash.h"
#include "base/text.h"
#include "pg/lsn.h"

#include <stdlib.h>

void log_leaves_fini(struct log_leaves *l)
{
    free(l->v);
    *l = (struct log_leaves){ 0 };
}

/* A number, and a blank unless the text ends. */
static bool read_number(const char **p, uint64_t *v)
{
    if (!text_read_u64(p, NULL, v) || (**p != ' ' && **p != '\0'))
        return false;
    *p += **p == ' ';
    return true;
}

bool log_leaves_read(struct log_leaves *l, const char *text, uint64_t lsn, struct err *e)
{
    const char *p = text != NULL ? text : "";
    uint64_t oid, attached, has_rows;

    l->n = 0;
    l->tree = HASH_START;
    l->before = l->lsn;
    l->lsn = lsn;
    while (*p != '\0') {
        if (!read_number(&p, &oid) || oid > UINT32_MAX || !read_number(&p, &attached) ||
            !read_number(&p, &has_rows) || has_rows > 1)
            return err_set(e, ERR_ANSWER, "the server's list of partitions cannot be read");
        if (!ARRAY_PUSH(l->v, l->n, l->cap,
                        ((struct log_leaves_item){ (uint32_t)oid, attached, has_rows != 0 })))
            return err_memory(e);
        l->tree = hash_add(hash_add(l->tree, oid), attached);
    }
    return true;
}

static const struct log_leaves_item *find(const struct log_leaves *l, uint32_t oid)
{
    for (size_t i = 0; i < l->n; i++)
        if (l->v[i].oid == oid)
            return &l->v[i];
    return NULL;
}

static bool is_new(const struct log_leaves_item *leaf, const struct position *p)
{
    const struct position_leaf *known = position_leaf(p, leaf->oid);

    return known == NULL ? leaf->has_rows
                         : known->attached != 0 && known->attached != leaf->attached;
}

bool log_leaves_is_new(const struct log_leaves *l, const struct position *p, uint32_t oid)
{
    const struct log_leaves_item *leaf = find(l, oid);

    return leaf != NULL && is_new(leaf, p);
}

bool log_leaves_has_new(const struct log_leaves *l, const struct position *p)
{
    for (size_t i = 0; i < l->n; i++)
        if (is_new(&l->v[i], p))
            return true;
    return false;
}

bool log_leaves_is_past(const struct log_leaves *l, uint64_t lsn)
{
    return lsn < l->before;
}

bool log_leaves_are_due(struct log_leaves *l, const struct position *p, bool *is_sure)
{
    bool was_due = l->due_lsn != 0 && l->due_tree == l->tree;

    *is_sure = false;
    if (!log_leaves_has_new(l, p)) {
        l->due_lsn = l->met_lsn = 0;
        l->doubt = NULL;
        return false;
    }
    if (!was_due) {
        l->due_lsn = l->lsn;
        l->due_tree = l->tree;
    }
    if (l->met_lsn != 0) {
        *is_sure = was_due && l->met_lsn >= l->due_lsn;
        return true;
    }
    *is_sure = was_due && lsn_reaches(p->logical.lsn, l->due_lsn);
    return *is_sure;
}

bool log_leaves_know(const struct log_leaves *l, struct position *p, uint32_t oid)
{
    const struct log_leaves_item *leaf = find(l, oid);

    if (leaf == NULL || position_leaf(p, oid) != NULL)
        return true;
    return ARRAY_PUSH(p->leaves, p->n_leaves, p->cap_leaves,
                      ((struct position_leaf){ .oid = oid, .attached = leaf->attached }));
}

void log_leaves_know_all(struct log_leaves *l, struct position *p)
{
    for (size_t i = 0; i < p->n_leaves; i++) {
        const struct log_leaves_item *leaf = find(l, p->leaves[i].oid);

        p->leaves[i].attached = leaf != NULL ? leaf->attached : 0;
    }
    l->due_lsn = l->met_lsn = 0;
    l->is_stale = false;
    l->doubt = NULL;
}
