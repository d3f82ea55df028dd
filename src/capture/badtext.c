/* badtext.c -- which column holds text that cannot be sent.
 * SPDX-License-Identifier: MIT */
#include "capture/badtext.h"

#include <string.h>

static bool is_refusal(const struct err *e)
{
    return e->code == ERR_SQL && strcmp(e->sqlstate, "22021") == 0;
}

/* A statement that fails as the COPY did if the column holds such bytes. */
static void put_try(struct buf *b, const struct sql_query *q, const struct rowtype_column *column)
{
    buf_puts(b, "SELECT pg_catalog.count(pg_catalog.convert_from(pg_catalog.textsend(");
    sql_put_ident(b, column->name);
    buf_puts(b, "::pg_catalog.text), 'UTF8'))");
    sql_put_from(b, q, NULL);
    buf_puts(b, "true");
    sql_put_where(b, q);
}

void badtext_name_column(struct conn *conn, const struct sql_query *q, bool rls, struct err *e)
{
    bool ok = is_refusal(e) && q->rowtype != NULL;

    for (size_t i = 0; ok && i < q->rowtype->n_columns; i++) {
        const struct rowtype_column *column = &q->rowtype->columns[i];
        struct err found = { 0 };
        struct buf b;

        if (column->kind != TYPES_TEXT && column->kind != TYPES_JSON)
            continue;
        buf_init(&b, BUF_SQL_MAX);
        sql_begin(&b, q->table, rls, conn_version(conn));
        put_try(&b, q, column);
        ok = buf_ok(&b) && conn_run(conn, b.data, NULL, NULL, 0, &found);
        buf_fini(&b);
        conn_rollback(conn);
        if (is_refusal(&found))
            err_prefix(e, "column %s", column->name);
    }
}
