/* method_increment.c -- capture = "increment": polls go by a column that grows.
 *
 * A poll reads a window of the highest values, or, as a recheck, all rows that
 * were written since the recheck before, see increment.h. To hand over takes one
 * recheck: a first one makes the position its own, and one more, by the column
 * that the position went by, makes it one of xmins again.
 *
 * SPDX-License-Identifier: MIT */
#include "capture/method_increment.h"

#include "base/clock.h"
#include "base/text.h"
#include "capture/hinted.h"
#include "pg/copytext.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOKBACK_INTEGERS 1000 /* how far below the highest value a window begins, */
#define LOOKBACK_SECONDS 60    /* unless the source says so */

struct step {
    struct increment_firsts fresh; /* the xids delivered, with the least values of their rows */
    bool has_top;
    int64_t top;                   /* the highest value there is */
    uint64_t late;                 /* rows that a recheck found below the base */
};

static void fini_step(void *own)
{
    struct step *st = own;

    increment_fini_firsts(&st->fresh);
}

/* ---- shared with pages ---- */

struct sql_increment_query method_increment_query(const struct source *s)
{
    const struct increment *i = &s->position.increment;
    bool is_other = i->column != NULL && i->growth != s->facts.growth;

    return (struct sql_increment_query){
        .query = method_query(s),
        .column = i->column != NULL ? i->column : s->config->column,
        .growth = is_other ? INCREMENT_GROWS_NOT : s->facts.growth,
    };
}

bool method_increment_has_column(const struct source *s)
{
    const struct increment *i = &s->position.increment;

    return s->config->column != NULL && i->column != NULL &&
           strcmp(i->column, s->config->column) == 0 && i->growth == s->facts.growth;
}

int64_t method_increment_lookback(const struct source *s)
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

bool method_increment_set_column(struct source *s, struct err *e)
{
    struct increment *i = &s->position.increment;

    i->growth = s->facts.growth;
    return (i->column = strdup(s->config->column)) != NULL || err_memory(e);
}

bool method_increment_read_top(const struct source *s, struct conn *conn, bool *has_top,
                               int64_t *top, struct err *e)
{
    struct sql_increment_query q = method_increment_query(s);
    struct result *rows = NULL;
    struct buf sql;
    bool ok;

    *has_top = false;
    *top = 0;
    if (q.growth == INCREMENT_GROWS_NOT)
        return true;
    buf_init(&sql, BUF_SQL_MAX);
    sql_increment_top(&sql, &q);
    ok = buf_ok(&sql) ? conn_run(conn, sql.data, &sql_increment_top_shape, &rows, 1, e)
                      : err_memory(e);
    buf_fini(&sql);
    *has_top = ok && result_i64(rows, 0, 0, top);
    result_free(rows);
    return ok;
}

bool method_increment_read_value(struct method_row *row, bool *has_value, int64_t *value)
{
    *value = 0;
    *has_value = !copytext_skip_null(&row->p, row->end);
    return !*has_value || (copytext_read_i64(&row->p, row->end, value) && row->p[-1] == '\t');
}

/* ---- facts ---- */

/* Adds a notice for each leaf that lacks the index that windows go by. */
static bool check_health(struct source *s, struct conn *conn, struct err *e)
{
    const struct sql_increment_query q = {
        .query = { .table = &s->facts.table },
        .column = s->config->column,
    };
    struct result *rows = NULL;
    char text[256];
    struct buf sql;
    bool ok;

    if (!s->facts.table.has_xmin)
        return true;
    buf_init(&sql, BUF_SQL_MAX);
    sql_increment_health(&sql, &q);
    ok = buf_ok(&sql) ? conn_run(conn, sql.data, &sql_increment_health_shape, &rows, 1, e)
                      : err_memory(e);
    buf_fini(&sql);
    for (size_t i = 0; ok && i < result_count(rows); i++) {
        snprintf(text, sizeof text, "%.100s has no index that begins with \"%.60s\": each poll "
                 "reads all of it", result_text(rows, i, 0), s->config->column);
        ok = source_add_notice(s, LOG_WARN, text, e);
    }
    result_free(rows);
    return ok;
}

static void put_try(const struct source *s, struct buf *sql)
{
    const struct sql_query q = method_query(s);

    sql_try(sql, &q);
}

/* ---- positions ---- */

static bool holds(const struct position *p)
{
    return p->increment.column != NULL;
}

