/* method_xmin.c -- capture = "xmin": changes are found by the xmin of rows.
 *
 * The capture rule of horizon.h as it stands. Its position is the common one: so it holds any
 * position, and has nothing to do to hand over.
 *
 * SPDX-License-Identifier: MIT */
#include "capture/hinted.h"
#include "capture/method.h"
#include "capture/sql_parallel.h"

static bool holds(const struct position *p)
{
    (void)p;
    return true;
}

static uint64_t oldest_xid(const struct position *p)
{
    return p->horizon.floor;
}

static void put_poll(const struct source *s, const struct method_extent *extent, struct buf *sql)
{
    const struct sql_query q = method_query(s);

    (void)extent;
    sql_poll(sql, &q, &s->position);
}

static bool take_row(const struct source *s, struct method_step *step, struct method_row *row,
                     struct err *e)
{
    if (!method_take_xmin(s, row, false, e))
        return false;
    if (row->fate == METHOD_LEAVE)
        return true;
    if (!horizon_is_new(&s->position.horizon, row->xid)) {
        row->fate = METHOD_SKIP;
        return true;
    }
    return xidset_add(&step->delivered, row->xid) || err_memory(e);
}

static void put_blocks(const struct source *s, const struct method_extent *extent, struct buf *sql)
{
    const struct sql_query q = method_query(s);

    (void)extent;
    sql_hints_poll(sql, &q, NULL, &s->position, &s->hints.rule);
}

static const struct method_copy poll = { .put = put_poll, .take = take_row };

static const struct method_copy poll_of_blocks = { .put = put_blocks, .take = take_row };

static void put_parallel(const struct source *s, const struct method_extent *extent,
                         struct buf *sql)
{
    const struct sql_query q = method_query(s);

    (void)extent;
    sql_parallel_poll(sql, &q, &s->position, &s->facts.snapshot);
}

static const struct method_copy parallel_poll = { .put = put_parallel, .take = take_row };

/* How the workers share in what the transaction reads from now on. */
static bool set_workers(const struct source *s, struct conn *conn, struct err *e)
{
    unsigned n = s->hints.is_used ? 0 : s->config->parallel;
    struct buf sql;
    bool ok;

    if (n == 0 && s->n_locked < 2) /* no other source has set it */
        return true;
    buf_init(&sql, BUF_SQL_MAX);
    sql_parallel_set(&sql, n);
    ok = buf_ok(&sql) ? conn_run(conn, sql.data, NULL, NULL, 0, e) : err_memory(e);
    buf_fini(&sql);
    return ok;
}

static bool begin(struct source *s, struct method_step *step, struct conn *conn, struct err *e)
{
    const struct sql_query q = method_query(s);

    bool can_share = s->config->parallel > 0 &&
                     sql_parallel_can(s->position.horizon.floor, &s->facts.snapshot);

    if (!hinted_begin(s, &q, conn, e) || !set_workers(s, conn, e))
        return false;
    step->copy = s->hints.is_used ? &poll_of_blocks : can_share ? &parallel_poll : &poll;
    step->is_scan = step->copy == &poll && s->config->parallel == 0; /* workers know no age() */
    return true;
}

static bool advance(struct source *s, struct method_step *step, struct err *e)
{
    if (!method_move_horizon(s, step, e))
        return false;
    hinted_advance(s);
    quiet_scanned(&s->quiet);
    source_end_poll(s);
    return true;
}

const struct method method_xmin = {
    .capture = CONFIG_BY_XMIN,
    .report = "",
    .put_try = method_put_try,
    .holds = holds,
    .oldest_xid = oldest_xid,
    .range = { .put = method_put_range, .take = method_take_range },
    .reread = { .put = method_put_reread, .take = method_take_reread },
    .leaf = { .put = method_put_leaf, .take = method_take_leaf },
    .xids = { .put = method_put_xids, .take = method_take_xid },
    .begin = begin,
    .advance = advance,
};
