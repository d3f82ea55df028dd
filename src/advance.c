/* advance.c -- what a poll came to, and where a source stands behind it. floor 2
 * SPDX-License-Identifier: MIT */
#include "advance.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOKBACK_INTEGERS 1000 /* how far below the highest value a window begins, */
#define LOOKBACK_SECONDS 60    /* unless the source says so */

void polled_fini(struct polled *p)
{
    xidset_fini(&p->delivered);
    xidset_fini(&p->baseline);
    firsts_fini(&p->fresh);
    *p = (struct polled){ 0 };
}

bool polled_add(struct polled *p, const struct standing *s, const struct reads *r,
                const struct reads_row *row)
{
    if (!xidset_add(&p->delivered, row->xid))
        return false;
    if (!reads_values(s))
        return true;
    if (r->is_recheck && r->what == READ_POLL && s->position.increment.column != NULL &&
        (!row->has_value || row->value < s->position.increment.base))
        p->late++;
    return firsts_add(&p->fresh, row->xid, INCREMENT_LOWEST,
                      row->has_value ? row->value : INCREMENT_LOWEST);
}

/* ---- a column that grows ---- */

bool advance_wants_recheck(const struct standing *s)
{
    const struct increment *i = &s->position.increment;
    int64_t now = clock_wall_ms(), every = s->config->recheck_ms;

    if (!reads_values(s))
        return false;
    if (i->column == NULL || i->is_rechecking)
        return true;
    if (s->position.n_cuts > 0)
        return false; /* what was cut was a window, and is to be finished as one */
    if (!reads_same_column(s))
        return true;
    return every > 0 && (now >= i->rechecked_ms + every || now < i->rechecked_ms ||
                         increment_is_full(i, s->survey.snapshot.xmax));
}

/* In the units of the column. */
static int64_t lookback_of(const struct standing *s)
{
    double lookback = s->config->lookback;

    switch (s->survey.growth) {
    case GROWS_NOT:
    case GROWS_INTEGER:
        return (int64_t)(lookback < 0 ? LOOKBACK_INTEGERS : lookback);
    case GROWS_DATE:
        return (int64_t)ceil((lookback < 0 ? LOOKBACK_SECONDS : lookback) / 86400);
    case GROWS_TIMESTAMP:
    case GROWS_TIMESTAMPTZ:
        return (int64_t)((lookback < 0 ? LOOKBACK_SECONDS : lookback) * 1e6);
    }
    return 0;
}

bool advance_read_top(struct polled *p, const struct standing *s, struct db *db, struct err *e)
{
    struct increment_query q = reads_increment_query(s);
    struct db_rows *rows = NULL;
    const char *text;
    struct buf sql;
    bool ok;

    if (q.growth == GROWS_NOT)
        return true;
    buf_init(&sql, BUF_SQL_MAX);
    query_increment_top(&sql, &q);
    ok = buf_ok(&sql) ? db_run(db, sql.data, &rows, 1, e) : err_memory(e);
    buf_fini(&sql);
    text = ok ? db_rows_text(rows, 0, 0) : NULL;
    p->has_top = text != NULL;
    p->top = text != NULL ? strtoll(text, NULL, 10) : 0;
    db_rows_free(rows);
    return ok;
}

/* Rows that no window has shown, which is why there are rechecks. */
static bool tell_of_late(struct standing *s, uint64_t late, struct err *e)
{
    char text[200];

    if (late == 0)
        return true;
    snprintf(text, sizeof text, "the recheck found %" PRIu64 " rows that the index on \"%.60s\" had "
             "not shown: they were updated, or committed late with a low value", late,
             s->position.increment.column);
    return standing_add_notice(s, LOG_WARN, text, e);
}

/* The column's part of advance_poll and advance_idle; <p> NULL: nothing was read. */
static bool advance_increment(struct standing *s, bool is_recheck, struct polled *p, struct err *e)
{
    struct increment *i = &s->position.increment;
    const struct increment_poll poll = {
        .is_recheck = is_recheck,
        .xmax = s->survey.snapshot.xmax,
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
            i->growth = s->survey.growth;
            if ((i->column = strdup(s->config->column)) == NULL)
                return err_memory(e);
        }
        i->rechecked_ms = clock_wall_ms();
    }
    return increment_advance(i, &s->position.horizon, &poll) || err_memory(e);
}

/* ---- polls ---- */

/* Polls that were cut go with this one: their xids count as delivered by it. */
static bool take_cuts(struct standing *s, struct polled *p)
{
    for (size_t i = 0; i < s->position.n_cuts; i++)
        if (!firsts_add(&p->fresh, s->position.cuts[i].xid, INCREMENT_LOWEST, INCREMENT_LOWEST))
            return false;
    return position_uncut(&s->position, &p->delivered);
}

/* Stamps of what a switch delivered, now and before, are seen as well. */
static bool take_stamps(struct standing *s, struct polled *p)
{
    for (size_t i = 0; i < p->baseline.n; i++)
        if (!xidset_add(&p->delivered, p->baseline.v[i]))
            return false;
    s->position.stamped_since = s->survey.marks.since;
    return true;
}

bool advance_poll(struct standing *s, const struct reads *r, struct polled *p, struct err *e)
{
    struct position *position = &s->position;
    char *text = strdup(s->survey.snapshot.text);

    if (text == NULL)
        return err_memory(e);
    free(s->polled);
    s->polled = text;
    if (!take_cuts(s, p) || (r->is_switch && !take_stamps(s, p)))
        return err_memory(e);
    if (r->what == READ_XMINS) {
        xidset_fini(&position->horizon.seen);
        position->horizon.seen = p->baseline;
        p->baseline = (struct xidset){ 0 };
    }
    if (!horizon_advance(&position->horizon, &s->survey.snapshot, &p->delivered,
                         standing_durable_bound(s)))
        return err_memory(e);
    if (r->what != READ_XMINS && reads_values(s) && !advance_increment(s, r->is_recheck, p, e))
        return false;
    position->gone_floor = reads_stamps(s) ? position->horizon.floor : 0;
    return standing_know_leaves(s, e);
}

bool advance_idle(struct standing *s, bool *has_risen, struct err *e)
{
    struct horizon *h = &s->position.horizon;
    const struct xidset nothing = { 0 };
    uint64_t floor = h->floor;
    bool was_guarded = s->position.floor_lsn != 0;

    *has_risen = false;
    if (s->position.identity.in_recovery ||
        (floor >= s->survey.snapshot.xmin && !was_guarded && s->durable.n == 0))
        return true;
    standing_keep_identity(s);
    if (!horizon_advance(h, &s->survey.snapshot, &nothing, standing_durable_bound(s)))
        return err_memory(e);
    if (s->position.increment.column != NULL && !advance_increment(s, false, NULL, e))
        return false;
    if (reads_stamps(s))
        s->position.gone_floor = h->floor;
    *has_risen = h->floor != floor || was_guarded != (s->position.floor_lsn != 0);
    return true;
}
