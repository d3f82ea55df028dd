/* begin.c -- what is true when a poll or a range begins.
 * SPDX-License-Identifier: MIT */
#include "capture/begin.h"

#include "base/text.h"
#include "capture/sql_parts.h"
#include "capture/sql_round.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void drop_snapshot(struct begin_facts *f)
{
    free((char *)f->snapshot.text);
    f->snapshot = (struct horizon_snapshot){ 0 };
}

void begin_facts_fini(struct begin_facts *f)
{
    drop_snapshot(f);
    horizon_forget_in_doubt(&f->in_doubt);
    relation_fini(&f->table);
    rowtype_unref(f->rowtype);
    f->rowtype = NULL;
}

/* Runs <sql>, which it frees, for <n> results. */
static bool run(struct conn *conn, struct buf *sql, const struct result_shape *shapes,
                struct result **rows, size_t n, struct err *e)
{
    bool ok = buf_ok(sql) ? conn_run(conn, sql->data, shapes, rows, n, e) : err_memory(e);

    buf_fini(sql);
    return ok;
}

static struct relation_allowed allowed(const struct config *c, bool by_value)
{
    return (struct relation_allowed){ .no_xmin = by_value, .row_security = c->rls };
}

bool begin_resolve(struct begin_facts *f, struct conn *conn, const struct config *c,
                   bool by_value, struct err *e)
{
    struct result *rows = NULL;
    struct buf sql;
    bool ok;

    buf_init(&sql, BUF_SQL_MAX);
    sql_resolve(&sql, c->table);
    ok = run(conn, &sql, &sql_resolve_shape, &rows, 1, e) &&
         relation_read_name(&f->table, rows, c->table, allowed(c, by_value), e);
    result_free(rows);
    return ok;
}

static bool take_snapshot(struct begin_facts *f, const char *snapshot, struct err *e)
{
    char *text = strdup(snapshot);

    if (text == NULL)
        return err_memory(e);
    drop_snapshot(f);
    if (horizon_parse_snapshot(&f->snapshot, text))
        return true;
    err_set(e, ERR_ANSWER, "the server's snapshot cannot be read: \"%.200s\"", text);
    free(text);
    f->snapshot = (struct horizon_snapshot){ 0 };
    return false;
}

bool begin_share(struct begin_facts *to, const struct begin_facts *from, bool is_full,
                 struct err *e)
{
    if (!take_snapshot(to, from->snapshot.text, e))
        return false;
    if (is_full)
        to->identity = from->identity;
    else
        identity_share_glance(&to->identity, &from->identity);
    to->identity.xmax = to->snapshot.xmax;
    return true;
}

/* Reads the row of sql_glance or, if <is_full>, of sql_facts. */
static bool read_facts(struct begin_facts *f, const struct result *r, bool is_full, struct err *e)
{
    if (!take_snapshot(f, result_text(r, 0, 0), e))
        return false;
    if (!(is_full ? identity_read : identity_read_glance)(&f->identity, r, 1, e))
        return false;
    f->identity.xmax = f->snapshot.xmax;
    return true;
}

static bool ask(struct begin_facts *f, struct conn *conn, bool is_full, struct err *e)
{
    struct result *rows = NULL;
    struct buf sql;
    bool ok;

    buf_init(&sql, BUF_SQL_MAX);
    (is_full ? sql_facts : sql_glance)(&sql);
    ok = run(conn, &sql, is_full ? &sql_facts_shape : &sql_glance_shape, &rows, 1, e) &&
         read_facts(f, rows, is_full, e);
    result_free(rows);
    return ok;
}

bool begin_glance(struct begin_facts *f, struct conn *conn, struct err *e)
{
    return ask(f, conn, false, e);
}

bool begin_identify(struct begin_facts *f, struct conn *conn, struct err *e)
{
    return ask(f, conn, true, e);
}

bool begin_unlocked(struct begin_facts *f, struct conn *conn, const char *more,
                    const struct result_shape *shapes, struct result **rows, size_t n,
                    struct err *e)
{
    struct result_shape all[1 + BEGIN_MORE] = { sql_facts_shape };
    struct result *results[1 + BEGIN_MORE] = { NULL };
    struct buf sql;
    bool ok;

    assert(n <= BEGIN_MORE);
    for (size_t i = 0; i < n; i++)
        all[1 + i] = shapes[i];
    buf_init(&sql, BUF_SQL_MAX);
    sql_round_begin(&sql, conn_version(conn));
    sql_facts(&sql);
    buf_puts(&sql, more);
    ok = run(conn, &sql, all, results, 1 + n, e) && read_facts(f, results[0], true, e);
    result_free(results[0]);
    for (size_t i = 0; i < n; i++)
        rows[i] = results[1 + i];
    return ok;
}

