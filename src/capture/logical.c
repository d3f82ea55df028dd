/* logical.c -- which transactions of the server's log are new.
 * SPDX-License-Identifier: MIT */
#include "capture/logical.h"

#include "base/text.h"

#include <stdlib.h>
#include <string.h>

void logical_fini(struct logical *l)
{
    free(l->slot);
    free(l->shown);
    *l = (struct logical){ 0 };
}

static bool copy_text(char **to, const char *from)
{
    *to = from != NULL ? strdup(from) : NULL;
    return from == NULL || *to != NULL;
}

bool logical_copy(struct logical *to, const struct logical *from)
{
    *to = *from;
    to->shown = NULL;
    if (copy_text(&to->slot, from->slot) && copy_text(&to->shown, from->shown))
        return true;
    logical_fini(to);
    return false;
}

bool logical_begin(struct logical *l, uint64_t lsn, const char *shown, uint64_t until,
                   uint64_t published)
{
    char *copy = strdup(shown);

    if (copy == NULL)
        return false;
    free(l->shown);
    l->shown = copy;
    l->lsn = lsn;
    l->inside = (struct logical_inside){ 0 };
    l->until = until;
    l->published = published;
    return true;
}

void logical_end(struct logical *l)
{
    free(l->shown);
    l->shown = NULL;
    l->lsn = l->until = l->published = 0;
    l->inside = (struct logical_inside){ 0 };
}

/* ---- snapshots ---- */

/* The xids that a snapshot lists, one after the other. False: there are no more. */
static bool next_listed(const char **list, uint64_t *xid)
{
    if (!text_read_u64(list, NULL, xid))
        return false;
    *list += **list == ',';
    return true;
}

static const char *list_of(const struct horizon_snapshot *s)
{
    const char *list = strrchr(s->text, ':');

    return list != NULL ? list + 1 : "";
}

bool logical_shows(const struct horizon_snapshot *s, uint64_t xid)
{
    const char *list = list_of(s);
    uint64_t listed;

    if (xid < s->xmin || xid >= s->xmax)
        return xid < s->xmin;
    while (next_listed(&list, &listed))
        if (listed == xid)
            return false;
    return true;
}

bool logical_shows_all(const struct horizon_snapshot *s, const struct xidset *seen)
{
    const char *list = list_of(s);
    uint64_t xid;

    while (next_listed(&list, &xid))
        if (xidset_has(seen, xid))
            return false;
    return seen->n < LOGICAL_MOST_SEEN && (seen->n == 0 || seen->v[seen->n - 1] < s->xmax);
}

bool logical_contains(const struct horizon_snapshot *p, const struct horizon_snapshot *s0)
{
    const char *list = list_of(p);
    uint64_t xid;

    while (next_listed(&list, &xid))
        if (logical_shows(s0, xid))
            return false;
    for (xid = p->xmax; xid < s0->xmax; xid++)
        if (logical_shows(s0, xid))
            return false;
    return true;
}

uint64_t logical_widen(uint32_t xid, uint64_t near)
{
    uint64_t wide = (near & ~(uint64_t)UINT32_MAX) | xid;

    if (wide > near && wide - near > (uint64_t)1 << 31 && wide > UINT32_MAX)
        wide -= (uint64_t)1 << 32;
    else if (wide < near && near - wide > (uint64_t)1 << 31)
        wide += (uint64_t)1 << 32;
    return wide;
}

/* ---- transactions ---- */

bool logical_is_done(const struct logical *l, uint64_t commit_lsn, uint64_t xid)
{
    struct horizon_snapshot shown;

    if (commit_lsn < l->lsn)
        return true;
    return commit_lsn < l->until && horizon_parse_snapshot(&shown, l->shown) &&
           logical_shows(&shown, xid);
}

bool logical_is_inside(const struct logical_inside *in, uint64_t lsn, uint64_t nth)
{
    return lsn < in->lsn || (lsn == in->lsn && nth <= in->n);
}

void logical_advance(struct logical *l, uint64_t lsn)
{
    if (lsn > l->lsn)
        l->lsn = lsn;
    if (l->lsn > l->inside.commit)
        l->inside = (struct logical_inside){ 0 };
    if (l->lsn < l->until)
        return;
    free(l->shown);
    l->shown = NULL;
    l->until = 0;
}
