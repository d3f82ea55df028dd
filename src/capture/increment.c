/* increment.c -- the rule for a column that grows: what was delivered.
 * SPDX-License-Identifier: MIT */
#include "capture/increment.h"

#include "base/array.h"

#include <stdlib.h>
#include <string.h>

#define RUNGS_MAX 256

void increment_fini_firsts(struct increment_firsts *f)
{
    free(f->v);
    *f = (struct increment_firsts){ 0 };
}

/* The index of the first entry with an xid >= <xid>. */
static size_t lower_bound(const struct increment_firsts *f, uint64_t xid)
{
    size_t i;

    ARRAY_LOWER_BOUND(i, f->n, f->v[i].xid < xid);
    return i;
}

static const struct increment_first *find(const struct increment_firsts *f, uint64_t xid)
{
    size_t i = lower_bound(f, xid);

    return i < f->n && f->v[i].xid == xid ? &f->v[i] : NULL;
}

bool increment_add_first(struct increment_firsts *f, uint64_t xid, int64_t base, int64_t least)
{
    size_t i = f->n > 0 && f->v[f->n - 1].xid < xid ? f->n : lower_bound(f, xid);

    if (i < f->n && f->v[i].xid == xid) {
        f->v[i].base = base < f->v[i].base ? base : f->v[i].base;
        f->v[i].least = least < f->v[i].least ? least : f->v[i].least;
        return true;
    }
    return ARRAY_INSERT(f->v, f->n, f->cap, i, (struct increment_first){ xid, base, least });
}

void increment_fini(struct increment *i)
{
    free(i->column);
    increment_fini_firsts(&i->firsts);
    free(i->stretches);
    free(i->rungs);
    *i = (struct increment){ 0 };
}

bool increment_copy(struct increment *to, const struct increment *from)
{
    bool ok;

    *to = *from;
    to->column = from->column != NULL ? strdup(from->column) : NULL;
    ok = (from->column == NULL) == (to->column == NULL);
    to->firsts.v = array_copy(from->firsts.v, from->firsts.n, sizeof *from->firsts.v, &ok);
    to->firsts.cap = from->firsts.n;
    to->stretches = array_copy(from->stretches, from->n_stretches, sizeof *from->stretches, &ok);
    to->cap_stretches = from->n_stretches;
    to->rungs = array_copy(from->rungs, from->n_rungs, sizeof *from->rungs, &ok);
    to->cap_rungs = from->n_rungs;
    if (!ok)
        increment_fini(to);
    return ok;
}

bool increment_add_stretch(struct increment *i, uint64_t below, int64_t base)
{
    return ARRAY_PUSH(i->stretches, i->n_stretches, i->cap_stretches,
                      (struct increment_stretch){ below, base });
}

bool increment_add_rung(struct increment *i, uint64_t xmax, int64_t top)
{
    return ARRAY_PUSH(i->rungs, i->n_rungs, i->cap_rungs,
                      (struct increment_rung){ xmax, top });
}

/* The base of the first window at which <xid>, below the floor, was over. */
static const struct increment_stretch *stretch_of(const struct increment *i, uint64_t xid)
{
    size_t at;

    ARRAY_LOWER_BOUND(at, i->n_stretches, i->stretches[at].below <= xid);
    return at < i->n_stretches ? &i->stretches[at] : NULL;
}

static bool reaches(const int64_t *value, int64_t base)
{
    return base == INCREMENT_LOWEST || (value != NULL && *value >= base);
}

bool increment_escaped(const struct increment *i, const struct horizon *h, uint64_t xid,
                       const int64_t *value)
{
    const struct increment_first *first = find(&i->firsts, xid);
    const struct increment_stretch *stretch = stretch_of(i, xid);

    if (xid < i->since)
        return false;
    if (first != NULL)
        return !reaches(value, first->base);
    if (xid >= h->floor)
        return horizon_is_new(h, xid);
    return stretch == NULL || !reaches(value, stretch->base);
}

/* The floor has passed xids: a stretch tells their base from now on, and their own entries are
 * dropped if they say the same. */
