/* sql_increment.c -- the SQL of capture = "increment".
 *
 * The window must go by the index whatever the planner believes: the caller
 * turns sequential scans off for it.
 *
 * SPDX-License-Identifier: MIT */
#include "capture/sql_increment.h"

#include <inttypes.h>

#define DAY_US INT64_C(86400000000)
#define FIRST_DAY (-2440588) /* of the types date and timestamp, 4714-11-24 BC */

static void put_xmin(struct buf *b, const struct sql_query *q)
{
    sql_put_ident(b, q->table->name);
    buf_puts(b, ".xmin");
}

static void put_column(struct buf *b, const struct sql_increment_query *q)
{
    sql_put_ident(b, q->query.table->name);
    buf_putc(b, '.');
    sql_put_ident(b, q->column);
}

/* <value>, an expression of the column's type, as a number. */
static void put_number(struct buf *b, const struct sql_increment_query *q, const char *value)
{
    if (q->growth == INCREMENT_GROWS_NOT) {
        buf_puts(b, "NULL::bigint");
        return;
    }
    if (q->growth == INCREMENT_INTEGER) {
        buf_printf(b, "(%s)::bigint", value);
        return;
    }
    buf_printf(b, "CASE WHEN isfinite(%s) THEN ", value);
    if (q->growth == INCREMENT_DATE)
        buf_printf(b, "(%s - date '1970-01-01')::bigint", value);
    else
        buf_printf(b, "least(extract(epoch FROM %s) * 1000000, 9223372036854775807)::bigint",
                   value); /* the last thirty years of all do not fit */
    buf_printf(b, " WHEN %s IS NOT NULL THEN CASE WHEN %s > '1970-01-01'"
               " THEN 9223372036854775807 ELSE -9223372036854775808 END END", value, value);
}

static void put_value(struct buf *b, const struct sql_increment_query *q)
{
    struct buf column;

    buf_init(&column, BUF_SQL_MAX);
    put_column(&column, q);
    if (buf_ok(&column))
        put_number(b, q, column.data);
    else
        b->failed = true;
    buf_fini(&column);
}

/* A number as a constant that the column can be compared with. */
static void put_constant(struct buf *b, enum increment_growth growth, int64_t n)
{
    int64_t rest = n % DAY_US;
    int64_t days = n / DAY_US - (rest < 0), us = rest + (rest < 0 ? DAY_US : 0);
    static const char *const types[] = { "bigint", "bigint", "date", "timestamp", "timestamptz" };

    if (growth >= INCREMENT_DATE && (growth == INCREMENT_DATE ? n : days) < FIRST_DAY)
        n = INT64_MIN; /* a lookback may lead further back than there are dates */
    if (growth >= INCREMENT_DATE && (n == INT64_MAX || n == INT64_MIN)) {
        buf_printf(b, "'%sinfinity'::%s", n < 0 ? "-" : "", types[growth]);
        return;
    }

    switch (growth) {
    case INCREMENT_GROWS_NOT:
    case INCREMENT_INTEGER:
        buf_printf(b, "'%" PRId64 "'::bigint", n);
        return;
    case INCREMENT_DATE:
        buf_printf(b, "(date '1970-01-01' + %" PRId64 ")", n);
        return;
    case INCREMENT_TIMESTAMP:
    case INCREMENT_TIMESTAMPTZ:
        buf_printf(b, "(%s '1970-01-01' + make_interval(days => %" PRId64 ", secs => %" PRId64
                   ".%06d))", types[growth], days, us / 1000000, (int)(us % 1000000));
        return;
    }
}

const struct result_shape sql_increment_top_shape = { "the column's highest value", "I", 1, 1 };

void sql_increment_top(struct buf *b, const struct sql_increment_query *q)
{
    buf_puts(b, "SELECT ");
    put_number(b, q, "top");
    buf_puts(b, " FROM (SELECT max(");
    put_column(b, q);
    buf_puts(b, ") AS top");
    sql_put_from(b, &q->query, NULL);
    if (q->growth == INCREMENT_INTEGER) {
        buf_puts(b, "true");
    } else {
        buf_puts(b, "isfinite(");
        put_column(b, q);
        buf_putc(b, ')');
    }
    buf_puts(b, ") AS highest");
}

const struct result_shape sql_increment_health_shape = {
    "the indexes of the table", "t", 0, RESULT_MANY,
};

void sql_increment_health(struct buf *b, const struct sql_increment_query *q)
{
    const struct relation *t = q->query.table;

    buf_puts(b, "SELECT c.oid::regclass FROM pg_class c WHERE c.oid = ANY ('{");
    for (size_t i = 0; i < t->n_leaves; i++)
        buf_printf(b, "%s%" PRIu32, i > 0 ? "," : "", t->leaves[i].oid);
    buf_puts(b, "}'::oid[]) AND NOT EXISTS (SELECT FROM pg_index i"
                " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]"
                " JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam"
                " WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL"
                " AND m.amname = 'btree' AND a.attname = ");
    sql_put_literal(b, q->column);
    buf_puts(b, ") ORDER BY 1::text");
}

