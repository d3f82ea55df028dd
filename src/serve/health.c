/* health.c -- whether all is well, and if not: what is wrong, since when.
 * SPDX-License-Identifier: MIT */
#include "serve/health.h"

#include "base/array.h"
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char hidden[] = "its error is in the log (it may show values of rows, so it is told "
                             "here with --listen-rows only)";

struct finder {
    struct health *h;
    const struct figures *f;
    const struct health_options *o;
    int64_t now_us, now_ms;
    bool failed;
};

const char *health_word(enum health_reason reason)
{
    static const char *const words[HEALTH_REASONS] = {
        "loop", "database", "wait", "handler", "sink", "starts", "snapshot", "paused", "lag",
    };

    return words[reason];
}

const char *health_trouble_text(const struct script_figures_trouble *t,
                                const struct health_options *o)
{
    return t->may_have_data && !o->shows_rows ? hidden : t->text != NULL ? t->text : "";
}

void health_put_work(const struct figures *f, struct buf *to)
{
    static const char *const words[] = {
        "starts", "waits for changes", "delivers changes", "flushes sinks and saves", "runs timers",
        "ends", "is run anew",
    };
    bool has_source = (f->work == BEAT_DELIVERS || f->work == BEAT_SAVES) &&
                      f->work_source < f->n_sources;

    buf_puts(to, f->work >= 0 && f->work <= BEAT_RELOADS ? words[f->work] : "works");
    if (has_source)
        buf_printf(to, " of %s", f->sources[f->work_source].name);
}

/* The wall time of a time of the other clock. */
static int64_t wall(const struct finder *x, int64_t ms)
{
    return x->now_us - (x->now_ms - ms) * 1000;
}

/* Adds a problem. Returns it, or NULL. */
static struct health_problem *add(struct finder *x, enum health_reason reason, const char *source,
                                  int64_t since_us)
{
    struct health *h = x->h;
    struct health_problem p = { .reason = reason, .source = source, .since_us = since_us };

    if (!ARRAY_PUSH(h->problems, h->n, h->cap, p)) {
        x->failed = true;
        return NULL;
    }
    return &h->problems[h->n - 1];
}

static void set_text(struct health_problem *p, const char *text)
{
    size_t max = sizeof p->text - 1, n = 0;

    for (size_t len; *text != '\0' && (len = text_utf8_length(text, strlen(text))) > 0 &&
                     n + len <= max; text += len, n += len)
        memcpy(p->text + n, text, len);
    p->text[n] = '\0';
}

/* What the server said of the failure. */
static const char *server_text(const struct finder *x, const struct err *e)
{
    bool may_have_data = strncmp(e->sqlstate, "22", 2) == 0 || strncmp(e->sqlstate, "23", 2) == 0 ||
                         strncmp(e->sqlstate, "P0", 2) == 0;

    return may_have_data && !x->o->shows_rows ? hidden : e->msg;
}

static void find_loop(struct finder *x)
{
    struct health_problem *p;
    struct buf work;

    x->h->is_live = x->f->turned_ms < HEALTH_STALLED_MS;
    if (x->h->is_live)
        return;
    buf_init(&work, 1000);
    health_put_work(x->f, &work);
    p = add(x, HEALTH_LOOP, NULL, x->now_us - x->f->turned_ms * 1000);
    if (p != NULL) {
        p->is_blocking = true;
        snprintf(p->text, sizeof p->text, "the loop does not turn: it %s",
                 buf_ok(&work) ? work.data : "works");
    }
    buf_fini(&work);
}

static bool is_one_of(size_t source, const size_t *sources, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (sources[i] == source)
            return true;
    return false;
}

/* Why the source is late, from the most to the least certain. */
static void explain_lag(struct finder *x, size_t i, struct health_problem *p)
{
    const struct script_figures *half = x->f->script_half;
    const struct figures_source *s = &x->f->sources[i];
    double lag = figures_lag(s, x->now_us, x->now_ms);
    char why[1200] = "";

    if (s->is_paused_by_user)
        snprintf(why, sizeof why, ": it was paused by pgcdc-lua ctl");
    else if (s->meter.failing_since_ms != 0)
        snprintf(why, sizeof why, ": %.1100s", server_text(x, &s->meter.err));
    else if (half != NULL && i < half->n_sources && half->sources[i].trouble.since_us != 0)
        snprintf(why, sizeof why, ": %s", health_trouble_text(&half->sources[i].trouble, x->o));
    else if (s->meter.waiting_since_ms != 0)
        snprintf(why, sizeof why, ": %s", s->meter.wait);
    for (size_t k = 0; why[0] == '\0' && half != NULL && k < half->n_sinks; k++)
        if (half->sinks[k].trouble.since_us != 0 &&
            is_one_of(i, half->sinks[k].sources, half->sinks[k].n_sources)) {
            p->sink = half->sinks[k].name;
            snprintf(why, sizeof why, ": the sink %s is tried again", half->sinks[k].name);
        }
    for (size_t k = 0; why[0] == '\0' && half != NULL && k < half->n_operators; k++)
        if (half->operators[k].held > 0 &&
            is_one_of(i, half->operators[k].sources, half->operators[k].n_sources))
            snprintf(why, sizeof why, ": the operator %s holds values of %llu batch%s",
                     half->operators[k].name, (unsigned long long)half->operators[k].held,
                     half->operators[k].held == 1 ? "" : "es");
    if (why[0] == '\0')
        snprintf(why, sizeof why, ": %s", s->unsaved_us != 0
                                              ? "what was read is not delivered and saved yet"
                                              : "its poll takes long, or waits for the host");
    snprintf(p->text, sizeof p->text, "%.0f s late%s", lag, why);
}

