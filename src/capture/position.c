/* position.c -- how far a source has come, as it is kept.
 * SPDX-License-Identifier: MIT */
#include "capture/position.h"

#include "base/array.h"

#include <stdlib.h>
#include <string.h>

void position_fini(struct position *p)
{
    horizon_fini(&p->horizon);
    increment_fini(&p->increment);
    pages_fini(&p->pages);
    logical_fini(&p->logical);
    reread_fini(&p->reread);
    free(p->signature);
    free(p->columns);
    free(p->declared);
    free(p->fed);
    free(p->leaves);
    position_forget_resume_points(p);
    position_forget_done(p);
    *p = (struct position){ 0 };
}

static bool copy_resume_points(struct position *to, const struct position *from)
{
    for (size_t i = 0; i < from->n_resume_points; i++) {
        const struct position_resume_point *point = &from->resume_points[i];
        const struct position_last last = {
            .xid = point->xid,
            .is_tombstone = point->is_tombstone,
            .order = point->order,
            .key = point->key,
            .len = point->key != NULL ? strlen(point->key) : 0,
            .fingerprint = point->fingerprint,
            .n = point->n,
            .scope = point->scope,
        };

        if (!position_add_resume_point(to, &last))
            return false;
    }
    return true;
}

bool position_copy(struct position *to, const struct position *from)
{
    bool ok = true;

    *to = *from;
    to->horizon.seen = (struct xidset){ 0 };
    to->increment = (struct increment){ 0 };
    to->pages = (struct pages){ 0 };
    to->logical = (struct logical){ 0 };
    to->reread = (struct reread){ 0 };
    to->signature = from->signature != NULL ? strdup(from->signature) : NULL;
    to->columns = from->columns != NULL ? strdup(from->columns) : NULL;
    to->declared = from->declared != NULL ? strdup(from->declared) : NULL;
    to->fed = from->fed != NULL ? strdup(from->fed) : NULL;
    to->resume_points = NULL;
    to->n_resume_points = to->cap_resume_points = 0;
    to->done.keys = from->done.keys != NULL ? strdup(from->done.keys) : NULL;
    to->leaves = array_copy(from->leaves, from->n_leaves, sizeof *from->leaves, &ok);
    to->cap_leaves = from->n_leaves;
    if (ok && (from->signature == NULL || to->signature != NULL) &&
        (from->columns == NULL || to->columns != NULL) &&
        (from->declared == NULL || to->declared != NULL) &&
        (from->fed == NULL || to->fed != NULL) &&
        (from->done.keys == NULL || to->done.keys != NULL) &&
        copy_resume_points(to, from) && horizon_copy(&to->horizon, &from->horizon) &&
        increment_copy(&to->increment, &from->increment) &&
        pages_copy(&to->pages, &from->pages) && logical_copy(&to->logical, &from->logical) &&
        reread_copy(&to->reread, &from->reread))
        return true;
    position_fini(to);
    return false;
}

struct horizon position_scan_horizon(const struct position *p)
{
    return p->increment.column != NULL ? (struct horizon){ .floor = p->increment.since }
                                       : p->horizon;
}

struct position_leaf *position_leaf(const struct position *p, uint32_t oid)
{
    for (size_t i = 0; i < p->n_leaves; i++)
        if (p->leaves[i].oid == oid)
            return &p->leaves[i];
    return NULL;
}

bool position_owes_tombstones(const struct position *p)
{
    return p->stamps.is_used && p->stamps.tombstone_floor < p->horizon.floor;
}

bool position_set_leaves(struct position *p, size_t n)
{
    struct position_leaf *leaves = calloc(n + 1, sizeof *leaves);

    if (leaves == NULL)
        return false;
    free(p->leaves);
    p->leaves = leaves;
    p->n_leaves = n;
    p->cap_leaves = n + 1;
    return true;
}

bool position_add_resume_point(struct position *p, const struct position_last *last)
{
    bool has_key = last->order != ROW_ORDER_BY_FINGERPRINT;
    struct position_resume_point point = {
        .xid = last->xid,
        .is_tombstone = last->is_tombstone,
        .order = last->order,
        .key = has_key ? strndup(last->key, last->len) : NULL,
        .fingerprint = last->fingerprint,
        .n = last->n,
        .scope = last->scope,
    };

    if (has_key && point.key == NULL)
        return false;
    if (ARRAY_PUSH(p->resume_points, p->n_resume_points, p->cap_resume_points, point))
        return true;
    free(point.key);
    return false;
}

