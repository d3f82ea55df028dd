/* load.c -- how much of the time scans of a database take, and how far polls are put off for it.
 * SPDX-License-Identifier: MIT */
#include "capture/load.h"

#include "base/array.h"

#include <stdlib.h>

#define FAR 1.5          /* a stretch from which on a user is told, */
#define FAR_POLLS 10     /* after so many polls in a row, */
#define TELL_MS 3600000  /* and not again before that */

bool load_join(struct load_all *all, struct load *l)
{
    return ARRAY_PUSH(all->v, all->n, all->cap, l);
}

void load_fini(struct load_all *all)
{
    free(all->v);
    *all = (struct load_all){ 0 };
}

void load_add_times(struct load_poll *to, struct load_poll *from)
{
    to->scan_us += from->scan_us;
    to->census_us += from->census_us;
    from->scan_us = from->census_us = 0;
}

/* ---- shares ---- */

static void add_time(struct load_times *t, int64_t us)
{
    t->us[1] = t->us[0];
    t->us[0] = us;
}

/* The shorter one of the last two, in milliseconds. */
static double ms_of(const struct load_times *t)
{
    return (double)(t->us[0] < t->us[1] ? t->us[0] : t->us[1]) / 1000;
}

/* From one poll to the next: a census is part of a poll, so polls are due with it. */
static int64_t between_polls(const struct load_poll *p)
{
    return p->check_ms > 0 && p->check_ms < p->interval_ms ? p->check_ms : p->interval_ms;
}

/* What the unit's scans take of the time if nothing is put off. */
static double share_of(const struct load *l, const struct load_poll *p)
{
    int64_t check_ms = p->check_ms > 0 ? p->check_ms : p->interval_ms;

    return ms_of(&l->scan) / (double)between_polls(p) + ms_of(&l->census) / (double)check_ms;
}

/* Of the shares that are at most <level>: their sum. *n: how many are above it. */
static double sum_up_to(const struct load_all *all, double level, size_t *n)
{
    double sum = 0;

    *n = 0;
    for (size_t i = 0; i < all->n; i++)
        if (all->v[i]->share > level)
            ++*n;
        else
            sum += all->v[i]->share;
    return sum;
}

/* The level up to which shares are allowed, so that they make <max_load>; they make more. It only
 * rises from step to step, by which fewer are above it. */
static double find_level(const struct load_all *all, double max_load)
{
    double level = 0;
    size_t n, n_before;
    double sum = sum_up_to(all, level, &n);

    do {
        n_before = n;
        level = (max_load - sum) / (double)n;
        sum = sum_up_to(all, level, &n);
    } while (n > 0 && n < n_before);
    return level;
}

/* ---- polls ---- */

void load_rest(struct load *l)
{
    l->share = 0;
}

/* A poll has read the table. */
static void add_scan(struct load *l, const struct load_all *all, const struct load_poll *poll)
{
    size_t n;

    add_time(&l->scan, poll->scan_us);
    if (poll->census_us > 0)
        add_time(&l->census, poll->census_us);
    l->share = share_of(l, poll);
    l->sum = sum_up_to(all, 1e300, &n);
    l->stretch = l->sum > poll->max_load ? l->share / find_level(all, poll->max_load) : 1;
    l->n_far = l->stretch >= FAR ? l->n_far + 1 : 0;
    l->until_ms = l->stretch > 1 ? poll->began_ms + load_stretch(l, between_polls(poll)) : 0;
}

void load_add(struct load *l, const struct load_all *all, const struct load_poll *poll,
              int64_t *due_ms)
{
    load_rest(l);
    if (poll->max_load >= 1)
        return;
    if (poll->scan_us > 0 || poll->census_us > 0)
        add_scan(l, all, poll);
    else if (poll->began_ms >= l->until_ms)
        l->stretch = 1;
    if (l->until_ms > *due_ms)
        *due_ms = l->until_ms;
}

int64_t load_stretch(const struct load *l, int64_t interval_ms)
{
    return l->stretch > 1 ? (int64_t)((double)interval_ms * l->stretch + 0.5) : interval_ms;
}

bool load_is_news(const struct load *l, struct load_all *all, int64_t now_ms)
{
    if (l->n_far < FAR_POLLS || (all->told_ms != 0 && now_ms - all->told_ms < TELL_MS))
        return false;
    all->told_ms = now_ms;
    return true;
}