static bool ask_parts(const struct begin_facts *f, struct conn *conn, struct result **parts,
                      struct err *e)
{
    struct buf sql;

    buf_init(&sql, BUF_SQL_MAX);
    sql_parts(&sql, &f->table);
    return run(conn, &sql, &sql_parts_shape, parts, 1, e);
}

static bool read_rowtype(struct begin_facts *f, struct conn *conn, const struct result *columns,
                         const struct config *c, struct err *e)
{
    struct rowtype_answers answers = { columns, NULL };
    struct result *parts = NULL;
    struct rowtype *rowtype;

    if (rowtype_has_parts(columns) && !ask_parts(f, conn, &parts, e))
        return false;
    answers.parts = parts;
    rowtype = rowtype_read(&f->table, &answers, c, &f->identity, e);
    result_free(parts);
    if (rowtype == NULL)
        return false;
    if (f->rowtype != NULL && rowtype_equal(rowtype, f->rowtype)) {
        rowtype_unref(rowtype);
        return true;
    }
    rowtype_unref(f->rowtype);
    f->rowtype = rowtype;
    f->is_new_rowtype = true;
    return true;
}

/* The growing column that <config> names must be there; that of the position may be missing, or be
 * of another type now. */
static bool read_growth(struct begin_facts *f, const struct result *columns,
                        const struct config *c, const char *column, struct err *e)
{
    struct err ignored;

    f->growth = INCREMENT_GROWS_NOT;
    if (c->column != NULL && !rowtype_read_growth(&f->table, columns, c->column, &f->growth, e))
        return false;
    if (column != NULL && !rowtype_read_growth(&f->table, columns, column, &f->growth, &ignored))
        f->growth = INCREMENT_GROWS_NOT;
    return true;
}

/* ---- which xids were under way ---- */

/* Reads the answer to sql_open into <open>, which is part of <d>. *is_other: the answer comes from
 * another run of the server than what <d> knew. */
static bool read_open(const struct result *r, struct horizon_in_doubt *d,
                      struct horizon_open *open, bool *is_other, struct err *e)
{
    const char *list = result_text(r, 0, 2);
    uint64_t xid, before = 0;
    char now[128];

    snprintf(now, sizeof now, "%s", result_text(r, 0, 1));
    *is_other = *d->run != '\0' && strcmp(d->run, now) != 0;
    snprintf(d->run, sizeof d->run, "%s", now);
    open->xmax = result_u64(r, 0, 0);
    xidset_fini(&open->xids);
    for (; list != NULL && *list != '\0'; list += *list == ',', before = xid) {
        if (!text_read_u64(&list, NULL, &xid) || xid <= before || xid >= open->xmax ||
            (*list != ',' && *list != '\0'))
            return err_set(e, ERR_ANSWER, "the server's list of xids that are under way cannot be "
                           "read");
        if (!xidset_add(&open->xids, xid))
            return err_memory(e);
    }
    return true;
}

/* Asks before the snapshot is taken. An xid that is over stays over in the same run of the server,
 * so those are asked about that were not known to be over. */
static bool ask_before(struct begin_facts *f, struct conn *conn, struct err *e)
{
    struct horizon_in_doubt *d = &f->in_doubt;
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
        ok = run(conn, &sql, &sql_open_shape, &rows, 1, e) &&
             read_open(rows, d, &d->before, &is_other, e);
        result_free(rows);
    } while (ok && is_other);
    if (!ok)
        conn_rollback(conn);
    return ok;
}

/* Reads what was asked in the transaction, right after its snapshot was taken. */
static bool read_after(struct begin_facts *f, const struct result *r, struct err *e)
{
    struct horizon_in_doubt *d = &f->in_doubt;
    bool is_other;
    bool ok = read_open(r, d, &d->after, &is_other, e);

    if (!ok || is_other)
        horizon_forget_in_doubt(d);
    return ok;
}

/* True if the cluster has given out no xid twice: then nothing is asked, since no xid that a row
 * can bear is in doubt. */
static bool is_young(struct begin_facts *f)
{
    if (f->snapshot.xmax == 0 || f->snapshot.xmax > UINT32_MAX)
        return false;
    horizon_forget_in_doubt(&f->in_doubt);
    f->in_doubt.before.xmax = f->snapshot.xmax;
    return true;
}

/* ---- the transaction ---- */

/* Another session that locks several tables in another order than we do may wait for us while we
 * wait for it. So while we hold locks we wait for less time than the usual deadlock_timeout, so
 * that the other session never gets the deadlock error. After that we wait for each lock alone, and
 * hold no other meanwhile. */
#define PATIENCE "'400ms'"

