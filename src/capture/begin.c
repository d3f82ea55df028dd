/* begin.c -- what is true when a poll or a range begins.
 * SPDX-License-Identifier: MIT */
#include "capture/begin.h"

#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void drop_snapshot(struct begin_facts *s)
{
    free((char *)s->snapshot.text);
    s->snapshot = (struct horizon_snapshot){ 0 };
}

void begin_facts_fini(struct begin_facts *s)
{
    drop_snapshot(s);
    horizon_forget_in_doubt(&s->in_doubt);
    relation_fini(&s->table);
    rowtype_unref(s->rowtype);
    s->rowtype = NULL;
}

/* Runs <sql>, which is consumed, for <n> results. */
static bool run(struct conn *conn, struct buf *sql, struct result **rows, size_t n, struct err *e)
{
    bool ok = buf_ok(sql) ? conn_run(conn, sql->data, rows, n, e) : err_memory(e);

    buf_fini(sql);
    return ok;
}

static struct relation_allowed allowed(const struct config *c, bool by_value)
{
    return (struct relation_allowed){ .no_xmin = by_value, .row_security = c->rls };
}

bool begin_resolve(struct begin_facts *s, struct conn *conn, const struct config *c,
                   bool by_value, struct err *e)
{
    struct result *rows = NULL;
    struct buf sql;
    bool ok;

    buf_init(&sql, BUF_SQL_MAX);
    sql_resolve(&sql, c->table);
    ok = run(conn, &sql, &rows, 1, e) &&
         relation_read_name(&s->table, rows, c->table, allowed(c, by_value), e);
    result_free(rows);
    return ok;
}

/* The row of a glance, or, <is_full>, of all the facts. */
static bool read_facts(struct begin_facts *s, const struct result *r, bool is_full, struct err *e)
{
    char *text = strdup(result_text(r, 0, 0));

    if (text == NULL)
        return err_memory(e);
    drop_snapshot(s);
    if (!horizon_parse_snapshot(&s->snapshot, text)) {
        err_set(e, ERR_INTERNAL, "cannot read the snapshot \"%s\"", text);
        free(text);
        s->snapshot = (struct horizon_snapshot){ 0 };
        return false;
    }
    if (!(is_full ? identity_read : identity_read_glance)(&s->identity, r, 1, e))
        return false;
    s->identity.xmax = s->snapshot.xmax;
    return true;
}

static bool ask(struct begin_facts *s, struct conn *conn, bool for_all, struct err *e)
{
    struct result *rows = NULL;
    struct buf sql;
    bool ok;

    buf_init(&sql, BUF_SQL_MAX);
    (for_all ? sql_facts : sql_glance)(&sql);
    ok = run(conn, &sql, &rows, 1, e) && read_facts(s, rows, for_all, e);
    result_free(rows);
    return ok;
}

bool begin_glance(struct begin_facts *s, struct conn *conn, struct err *e)
{
    return ask(s, conn, false, e);
}

bool begin_identify(struct begin_facts *s, struct conn *conn, struct err *e)
{
    return ask(s, conn, true, e);
}

static bool read_rowtype(struct begin_facts *s, const struct result *columns,
                         const struct config *c, struct err *e)
{
    struct rowtype *rowtype = rowtype_read(&s->table, columns, c, e);

    if (rowtype == NULL)
        return false;
    if (s->rowtype != NULL && rowtype_equal(rowtype, s->rowtype)) {
        rowtype_unref(rowtype);
        return true;
    }
    rowtype_unref(s->rowtype);
    s->rowtype = rowtype;
    return true;
}

/* The column that a position goes by may be missing, or be another one now. */
static bool read_growth(struct begin_facts *s, const struct result *columns,
                        const struct config *c, const char *column, struct err *e)
{
    struct err ignored;

    s->growth = INCREMENT_GROWS_NOT;
    if (c->column != NULL && !rowtype_read_growth(&s->table, columns, c->column, &s->growth, e))
        return false;
    if (column != NULL && !rowtype_read_growth(&s->table, columns, column, &s->growth, &ignored))
        s->growth = INCREMENT_GROWS_NOT;
    return true;
}

/* ---- which xids were under way ---- */

