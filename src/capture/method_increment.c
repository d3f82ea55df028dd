/* method_increment.c -- what a poll came to, and where a source stands behind it.
 * SPDX-License-Identifier: MIT */
#include "capture/method_increment.h"

#include "base/text.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RANGE_BLOCKS 1024 /* 8 MB of table at a time, */
#define FIRST_BLOCKS 64   /* but little at first and at last, when only one side is at work */

#define LOOKBACK_INTEGERS 1000 /* how far below the highest value a window begins, */
#define LOOKBACK_SECONDS 60    /* unless the source says so */

void polled_fini(struct polled *p)
{
    xidset_fini(&p->delivered);
    xidset_fini(&p->baseline);
    increment_fini_firsts(&p->fresh);
    *p = (struct polled){ 0 };
}

bool polled_add(struct polled *p, const struct source *s, const struct reads *r,
                const struct reads_row *row)
{
    if (!xidset_add(&p->delivered, row->xid))
        return false;
    if (!reads_values(s))
        return true;
    if (r->is_recheck && r->what == READ_POLL && s->position.increment.column != NULL &&
        (!row->has_value || row->value < s->position.increment.base))
        p->late++;
    return increment_add_first(&p->fresh, row->xid, INCREMENT_LOWEST,
                      row->has_value ? row->value : INCREMENT_LOWEST);
}

/* ---- a column that grows ---- */

bool advance_wants_recheck(const struct source *s)
{
    const struct increment *i = &s->position.increment;
    int64_t now = clock_wall_ms(), every = s->config->recheck_ms;

    if (!reads_values(s))
        return false;
    if (i->column == NULL || i->is_rechecking)
        return true;
    if (!reads_same_column(s))
        return true;
    if (s->position.n_resume_points > 0)
        return false; /* what was cut was a window, and is best finished as one */
    return every > 0 && (now >= i->rechecked_ms + every || now < i->rechecked_ms ||
                         increment_is_full(i, s->facts.snapshot.xmax));
}

/* In the units of the column. */
static int64_t lookback_of(const struct source *s)
{
    double lookback = s->config->lookback;

    switch (s->facts.growth) {
    case INCREMENT_GROWS_NOT:
    case INCREMENT_INTEGER:
        return (int64_t)(lookback < 0 ? LOOKBACK_INTEGERS : lookback);
    case INCREMENT_DATE:
        return (int64_t)ceil((lookback < 0 ? LOOKBACK_SECONDS : lookback) / 86400);
    case INCREMENT_TIMESTAMP:
    case INCREMENT_TIMESTAMPTZ:
        return (int64_t)((lookback < 0 ? LOOKBACK_SECONDS : lookback) * 1e6);
    }
    return 0;
}

bool advance_read_top(struct polled *p, const struct source *s, struct conn *conn, struct err *e)
{
    struct sql_increment_query q = reads_sql_increment(s);
    struct result *rows = NULL;
    const char *text;
    struct buf sql;
    bool ok;

    if (q.growth == INCREMENT_GROWS_NOT)
        return true;
    buf_init(&sql, BUF_SQL_MAX);
    sql_increment_top(&sql, &q);
    ok = buf_ok(&sql) ? conn_run(conn, sql.data, &rows, 1, e) : err_memory(e);
    buf_fini(&sql);
    text = ok ? result_text(rows, 0, 0) : NULL;
    p->has_top = text != NULL;
    p->top = 0;
    if (text != NULL)
        text_is_i64(text, &p->top);
    result_free(rows);
    return ok;
}

/* Rows that no window has shown, which is why there are rechecks. */
static bool tell_of_late(struct source *s, uint64_t late, struct err *e)
{
    char text[200];

    if (late == 0)
        return true;
    snprintf(text, sizeof text, "the recheck found %" PRIu64 " rows that the index on \"%.60s\" "
             "had not shown: they were updated, or committed late with a low value", late,
             s->position.increment.column);
    return fault_add_notice(s, LOG_WARN, text, e);
}