static uint64_t oldest_xid(const struct position *p)
{
    return p->increment.since;
}

static bool wants_recheck(const struct source *s)
{
    const struct increment *i = &s->position.increment;
    int64_t now = clock_wall_ms(), every = s->config->recheck_ms;

    if (i->column == NULL || i->is_rechecking || !method_increment_has_column(s))
        return true;
    if (s->position.n_resume_points > 0)
        return false; /* the poll that ended early was a window, and is best finished as one */
    return every > 0 && (now >= i->rechecked_ms + every || now < i->rechecked_ms ||
                         increment_is_full(i, s->facts.snapshot.xmax));
}

/* When a recheck is due. (If a poll ended early, the next one finishes it first.) */
static int64_t due_ms(const struct source *s)
{
    int64_t left = s->position.increment.rechecked_ms + s->config->recheck_ms - clock_wall_ms();

    if (s->config->recheck_ms == 0 || s->position.n_resume_points > 0)
        return INT64_MAX;
    return clock_mono_ms() + (left > 0 ? left : 0);
}

/* ---- steps ---- */

static void put_leaf(const struct source *s, const struct method_extent *extent, struct buf *sql)
{
    const struct sql_increment_query q = method_increment_query(s);

    sql_increment_leaf(sql, &q, extent->leaf);
}

static void put_window(const struct source *s, const struct method_extent *extent,
                       struct buf *sql)
{
    const struct sql_increment_query q = method_increment_query(s);

    (void)extent;
    sql_increment_window(sql, &q, &s->position);
}

static void put_recheck(const struct source *s, const struct method_extent *extent,
                        struct buf *sql)
{
    const struct sql_increment_query q = method_increment_query(s);

    (void)extent;
    sql_increment_recheck(sql, &q, &s->position);
}

/* A line of a leaf, a window or a recheck. *is_late: no window would have shown the row. */
static bool take(const struct source *s, struct method_step *step, struct method_row *row,
                 bool *is_late, struct err *e)
{
    const struct increment *i = &s->position.increment;
    const struct horizon *h = &s->position.horizon;
    struct step *own = step->own;
    bool has_value, is_new;
    int64_t value;

    *is_late = false;
    if (!method_take_xmin(s, row, false, e))
        return false;
    if (!method_increment_read_value(row, &has_value, &value))
        return method_fail_row(e);
    *is_late = !has_value || value < i->base;
    if (row->fate == METHOD_LEAVE)
        return true;
    is_new = step->is_recheck && i->column != NULL
                 ? increment_escaped(i, h, row->xid, has_value ? &value : NULL)
                 : horizon_is_new(h, row->xid);
    row->fate = is_new ? METHOD_DELIVER : METHOD_SKIP;
    return !is_new ||
           (xidset_add(&step->delivered, row->xid) &&
            increment_add_first(&own->fresh, row->xid, INCREMENT_LOWEST,
                                has_value ? value : INCREMENT_LOWEST)) || err_memory(e);
}

static bool take_leaf(const struct source *s, struct method_step *step, struct method_row *row,
                      struct err *e)
{
    bool is_late;

    if (!take(s, step, row, &is_late, e))
        return false;
    row->is_old = row->fate == METHOD_SKIP;
    if (row->is_old)
        row->fate = METHOD_DELIVER;
    return true;
}

static bool take_window(const struct source *s, struct method_step *step, struct method_row *row,
                        struct err *e)
{
    bool is_late;

    return take(s, step, row, &is_late, e);
}

static bool take_recheck(const struct source *s, struct method_step *step, struct method_row *row,
                         struct err *e)
{
    struct step *own = step->own;
    bool is_late;

    if (!take(s, step, row, &is_late, e))
        return false;
    own->late += row->fate == METHOD_DELIVER && is_late && s->position.increment.column != NULL;
    return true;
}

static void put_blocks(const struct source *s, const struct method_extent *extent, struct buf *sql)
{
    const struct sql_increment_query q = method_increment_query(s);

    (void)extent;
    sql_hints_poll(sql, &q.query, &q, &s->position, &s->hints.rule);
}

static const struct method_copy window = { .put = put_window, .take = take_window };
static const struct method_copy recheck = {
    .put = put_recheck, .take = take_recheck, .reads_all = true,
};
static const struct method_copy recheck_of_blocks = {
    .put = put_blocks, .take = take_recheck, .reads_all = true,
};

