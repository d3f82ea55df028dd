/* trial.c -- whether a source's columns, key and condition work at all.
 * SPDX-License-Identifier: MIT */
#include "capture/trial.h"

#include "capture/method.h"

#include <string.h>

/* The statement failed with <e>: if the reason is a column of the key whose type has no order, by
 * which pages could follow each other, replaces <e> by an error that names it. */
static void explain_order(const struct source *s, struct err *e)
{
    const struct rowtype *t = s->facts.rowtype;

    if (e->code != ERR_SQL || strcmp(e->sqlstate, "42883") != 0)
        return;
    for (size_t k = 0; k < t->n_key; k++) {
        const struct rowtype_column *column = &t->columns[t->key[k]];

        if (column->is_total || strstr(e->msg, column->type) == NULL)
            continue;
        (void)!err_set(e, ERR_REFUSED, "%s.%s: column \"%s\" of the key is of type %s, which has "
                       "no order: name other columns in pk", t->schema, t->table, column->name,
                       column->type);
        return;
    }
}

/* The same if the condition may be the reason: says what it is, since users write it. */
static void explain_where(const struct source *s, struct err *e)
{
    const struct err cause = *e;
    const char *where = s->config->where;

    if (where == NULL || e->code != ERR_SQL || strncmp(e->sqlstate, "42", 2) != 0 ||
        strcmp(e->sqlstate, "42501") == 0)
        return;
    err_set(e, cause.code, "%.500s; the condition where is %.300s%s", cause.msg, where,
            strcmp(cause.sqlstate, "42703") == 0 ? " (text stands in single quotes)" : "");
    memcpy(e->sqlstate, cause.sqlstate, sizeof e->sqlstate);
}

bool trial_query(const struct source *s, struct conn *conn, struct err *e)
{
    struct buf sql;
    bool ok;

    buf_init(&sql, BUF_SQL_MAX);
    method_of_table(s)->put_try(s, &sql);
    ok = buf_ok(&sql) ? conn_run(conn, sql.data, NULL, NULL, 0, e) : err_memory(e);
    buf_fini(&sql);
    if (!ok) {
        explain_order(s, e);
        explain_where(s, e);
    }
    return ok;
}
