/* sql_parallel.c -- polls by xmin whose scan parallel workers share.
 * SPDX-License-Identifier: MIT */
#include "capture/sql_parallel.h"

#include <inttypes.h>

#define MOST_XIDS 10000 /* in the list, which the server looks up by a hash of it */

bool sql_parallel_can(uint64_t floor, const struct horizon_snapshot *s)
{
    return floor >= HORIZON_FIRST_XID && floor < s->xmax && s->xmax <= UINT32_MAX &&
           s->xmax - floor <= MOST_XIDS;
}

void sql_parallel_set(struct buf *b, unsigned n)
{
    buf_printf(b, "SET LOCAL max_parallel_workers_per_gather = %u;", n);
    if (n > 0) /* xmin has no statistics, so a plan with workers would seem dear */
        buf_puts(b, "SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0");
}

static void put_xmin(struct buf *b, const struct sql_query *q)
{
    sql_put_ident(b, q->table->name);
    buf_puts(b, ".xmin");
}

void sql_parallel_poll(struct buf *b, const struct sql_query *q, const struct position *p,
                       const struct horizon_snapshot *s)
{
    buf_puts(b, "COPY (SELECT ");
    put_xmin(b, q);
    sql_put_fingerprint(b, q);
    sql_put_columns(b, q);
    sql_put_from(b, q, NULL);
    put_xmin(b, q);
    buf_puts(b, " = ANY ('{");
    for (uint64_t xid = p->horizon.floor; xid < s->xmax; xid++)
        buf_printf(b, "%s%" PRIu64, xid > p->horizon.floor ? "," : "", xid);
    buf_puts(b, "}'::xid[])");
    sql_put_known_leaves(b, q, p);
    sql_put_after_resume_points(b, q, p);
    sql_put_where(b, q);
    sql_put_order(b, q);
    buf_puts(b, ") TO STDOUT");
}