static void find_lag(struct finder *x, size_t i)
{
    const struct figures_source *s = &x->f->sources[i];
    double lag = figures_lag(s, x->now_us, x->now_ms);
    struct health_problem *p;

    if (lag <= x->o->max_lag)
        return;
    p = add(x, HEALTH_LAG, s->name, x->now_us - (int64_t)(lag * 1e6));
    if (p == NULL)
        return;
    p->is_blocking = true;
    explain_lag(x, i, p);
}

static void find_snapshot(struct finder *x, const struct figures_source *s)
{
    int64_t since = s->snapshot_began_us != 0 ? s->snapshot_began_us : x->f->began_us;
    struct health_problem *p = add(x, HEALTH_SNAPSHOT, s->name, since);
    char left[64] = "";

    if (p == NULL)
        return;
    p->is_blocking = true;
    if (s->snapshot_left >= 0)
        snprintf(left, sizeof left, ", about %.0f s left", s->snapshot_left);
    snprintf(p->text, sizeof p->text, "existing rows are read: %.0f %%%s", s->snapshot_share * 100,
             left);
}

static void find_of_source(struct finder *x, size_t i)
{
    const struct script_figures *half = x->f->script_half;
    const struct figures_source *s = &x->f->sources[i];
    const struct script_figures_trouble *t =
        half != NULL && i < half->n_sources ? &half->sources[i].trouble : NULL;
    bool is_late = figures_lag(s, x->now_us, x->now_ms) > x->o->max_lag;
    struct health_problem *p;

    if (s->meter.failing_since_ms != 0) {
        p = add(x, HEALTH_DATABASE, s->name, wall(x, s->meter.failing_since_ms));
        if (p != NULL) {
            p->is_blocking = is_late || s->phase == FIGURES_CONNECTS;
            set_text(p, server_text(x, &s->meter.err));
        }
    } else if (s->phase == FIGURES_CONNECTS) {
        p = add(x, HEALTH_STARTS, s->name, x->f->began_us);
        if (p != NULL) {
            p->is_blocking = true;
            set_text(p, x->f->work == BEAT_STARTS      ? "sinks are opened first"
                        : s->capture == CONFIG_BY_FEED ? "waiting for the brokers or for workers"
                                                       : "connecting to the database");
        }
    }
    if (s->phase == FIGURES_SNAPSHOT)
        find_snapshot(x, s);
    if (s->meter.waiting_since_ms != 0 && s->meter.failing_since_ms == 0 &&
        (p = add(x, HEALTH_WAIT, s->name, wall(x, s->meter.waiting_since_ms))) != NULL) {
        p->is_blocking = is_late;
        set_text(p, s->meter.wait);
    }
    if (t != NULL && t->since_us != 0 && t->may_have_data &&
        (p = add(x, HEALTH_HANDLER, s->name, t->since_us)) != NULL) {
        p->is_blocking = is_late;
        set_text(p, health_trouble_text(t, x->o));
        if (t->place != NULL && t->may_have_data && !x->o->shows_rows)
            snprintf(p->text, sizeof p->text, "%s failed: %s", t->place, hidden);
    }
    if (s->is_paused_by_user && !is_late &&
        (p = add(x, HEALTH_PAUSED, s->name, s->user_paused_us)) != NULL)
        set_text(p, "paused by pgcdc-lua ctl: nothing is read until it is resumed");
    find_lag(x, i);
}

static void find_of_sinks(struct finder *x)
{
    const struct script_figures *half = x->f->script_half;

    for (size_t i = 0; half != NULL && i < half->n_sinks; i++) {
        const struct script_figures_sink *s = &half->sinks[i];
        struct health_problem *p;

        if (s->trouble.since_us == 0)
            continue;
        p = add(x, HEALTH_SINK, NULL, s->trouble.since_us);
        if (p == NULL)
            return;
        p->sink = s->name;
        set_text(p, health_trouble_text(&s->trouble, x->o));
    }
}

/* What keeps it from being ready first, then the worse reason, then what came first. */
static int compare(const void *a, const void *b)
{
    const struct health_problem *p = a, *q = b;

    if (p->is_blocking != q->is_blocking)
        return p->is_blocking ? -1 : 1;
    if ((p->reason == HEALTH_LAG) != (q->reason == HEALTH_LAG))
        return p->reason == HEALTH_LAG ? 1 : -1; /* the cause stands before it */
    if (p->reason != q->reason)
        return p->reason < q->reason ? -1 : 1;
    return p->since_us < q->since_us ? -1 : p->since_us > q->since_us;
}

bool health_find(struct health *h, const struct figures *f, const struct health_options *o,
                 int64_t now_us, int64_t now_ms)
{
    struct finder x = { h, f, o, now_us, now_ms, false };

    *h = (struct health){ .is_ready = true };
    find_loop(&x);
    for (size_t i = 0; f->role.kind != ROLE_STANDBY && i < f->n_sources; i++)
        find_of_source(&x, i); /* (those of a standby wait, and that is well) */
    find_of_sinks(&x);
    if (x.failed) {
        health_fini(h);
        return false;
    }
    if (h->n > 1)
        qsort(h->problems, h->n, sizeof *h->problems, compare);
    for (size_t i = 0; i < h->n; i++)
        h->is_ready = h->is_ready && !h->problems[i].is_blocking;
    return true;
}

void health_fini(struct health *h)
{
    free(h->problems);
    *h = (struct health){ 0 };
}
