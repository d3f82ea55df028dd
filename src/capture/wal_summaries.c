/* wal_summaries.c -- what summaries of the WAL have of a source, where the WAL itself is not read.
 * SPDX-License-Identifier: MIT */
#include "capture/wal_summaries.h"

#include "pg/sqlstate.h"

#include <stdlib.h>

#define FIRST_VERSION 170000

/* Runs <sql>, which it frees. *is_done false: it was refused, and the transaction is as before. */
static bool ask(struct conn *conn, struct buf *sql, const struct result_shape *shapes,
                struct result **rows, size_t n, bool *is_done, struct err *e)
{
    *is_done = buf_ok(sql) ? conn_run(conn, sql->data, shapes, rows, n, e) : err_memory(e);
    buf_fini(sql);
    return *is_done || (!sqlstate_ends_transaction(e) &&
                        conn_run(conn, sql_hints_undo, NULL, NULL, 0, e));
}

/* The summaries that take the place of WAL from R on; owned by the caller. *n 0: none. */
static bool list(const struct source *s, struct conn *conn, struct hints_summary **summaries,
                 size_t *n, uint64_t *end, struct err *e)
{
    const struct hints *h = &s->hints.rule;
    struct result *r = NULL;
    bool ok, is_done;
    struct buf sql;

    *n = 0;
    buf_init(&sql, BUF_SQL_MAX);
    sql_hints_summaries(&sql, s->facts.identity.timeline, h->read_to);
    ok = ask(conn, &sql, &sql_hints_summaries_shape, &r, 1, &is_done, e);
    if (ok && is_done) {
        *n = result_count(r);
        *summaries = calloc(*n + 1, sizeof **summaries);
        if (*summaries == NULL)
            ok = err_memory(e);
        for (size_t i = 0; ok && i < *n; i++)
            (*summaries)[i] = (struct hints_summary){ result_u64(r, i, 0), result_u64(r, i, 1) };
        if (ok)
            *end = hints_cover(*summaries, n, h->read_to);
    }
    result_free(r);
    return ok;
}

/* Takes the answers to sql_hints_summarized, of <n> of them. */
static bool take(struct source *s, struct result *const *rows, size_t n, uint64_t end,
                 struct err *e)
{
    struct hints *h = &s->hints.rule;
    int64_t age = 0;

    if (result_count(rows[0]) + h->n_pairs > HINTS_MOST_PAIRS)
        return true;
    for (size_t i = 0; i < result_count(rows[0]); i++)
        if (!hints_add_summarized(h, result_u32(rows[0], i, 0),
                                  (uint32_t)result_u64(rows[0], i, 1)))
            return err_memory(e);
    (void)result_i64(rows[1], 0, 1, &age);
    hints_have_summaries(h, end, hints_next_xid(result_u64(rows[1], 0, 0), age));
    s->hints.n_summaries = n;
    return true;
}

bool wal_summaries_read(struct source *s, struct conn *conn, struct err *e)
{
    struct result *rows[SQL_HINTS_SUMMARIZED] = { NULL };
    struct result_shape shapes[SQL_HINTS_SUMMARIZED];
    struct hints_summary *summaries = NULL;
    bool ok, is_done;
    struct buf sql;
    uint64_t end = 0;
    size_t n;

    if (conn_version(conn) < FIRST_VERSION)
        return true;
    ok = list(s, conn, &summaries, &n, &end, e);
    if (ok && n > 0) {
        buf_init(&sql, BUF_SQL_MAX);
        sql_hints_summarized(&sql, &s->hints.rule, s->facts.identity.timeline, summaries, n,
                             shapes);
        ok = ask(conn, &sql, shapes, rows, SQL_HINTS_SUMMARIZED, &is_done, e) &&
             (!is_done || take(s, rows, n, end, e));
    }
    free(summaries);
    for (size_t i = 0; i < SQL_HINTS_SUMMARIZED; i++)
        result_free(rows[i]);
    return ok;
}