/* The column's part of advance_poll and advance_idle; <p> NULL: nothing was read. */
static bool advance_increment(struct source *s, bool is_recheck, struct polled *p, struct err *e)
{
    struct increment *i = &s->position.increment;
    const struct increment_poll poll = {
        .is_recheck = is_recheck,
        .xmax = s->facts.snapshot.xmax,
        .top = p != NULL && p->has_top ? &p->top : NULL,
        .fresh = p != NULL ? &p->fresh : NULL,
        .lookback = lookback_of(s),
        .keeps = s->config->recheck_ms > 0,
    };

    if (is_recheck && i->column != NULL) {
        if (!tell_of_late(s, p->late, e))
            return false;
        if (!reads_same_column(s)) {
            increment_fini(i); /* the next poll lays new ground, or needs none */
            return true;
        }
    }
    if (is_recheck) {
        if (i->column == NULL) {
            i->base = INCREMENT_LOWEST;
            i->growth = s->facts.growth;
            if ((i->column = strdup(s->config->column)) == NULL)
                return err_memory(e);
        }
        i->rechecked_ms = clock_wall_ms();
    }
    if (!increment_advance(i, &s->position.horizon, &poll))
        return err_memory(e);
    i->is_rechecking = i->is_rechecking || (is_recheck && p->has_left); /* it is not over */
    return true;
}

/* ---- pages ---- */

bool advance_begin_page(struct polled *p, struct source *s, struct conn *conn, struct err *e)
{
    struct increment *i = &s->position.increment;
    struct pages *g = &s->position.pages;
    const struct rowtype *rowtype = s->facts.rowtype;
    int64_t lookback = lookback_of(s);

    if (g->reached_key != NULL)
        return true;
    for (size_t k = 0; k < rowtype->n_key; k++)
        if (rowtype->columns[rowtype->key[k]].wants_to_json)
            return err_set(e, ERR_REFUSED, "%s.%s: no page can begin behind a key of type %s: name "
                           "other columns in pk", s->facts.table.schema, s->facts.table.name,
                           rowtype->columns[rowtype->key[k]].type);
    if (i->column != NULL && !reads_same_column(s))
        return err_set(e, ERR_REFUSED, "%s.%s: the position goes by column \"%s\", of the type "
                       "that it had: forget it with --reset", s->facts.table.schema,
                       s->facts.table.name, i->column);
    if (!advance_read_top(p, s, conn, e))
        return false;
    g->xmax = s->facts.snapshot.xmax;
    g->has_top = p->has_top;
    g->top = p->top;
    if (i->column != NULL)
        return true;
    i->base = p->has_top && p->top > INCREMENT_LOWEST + lookback ? p->top - lookback
                                                                 : INCREMENT_LOWEST;
    i->growth = s->facts.growth;
    return (i->column = strdup(s->config->column)) != NULL || err_memory(e);
}

/* Is one of the fields of a key NULL? */
static bool has_null(const char *key)
{
    for (const char *f = key;; f++) {
        size_t len = strcspn(f, "\t");

        if (copytext_is_null((struct copytext_field){ f, len }))
            return true;
        f += len;
        if (*f == '\0')
            return false;
    }
}

bool advance_page_row(struct page *page, const struct source *s, int64_t value,
                      const char *fields, size_t len, uint64_t *hash, bool *is_new, struct err *e)
{
    buf_clear(&page->last_key);
    if (!rowtype_put_key(s->facts.rowtype, fields, len, &page->last_key) ||
        !pages_hash(fields, len, hash))
        return err_memory(e);
    if (has_null(page->last_key.data))
        return err_set(e, ERR_REFUSED, "%s.%s: a row has NULL in its key, behind which no page can "
                       "begin: name columns in pk that are never NULL, or leave such rows out by "
                       "where", s->facts.table.schema, s->facts.table.name);
    page->n++;
    page->last = value;
    *is_new = true;
    if (value < s->position.increment.base)
        return true;
    *is_new = !pages_rows_has(&s->position.pages.given, *hash);
    return !*is_new || pages_rows_add(&page->fresh, *hash, value) || err_memory(e);
}

bool advance_page(struct source *s, const struct page *page, bool *is_over, struct err *e)
{
    struct pages *g = &s->position.pages;
    const struct xidset nothing = { 0 };
    bool is_first = g->reached_key == NULL;
    const struct increment_poll poll = {
        .xmax = g->xmax, .top = g->has_top ? &g->top : NULL, .lookback = lookback_of(s),
    };

    if (!pages_rows_merge(&g->given, &page->fresh))
        return err_memory(e);
    free(g->reached_key);
    g->reached_key = NULL;
    *is_over = page->n < PAGES_ROWS;
    if (!*is_over) {
        g->reached = page->last;
        g->reached_key = strdup(page->last_key.data);
    }
    if (!*is_over && g->reached_key == NULL)
        return err_memory(e);
    /* who was under way at the first page may have committed behind any page since */
    if (is_first && !horizon_advance(&s->position.horizon, &s->facts.snapshot, &nothing,
                                     fault_durable_bound(s)))
        return err_memory(e);
    if (!*is_over)
        return true;
    g->is_silent = false;
    s->position.phase = POSITION_POLL;
    if (!increment_advance(&s->position.increment, &s->position.horizon, &poll))
        return err_memory(e);
    pages_forget(g, s->position.increment.base);
    return fault_know_leaves(s, e);
}