static bool begin(struct source *s, struct method_step *step, struct conn *conn, struct err *e)
{
    const struct sql_query q = method_query(s);
    struct step *own = step->own;

    step->is_recheck = step->has_new_leaves || wants_recheck(s);
    if (step->is_recheck && !hinted_begin(s, &q, conn, e))
        return false;
    step->copy = !step->is_recheck    ? &window
                 : s->hints.is_used ? &recheck_of_blocks
                                    : &recheck;
    /* a recheck that ended early would be of another kind than the windows that did */
    step->is_held = step->is_recheck && position_resumes_window(&s->position);
    return method_increment_read_top(s, conn, &own->has_top, &own->top, e);
}

/* Adds a notice if a recheck found rows that no window had shown. */
static bool tell_of_late(struct source *s, uint64_t late, struct err *e)
{
    char text[200];

    if (late == 0)
        return true;
    snprintf(text, sizeof text, "the recheck found %" PRIu64 " rows that the index on \"%.60s\" "
             "had not shown: they were updated, or committed late with a low value", late,
             s->position.increment.column);
    return source_add_notice(s, LOG_WARN, text, e);
}

/* A window or a recheck is complete; <step> NULL: nothing was read. */
static bool move_base(struct source *s, const struct method_step *step, struct err *e)
{
    const struct step *own = step != NULL ? step->own : NULL;
    const struct increment_poll poll = {
        .is_recheck = step != NULL && step->is_recheck,
        .xmax = s->facts.snapshot.xmax,
        .top = own != NULL && own->has_top ? &own->top : NULL,
        .fresh = own != NULL ? &own->fresh : NULL,
        .lookback = method_increment_lookback(s),
        .keeps = s->config->recheck_ms > 0,
    };

    return increment_advance(&s->position.increment, &s->position.horizon, &poll) ||
           err_memory(e);
}

/* A recheck is complete: all rows were read, as by a poll by xmin. */
static bool finish_recheck(struct source *s, const struct method_step *step, struct err *e)
{
    struct increment *i = &s->position.increment;
    const struct step *own = step->own;

    if (i->column != NULL && !tell_of_late(s, own->late, e))
        return false;
    if (step->hand_over == METHOD_GIVES) {
        increment_fini(i); /* what is left is a position of xmins */
        return true;
    }
    if (step->hand_over == METHOD_TAKES) {
        i->base = INCREMENT_LOWEST;
        if (!method_increment_set_column(s, e))
            return false;
    }
    i->rechecked_ms = clock_wall_ms();
    if (!move_base(s, step, e))
        return false;
    hinted_advance(s);
    /* for the rows that were left, the next poll is a recheck too */
    i->is_rechecking = i->is_rechecking || step->has_left;
    return true;
}

static bool advance(struct source *s, struct method_step *step, struct err *e)
{
    struct step *own = step->own;

    step->goes_on = step->hand_over == METHOD_GIVES; /* next is the poll that the source asks for */
    /* this poll completes those that ended early: their xids count as delivered by it */
    for (size_t i = 0; i < s->position.n_resume_points; i++)
        if (!increment_add_first(&own->fresh, s->position.resume_points[i].xid, INCREMENT_LOWEST,
                                 INCREMENT_LOWEST))
            return err_memory(e);
    return method_move_horizon(s, step, e) &&
           (step->is_recheck ? finish_recheck(s, step, e) : move_base(s, step, e));
}

static bool rise(struct source *s, struct err *e)
{
    return s->position.increment.column == NULL || move_base(s, NULL, e);
}

const struct method method_increment = {
    .capture = CONFIG_BY_INCREMENT,
    .without_xmin = &method_pages,
    .report = ", by column ",
    .by_index = true,
    .check_health = check_health,
    .put_try = put_try,
    .holds = holds,
    .stays = method_increment_has_column,
    .oldest_xid = oldest_xid,
    .wants_poll = wants_recheck,
    .due_ms = due_ms,
    .step_size = sizeof(struct step),
    .step_fini = fini_step,
    .range = { .put = method_put_range, .take = method_take_range },
    .reread = { .put = method_put_reread, .take = method_take_reread },
    .leaf = { .put = put_leaf, .take = take_leaf, .reads_all = true },
    .xids = { .put = method_put_xids, .take = method_take_xid },
    .begin = begin,
    .advance = advance,
    .rise = rise,
};