void sql_increment_put_value(struct buf *b, const struct sql_increment_query *q)
{
    buf_puts(b, ", ");
    put_value(b, q);
}

/* <leaf>: NULL for a poll of the whole table. */
static void put_select(struct buf *b, const struct sql_increment_query *q,
                       const struct relation_leaf *leaf)
{
    buf_puts(b, "COPY (SELECT ");
    put_xmin(b, &q->query);
    sql_increment_put_value(b, q);
    if (leaf == NULL)
        sql_put_fingerprint(b, &q->query);
    sql_put_columns(b, &q->query);
    sql_put_from(b, &q->query, leaf);
}

static void put_rest(struct buf *b, const struct sql_increment_query *q)
{
    sql_put_where(b, &q->query);
    sql_put_order(b, &q->query);
    buf_puts(b, ") TO STDOUT");
}

void sql_increment_window(struct buf *b, const struct sql_increment_query *q,
                          const struct position *p)
{
    put_select(b, q, NULL);
    if (p->increment.base == INCREMENT_LOWEST) {
        buf_puts(b, "true");
    } else {
        put_column(b, q);
        buf_puts(b, " >= ");
        put_constant(b, q->growth, p->increment.base);
    }
    sql_put_known_leaves(b, &q->query, p);
    sql_put_after_resume_points(b, &q->query, p);
    put_rest(b, q);
}

/* For a recheck: leaves out what a window that ended early has delivered, which has values at or
 * above its base. */
static void put_after_window(struct buf *b, const struct sql_increment_query *q,
                             const struct position *p)
{
    if (p->n_resume_points == 0 || q->growth == INCREMENT_GROWS_NOT)
        return; /* then nobody can tell what was above the base, and some rows come again */
    buf_puts(b, " AND ((");
    put_column(b, q);
    buf_puts(b, " >= ");
    put_constant(b, q->growth, p->increment.base);
    buf_puts(b, ") IS NOT TRUE OR (true");
    sql_put_after_resume_points(b, &q->query, p);
    buf_puts(b, "))");
}

void sql_increment_put_unseen(struct buf *b, const struct sql_increment_query *q,
                              const struct position *p)
{
    if (position_resumes_window(p))
        put_after_window(b, q, p);
    else
        sql_put_after_resume_points(b, &q->query, p);
}

void sql_increment_recheck(struct buf *b, const struct sql_increment_query *q,
                           const struct position *p)
{
    put_select(b, q, NULL);
    sql_put_since(b, &q->query, p, position_scan_horizon(p).floor);
    sql_increment_put_unseen(b, q, p);
    put_rest(b, q);
}

static void put_page_select(struct buf *b, const struct sql_increment_query *q)
{
    put_value(b, q);
    sql_put_columns(b, &q->query);
    sql_put_from(b, &q->query, NULL);
}

static void put_page_order(struct buf *b, const struct sql_increment_query *q)
{
    sql_put_where(b, &q->query);
    buf_puts(b, " ORDER BY ");
    put_column(b, q);
    buf_puts(b, ", ");
    sql_put_key(b, &q->query, false);
}

void sql_increment_page(struct buf *b, const struct sql_increment_query *q,
                        const struct position *p)
{
    const struct pages *g = &p->pages;
    bool is_bounded = p->phase == POSITION_POLL && p->increment.base != INCREMENT_LOWEST;

    buf_puts(b, "COPY (SELECT ");
    put_page_select(b, q);
    if (g->reached_key != NULL) {
        buf_putc(b, '(');
        put_column(b, q);
        buf_puts(b, ", ");
        sql_put_key(b, &q->query, false);
        buf_puts(b, ") > (");
        put_constant(b, q->growth, g->reached);
        buf_puts(b, ", ");
        sql_put_kept_key(b, &q->query, g->reached_key);
        buf_putc(b, ')');
    } else if (is_bounded) {
        put_column(b, q);
        buf_puts(b, " >= ");
        put_constant(b, q->growth, p->increment.base);
    } else {
        put_column(b, q);
        buf_puts(b, " IS NOT NULL");
    }
    put_page_order(b, q);
    buf_printf(b, " FETCH FIRST %d ROWS WITH TIES) TO STDOUT", PAGES_ROWS);
}

void sql_increment_try(struct buf *b, const struct sql_increment_query *q)
{
    buf_puts(b, "SELECT ");
    put_page_select(b, q);
    buf_puts(b, "false");
    put_page_order(b, q);
}

void sql_increment_leaf(struct buf *b, const struct sql_increment_query *q,
                        const struct relation_leaf *leaf)
{
    put_select(b, q, leaf);
    buf_puts(b, "true");
    sql_put_where(b, &q->query);
    buf_puts(b, ") TO STDOUT");
}
