/* method_xmin.c -- capture = "xmin": changes are found by the xmin of rows.
 *
 * The capture rule of horizon.h as it stands. Its position is the common one: so it holds any
 * position, and has nothing to do to hand over.
 *
 * SPDX-License-Identifier: MIT */
#include "capture/hinted.h"
#include "capture/method.h"

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
    sql_hints_poll(sql, &q, &s->position, &s->hints.rule);
}

static const struct method_copy poll = { .put = put_poll, .take = take_row };

static const struct method_copy poll_of_blocks = { .put = put_blocks, .take = take_row };

static bool begin(struct source *s, struct method_step *step, struct conn *conn, struct err *e)
{
    const struct sql_query q = method_query(s);

    if (!hinted_begin(s, &q, conn, e))
        return false;
    step->copy = s->hints.is_used ? &poll_of_blocks : &poll;
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
