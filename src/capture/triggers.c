/* triggers.c -- what is installed for a table.
 * SPDX-License-Identifier: MIT */
#include "capture/triggers.h"

#include "capture/sql_trigger.h"

#include <stdlib.h>
#include <string.h>

void triggers_fini(struct triggers *t)
{
    free(t->labels);
    free(t->columns);
    *t = (struct triggers){ 0 };
}

bool triggers_read(struct triggers *t, const struct result *r, struct err *e)
{
    enum { NUMBER, SINCE, PRUNED, NOTIFY, LABELS, COLUMNS };

    triggers_fini(t);
    if (result_count(r) == 0)
        return true;
    t->number = result_u64(r, 0, NUMBER);
    t->since = result_u64(r, 0, SINCE);
    t->pruned = result_u64(r, 0, PRUNED);
    t->notifies = result_bool(r, 0, NOTIFY);
    t->labels = strdup(result_text(r, 0, LABELS));
    t->columns = strdup(result_text(r, 0, COLUMNS));
    return (t->labels != NULL && t->columns != NULL) || err_memory(e);
}

bool triggers_ask(struct triggers *t, const struct relation *table, struct conn *conn,
                  struct err *e)
{
    struct result *rows = NULL;
    struct buf sql;
    bool ok = conn_run(conn, sql_trigger_readable, &sql_trigger_readable_shape, &rows, 1, e);
    bool is_readable = ok && result_bool(rows, 0, 0);

    result_free(rows);
    triggers_fini(t);
    if (!is_readable)
        return ok;
    rows = NULL;
    buf_init(&sql, BUF_SQL_MAX);
    sql_trigger_installed(&sql, table);
    ok = buf_ok(&sql) ? conn_run(conn, sql.data, &sql_trigger_installed_shape, &rows, 1, e)
                      : err_memory(e);
    buf_fini(&sql);
    ok = ok && triggers_read(t, rows, e);
    result_free(rows);
    return ok;
}

bool triggers_know_key(const struct triggers *t, const struct rowtype *rowtype)
{
    size_t len;

    for (size_t k = 0; k < rowtype->n_key; k++)
        if (t->labels == NULL || sql_trigger_label(t->labels, t->columns,
                                                   rowtype->columns[rowtype->key[k]].name,
                                                   &len) == NULL)
            return false;
    return true;
}