void position_forget_resume_points(struct position *p)
{
    for (size_t i = 0; i < p->n_resume_points; i++)
        free(p->resume_points[i].key);
    free(p->resume_points);
    p->resume_points = NULL;
    p->n_resume_points = p->cap_resume_points = 0;
}

/* Makes <xid> seen: all of its rows were delivered, or those of a window. */
static bool see(struct position *p, uint64_t xid)
{
    struct increment *i = &p->increment;
    int64_t base = i->is_rechecking ? INCREMENT_LOWEST : i->base;

    return xidset_add(&p->horizon.seen, xid) &&
           (i->column == NULL || increment_add_first(&i->firsts, xid, base, INCREMENT_LOWEST));
}

void position_forget_other_scopes(struct position *p, uint64_t scope, size_t *n)
{
    size_t kept = 0;

    for (size_t i = 0; i < p->n_resume_points; i++)
        if (p->resume_points[i].order != ROW_ORDER_BY_FINGERPRINT ||
            p->resume_points[i].scope == scope)
            p->resume_points[kept++] = p->resume_points[i]; /* those left out own no memory */
    *n = p->n_resume_points - kept;
    p->n_resume_points = kept;
}

/* Drops the resume points up to <xid>; the xids of those below it are seen from now on. Of <xid>
 * itself those of another order stay: together with the new one they tell what was delivered. */
static bool close_resume_points(struct position *p, uint64_t xid, enum row_order order)
{
    size_t n = 0;

    for (size_t i = 0; i < p->n_resume_points; i++)
        if (p->resume_points[i].xid < xid && !see(p, p->resume_points[i].xid))
            return false;
    for (size_t i = 0; i < p->n_resume_points; i++) {
        if (p->resume_points[i].xid > xid ||
            (p->resume_points[i].xid == xid && p->resume_points[i].order != order))
            p->resume_points[n++] = p->resume_points[i];
        else
            free(p->resume_points[i].key);
    }
    p->n_resume_points = n;
    return true;
}

bool position_end_early(struct position *p, const struct xidset *delivered,
                        const struct position_last *last)
{
    p->increment.is_rechecking = last->is_recheck;
    for (size_t i = 0; i < delivered->n && delivered->v[i] < last->xid; i++)
        if (!see(p, delivered->v[i]))
            return false;
    return close_resume_points(p, last->xid, last->order) && position_add_resume_point(p, last);
}

bool position_resumes_window(const struct position *p)
{
    const struct increment *i = &p->increment;

    return p->n_resume_points > 0 && i->column != NULL && !i->is_rechecking &&
           i->base != INCREMENT_LOWEST;
}

bool position_take_resume_points(struct position *p, struct xidset *delivered)
{
    for (size_t i = 0; i < p->n_resume_points; i++)
        if (!xidset_add(delivered, p->resume_points[i].xid))
            return false;
    position_forget_resume_points(p);
    return true;
}

bool position_add_done(struct position *p, uint32_t leaf, uint32_t end, const char *keys,
                       size_t len)
{
    struct position_done *d = &p->done;
    size_t old;
    char *all;

    if (d->keys != NULL && (d->leaf != leaf || d->end < end))
        position_forget_done(p);
    old = d->keys != NULL ? strlen(d->keys) : 0;
    all = realloc(d->keys, old + len + 1);
    if (all == NULL)
        return false;
    memcpy(all + old, keys, len);
    all[old + len] = '\0';
    *d = (struct position_done){ leaf, old > 0 ? d->end : end, all };
    return true;
}

void position_forget_done(struct position *p)
{
    free(p->done.keys);
    p->done = (struct position_done){ 0 };
}

void position_progress(const struct position *p, uint64_t *done, uint64_t *total)
{
    *done = *total = 0;
    for (size_t i = 0; i < p->n_leaves; i++) {
        const struct position_leaf *leaf = &p->leaves[i];

        *done += leaf->next < leaf->blocks ? leaf->next : leaf->blocks;
        *total += leaf->blocks;
    }
}