/* The answer to sql_open, for <open>, which is one of those of <d>. *is_other: it is of another run
 * of the server than what <d> knew. */
static bool read_open(const struct result *r, struct horizon_in_doubt *d,
                      struct horizon_open *open, bool *is_other, struct err *e)
{
    const char *list = result_text(r, 0, 2);
    char now[128];

    snprintf(now, sizeof now, "%s", result_text(r, 0, 1));
    *is_other = *d->run != '\0' && strcmp(d->run, now) != 0;
    snprintf(d->run, sizeof d->run, "%s", now);
    open->xmax = result_u64(r, 0, 0);
    xidset_fini(&open->xids);
    for (uint64_t xid; list != NULL && text_read_u64(&list, NULL, &xid); list += *list == ',')
        if (!xidset_add(&open->xids, xid))
            return err_memory(e);
    return true;
}

/* Before the snapshot is taken. What was over once is over, in the same run of the server. */
static bool ask_before(struct begin_facts *s, struct conn *conn, struct err *e)
{
    struct horizon_in_doubt *d = &s->in_doubt;
    bool is_other = false, ok;

    do {
        struct result *rows = NULL;
        struct buf sql;

        if (is_other)
            horizon_forget_in_doubt(d);
        buf_init(&sql, BUF_SQL_MAX);
        sql_unlimited(&sql, conn_version(conn));
        sql_open(&sql, d->after.xmax, &d->after.xids);
        buf_puts(&sql, "COMMIT");
        ok = run(conn, &sql, &rows, 1, e) &&
             read_open(rows, d, &d->before, &is_other, e);
        result_free(rows);
    } while (ok && is_other);
    if (!ok)
        conn_rollback(conn);
    return ok;
}

/* In the snapshot, right after it was taken. */
static bool read_after(struct begin_facts *s, const struct result *r, struct err *e)
{
    struct horizon_in_doubt *d = &s->in_doubt;
    bool is_other;
    bool ok = read_open(r, d, &d->after, &is_other, e);

    if (!ok || is_other)
        horizon_forget_in_doubt(d);
    return ok;
}

/* A young cluster has given out no xid twice: nothing is asked, and nothing below is in doubt. */
static bool is_young(struct begin_facts *s)
{
    if (s->snapshot.xmax == 0 || s->snapshot.xmax > UINT32_MAX)
        return false;
    horizon_forget_in_doubt(&s->in_doubt);
    s->in_doubt.before.xmax = s->snapshot.xmax;
    return true;
}

bool begin_transaction(struct begin_facts *s, struct conn *conn, const struct begin_request *r,
                       struct err *e)
{
    enum { OPEN, FACTS, RELATION, LEAVES, COLUMNS, MORE, N };
    const struct config *c = r->config;
    struct result *rows[N] = { NULL };
    size_t first = is_young(s) ? FACTS : OPEN, end = r->more != NULL ? N : MORE;
    struct buf sql;
    bool ok;

    if (first == OPEN && !ask_before(s, conn, e))
        return false;
    buf_init(&sql, BUF_SQL_MAX);
    sql_begin(&sql, &s->table, c->rls, conn_version(conn));
    if (first == OPEN)
        sql_open(&sql, s->in_doubt.before.xmax, &s->in_doubt.before.xids);
    sql_facts(&sql);
    sql_table(&sql, &s->table, r->with_sizes);
    buf_puts(&sql, r->more != NULL ? r->more : "");
    if (r->by_index)
        buf_puts(&sql, "SET LOCAL enable_seqscan = off");
    ok = run(conn, &sql, rows + first, end - first, e) && read_facts(s, rows[FACTS], true, e) &&
         (first != OPEN || read_after(s, rows[OPEN], e)) &&
         relation_read_facts(&s->table, rows[RELATION], rows[LEAVES],
                             allowed(c, r->by_value), e) &&
         read_rowtype(s, rows[COLUMNS], c, e) &&
         read_growth(s, rows[COLUMNS], c, r->column, e);
    if (r->more != NULL)
        *r->answer = rows[MORE];
    for (size_t i = 0; i < MORE; i++)
        result_free(rows[i]);
    if (!ok)
        conn_rollback(conn);
    return ok;
}