static bool keep_stretch(struct increment *i, uint64_t floor)
{
    struct increment_firsts *f = &i->firsts;
    size_t n = 0;

    if (i->n_stretches > 0 && i->stretches[i->n_stretches - 1].base == i->base) {
        if (i->stretches[i->n_stretches - 1].below < floor)
            i->stretches[i->n_stretches - 1].below = floor;
    } else if (floor > (i->n_stretches > 0 ? i->stretches[i->n_stretches - 1].below : i->since)) {
        if (!increment_add_stretch(i, floor, i->base))
            return false;
    }
    for (size_t k = 0; k < f->n; k++)
        if (f->v[k].xid >= floor || (f->v[k].base != i->base && f->v[k].least < i->base))
            f->v[n++] = f->v[k];
    f->n = n;
    return true;
}

/* A recheck is complete: all that was visible has been delivered, also of the seen xids above the
 * floor. */
static bool begin_anew(struct increment *i, const struct horizon *h)
{
    i->since = h->floor;
    i->n_stretches = i->firsts.n = 0;
    i->is_rechecking = false;
    for (size_t k = 0; k < h->seen.n; k++)
        if (!increment_add_first(&i->firsts, h->seen.v[k], INCREMENT_LOWEST, INCREMENT_LOWEST))
            return false;
    return true;
}

/* No recheck will ask for what is below the floor. */
static void forget_below(struct increment *i, uint64_t floor)
{
    size_t n = 0;

    i->since = floor;
    i->n_stretches = 0;
    for (size_t k = 0; k < i->firsts.n; k++)
        if (i->firsts.v[k].xid >= floor)
            i->firsts.v[n++] = i->firsts.v[k];
    i->firsts.n = n;
}

static bool add_top(struct increment *i, uint64_t xmax, int64_t top)
{
    size_t n = 0;

    if (i->n_rungs > 0 && i->rungs[i->n_rungs - 1].top >= top)
        return true; /* the older rung counts sooner, and its value is as high */
    if (i->n_rungs == RUNGS_MAX) { /* if some are dropped, the base is only lower */
        for (size_t k = 0; k < i->n_rungs; k += 2)
            i->rungs[n++] = i->rungs[k];
        i->n_rungs = n;
    }
    return increment_add_rung(i, xmax, top);
}

/* Moves in strides of the lookback, so that most polls share a base, and a stretch. */
static void raise_base(struct increment *i, uint64_t floor, int64_t lookback)
{
    size_t k = i->n_rungs;
    int64_t base, top;

    while (k > 0 && i->rungs[k - 1].xmax > floor)
        k--;
    if (k == 0)
        return;
    base = i->rungs[k - 1].top;
    top = i->rungs[i->n_rungs - 1].top;
    if (top < INCREMENT_LOWEST + lookback)
        return;
    base = base < top - lookback ? base : top - lookback;
    if (i->base == INCREMENT_LOWEST ||
        (base > i->base && (uint64_t)base - (uint64_t)i->base >= (uint64_t)lookback))
        i->base = base;
    memmove(i->rungs, i->rungs + (k - 1), (i->n_rungs - (k - 1)) * sizeof *i->rungs);
    i->n_rungs -= k - 1;
}

bool increment_advance(struct increment *i, const struct horizon *h,
                       const struct increment_poll *poll)
{
    if (poll->is_recheck) {
        if (!begin_anew(i, h))
            return false;
    } else {
        for (size_t k = 0; poll->fresh != NULL && k < poll->fresh->n; k++)
            if (!increment_add_first(&i->firsts, poll->fresh->v[k].xid, i->base,
                                     poll->fresh->v[k].least))
                return false;
        if (!keep_stretch(i, h->floor))
            return false;
    }
    if (!poll->keeps)
        forget_below(i, h->floor);
    if (poll->top != NULL && !add_top(i, poll->xmax, *poll->top))
        return false;
    raise_base(i, h->floor, poll->lookback);
    return true;
}

void increment_forget(struct increment *i, uint64_t floor)
{
    while (i->firsts.n > 0 && i->firsts.v[i->firsts.n - 1].xid >= floor)
        i->firsts.n--;
    while (i->n_rungs > 0 && i->rungs[i->n_rungs - 1].xmax > floor)
        i->n_rungs--;
}

bool increment_is_full(const struct increment *i, uint64_t xmax)
{
    size_t n = i->n_stretches;

    for (size_t k = 0; k < i->firsts.n; k++)
        n += i->firsts.v[k].base != INCREMENT_LOWEST; /* a recheck would make the others again */
    return n > INCREMENT_ENTRIES ||
           xmax - i->since > HORIZON_MAX_AGE / 2;
}