static bool wait_for_locks(struct conn *conn, const struct begin_request *r, struct err *e)
{
    bool ok = true;

    conn_rollback(conn);
    for (size_t i = 0; ok && i < r->n_locked; i++) {
        struct buf sql;

        buf_init(&sql, BUF_SQL_MAX);
        sql_unlimited(&sql, conn_version(conn));
        sql_lock(&sql, r->locked[i]);
        buf_puts(&sql, "COMMIT");
        ok = run(conn, &sql, NULL, NULL, 0, e);
    }
    if (!ok)
        conn_rollback(conn);
    return ok;
}

/* Appends what opens the transaction, or, if another source has opened it, sets it up for this
 * one. */
static void put_begin(struct buf *sql, const struct begin_facts *f, int version,
                      const struct begin_request *r)
{
    if (r->leader != NULL) {
        sql_switch(sql, r->config->rls, false);
        return;
    }
    sql_begin(sql, &f->table, r->config->rls, version);
    if (r->snapshot != NULL)
        buf_printf(sql, "SET TRANSACTION SNAPSHOT '%s';", r->snapshot);
    if (r->n_locked < 2)
        return;
    buf_puts(sql, "SET LOCAL lock_timeout = " PATIENCE ";");
    for (size_t i = 0; i < r->n_locked; i++)
        if (r->locked[i] != &f->table)
            sql_lock(sql, r->locked[i]);
    buf_puts(sql, "SET LOCAL lock_timeout = 0;");
}

/* Finds out, before the snapshot is taken, what must be known of it. *asks: the transaction is to
 * ask which xids are under way. */
static bool prepare(struct begin_facts *f, struct conn *conn, const struct begin_request *r,
                    bool *asks, struct err *e)
{
    *asks = false;
    if (r->leader != NULL)
        return horizon_copy_in_doubt(&f->in_doubt, &r->leader->in_doubt) || err_memory(e);
    *asks = !is_young(f);
    return !*asks || ask_before(f, conn, e);
}

enum { OPEN, FACTS, RELATION, LEAVES, COLUMNS, MORE, N };

/* Opens the transaction and asks for the facts. <rows>: room for N results; the caller frees those
 * that are set. <asks>: asks which xids are under way, too. */
static bool open_and_ask(struct begin_facts *f, struct conn *conn, const struct begin_request *r,
                         bool asks, struct result **rows, struct err *e)
{
    const struct result_shape shapes[N] = {
        sql_open_shape, sql_facts_shape, sql_table_shapes[0], sql_table_shapes[1],
        sql_table_shapes[2],
        r->more != NULL ? *r->shape : (struct result_shape){ NULL, "", 0, 0 },
    };
    size_t first = asks ? OPEN : FACTS, end = r->more != NULL ? N : MORE;
    struct buf sql;

    buf_init(&sql, BUF_SQL_MAX);
    put_begin(&sql, f, conn_version(conn), r);
    if (asks)
        sql_open(&sql, f->in_doubt.before.xmax, &f->in_doubt.before.xids);
    sql_facts(&sql);
    sql_table(&sql, &f->table, r->with_sizes);
    buf_puts(&sql, r->more != NULL ? r->more : "");
    if (r->by_index)
        buf_puts(&sql, "SET LOCAL enable_seqscan = off");
    return run(conn, &sql, shapes + first, rows + first, end - first, e);
}

/* True if <e> says that a lock did not come in time while we held others. */
static bool must_wait_for_locks(const struct begin_request *r, const struct err *e)
{
    return r->leader == NULL && r->n_locked > 1 && strcmp(e->sqlstate, "55P03") == 0;
}

bool begin_transaction(struct begin_facts *f, struct conn *conn, const struct begin_request *r,
                       struct err *e)
{
    const struct config *c = r->config;
    struct result *rows[N] = { NULL };
    uint64_t xmax = f->identity.xmax; /* as it was */
    bool asks, ok;

    do
        ok = prepare(f, conn, r, &asks, e) && open_and_ask(f, conn, r, asks, rows, e);
    while (!ok && must_wait_for_locks(r, e) && wait_for_locks(conn, r, e));
    ok = ok && read_facts(f, rows[FACTS], true, e) &&
         (!asks || read_after(f, rows[OPEN], e)) &&
         relation_read_facts(&f->table, rows[RELATION], rows[LEAVES],
                             allowed(c, r->by_value), e) &&
         read_rowtype(f, conn, rows[COLUMNS], c, e) &&
         read_growth(f, rows[COLUMNS], c, r->column, e);
    if (ok && r->snapshot != NULL && f->identity.xmax < xmax) /* it tells of commits only */
        f->identity.xmax = xmax;
    if (r->more != NULL)
        *r->answer = rows[MORE];
    for (size_t i = 0; i < MORE; i++)
        result_free(rows[i]);
    if (!ok)
        conn_rollback(conn);
    return ok;
}