/* ---- ranges ---- */

static uint32_t range_length(const struct position_leaf *leaf)
{
    uint32_t left = leaf->blocks - leaf->next;
    uint32_t half = (leaf->next < left ? leaf->next : left) / 2;

    half = half < FIRST_BLOCKS ? FIRST_BLOCKS : half > RANGE_BLOCKS ? RANGE_BLOCKS : half;
    return half < left ? half : left;
}

bool advance_begin_range(const struct position *p, struct reads *r)
{
    for (size_t i = 0; i < p->n_leaves; i++) {
        const struct position_leaf *leaf = &p->leaves[i];

        if (leaf->next >= leaf->blocks)
            continue;
        r->what = READ_RANGE;
        r->leaf = leaf->oid;
        r->end = leaf->next + range_length(leaf);
        return true;
    }
    return false;
}

void advance_range(struct position *p, const struct reads *r)
{
    struct position_leaf *leaf = r->what == READ_RANGE ? position_leaf(p, r->leaf) : NULL;

    if (leaf != NULL) {
        leaf->next = r->end;
        if (p->done.leaf == leaf->oid && p->done.end <= leaf->next)
            position_forget_done(p);
    }
    for (size_t i = 0; i < p->n_leaves; i++)
        if (p->leaves[i].next < p->leaves[i].blocks)
            return;
    p->phase = POSITION_POLL;
}

/* ---- polls ---- */

/* Polls that were cut go with this one: their xids count as delivered by it. */
static bool take_cuts(struct source *s, struct polled *p)
{
    for (size_t i = 0; i < s->position.n_resume_points; i++)
        if (!increment_add_first(&p->fresh, s->position.resume_points[i].xid, INCREMENT_LOWEST,
                        INCREMENT_LOWEST))
            return false;
    return position_take_resume_points(&s->position, &p->delivered);
}

/* Stamps of what a switch delivered, now and before, are seen as well. */
static bool take_stamps(struct source *s, struct polled *p)
{
    for (size_t i = 0; i < p->baseline.n; i++)
        if (!xidset_add(&p->delivered, p->baseline.v[i]))
            return false;
    s->position.stamps.is_used = true;
    s->position.stamps.since = s->facts.marks.since;
    return true;
}

bool advance_poll(struct source *s, const struct reads *r, struct polled *p, struct err *e)
{
    struct position *position = &s->position;
    char *text = strdup(s->facts.snapshot.text);

    if (text == NULL)
        return err_memory(e);
    free(s->polled);
    s->polled = text;
    if (p->has_left) { /* the next poll has to read, and the stamps of what is left are not known */
        free(s->polled);
        s->polled = NULL;
    }
    if (!take_cuts(s, p) || (r->is_switch && !p->has_left && !take_stamps(s, p)))
        return err_memory(e);
    if (r->what == READ_XMINS) {
        xidset_fini(&position->horizon.seen);
        position->horizon.seen = p->baseline;
        p->baseline = (struct xidset){ 0 };
    }
    if (!horizon_advance(&position->horizon, &s->facts.snapshot, &p->delivered,
                         fault_durable_bound(s)))
        return err_memory(e);
    if (r->what != READ_XMINS && reads_values(s) && !advance_increment(s, r->is_recheck, p, e))
        return false;
    if (reads_stamps(s))
        position->stamps.tombstone_floor = position->horizon.floor;
    return fault_know_leaves(s, e);
}

bool advance_idle(struct source *s, bool *has_risen, struct err *e)
{
    struct horizon *h = &s->position.horizon;
    const struct xidset nothing = { 0 };
    uint64_t floor = h->floor;
    bool was_guarded = s->position.floor_lsn != 0;

    *has_risen = false;
    if (s->position.identity.in_recovery ||
        (floor >= s->facts.snapshot.xmin && !was_guarded && s->durable.n == 0))
        return true;
    fault_keep_identity(s);
    if (!horizon_advance(h, &s->facts.snapshot, &nothing, fault_durable_bound(s)))
        return err_memory(e);
    if (s->position.increment.column != NULL && !advance_increment(s, false, NULL, e))
        return false;
    if (reads_stamps(s))
        s->position.stamps.tombstone_floor = h->floor;
    *has_risen = h->floor != floor || was_guarded != (s->position.floor_lsn != 0);
    return true;
}
