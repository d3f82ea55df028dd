/* method_trigger.c -- what triggers leave on the server, for capture = "trigger".
 * SPDX-License-Identifier: MIT */
#include "capture/method_trigger.h"

#include "pg/copytext.h"

#include <string.h>

static bool refuse(const struct begin_facts *v, const char *why, struct err *e)
{
    return err_set(e, ERR_REFUSED, "%s.%s: %s", v->table.schema, v->table.name, why);
}

static bool refuse_missing(const struct begin_facts *v, struct err *e)
{
    return refuse(v, "capture = \"trigger\" finds no triggers: run `pgcdc-lua trigger "
                  "action=install table=...` first", e);
}

void stamps_explain(const struct begin_facts *v, struct err *e)
{
    if (e->code != ERR_SQL || strstr(e->msg, "pgcdc") == NULL)
        return;
    if (strcmp(e->sqlstate, "42P01") == 0 || strcmp(e->sqlstate, "3F000") == 0)
        (void)!refuse_missing(v, e);
    else if (strcmp(e->sqlstate, "42501") == 0)
        (void)!refuse(v, "this role may not read what the triggers note: run `pgcdc-lua trigger "
                      "action=install` again with readers=", e);
}

/* Is <name> one of the lines of <list>? */
static bool is_line(const char *name, const char *list)
{
    for (size_t n; *list != '\0'; list += n + (list[n] == '\n')) {
        n = strcspn(list, "\n");
        if (strlen(name) == n && strncmp(name, list, n) == 0)
            return true;
    }
    return false;
}

static bool check_marks(const struct begin_facts *v, struct err *e)
{
    const struct rowtype *s = v->rowtype;

    if (v->marks.since == 0 || !s->has_stamp)
        return refuse_missing(v, e);
    for (size_t k = 0; k < s->n_key; k++)
        if (!is_line(s->columns[s->key[k]].name, v->marks.key))
            return refuse(v, "the triggers note another key than the source's pk: run `pgcdc-lua "
                          "trigger action=install` again with pk=", e);
    return true;
}

/* The first answer to sql_trigger_health. */
enum { H_NAME, H_ROWS, H_EMPTIED, H_INDEX };

static void put_faults(const struct result *leaves, bool is_ahead, struct buf *faults)
{
    for (int i = 0; i < result_count(leaves); i++) {
        const char *name = result_text(leaves, i, H_NAME);

        if (!result_bool(leaves, i, H_ROWS))
            buf_printf(faults, "%s lacks triggers, or they are disabled: changes of it are "
                       "missed until they are installed\n", name);
        else if (!result_bool(leaves, i, H_EMPTIED))
            buf_printf(faults, "%s has no trigger for TRUNCATE, which would go unseen: install "
                       "them again\n", name);
        if (!result_bool(leaves, i, H_INDEX))
            buf_printf(faults, "%s lacks a valid index on " ROWTYPE_STAMP_COLUMN
                       ": each poll reads all of it\n", name);
    }
    if (is_ahead)
        buf_puts(faults, "some rows carry stamps that this cluster has not reached, from another "
                 "one: they count as old, until it does\n");
}

bool stamps_check(struct stamps *s, struct conn *conn, const struct begin_facts *v,
                  struct buf *faults, struct err *e)
{
    struct sql_trigger_query q = {
        .query = { .table = &v->table, .rowtype = v->rowtype },
        .number = v->marks.number,
        .xmax = v->snapshot.xmax,
    };
    struct result *rows[2] = { NULL };
    struct buf sql;
    bool ok;

    if (!check_marks(v, e))
        return false;
    if (s->is_checked && s->n_leaves == v->table.n_leaves)
        return true;
    buf_init(&sql, BUF_SQL_MAX);
    sql_trigger_health(&sql, &q);
    ok = buf_ok(&sql) ? conn_run(conn, sql.data, rows, 2, e) : err_memory(e);
    buf_fini(&sql);
    if (ok) {
        put_faults(rows[0], result_bool(rows[1], 0, 0), faults);
        s->is_checked = true;
        s->n_leaves = v->table.n_leaves;
    }
    result_free(rows[0]);
    result_free(rows[1]);
    return ok && (buf_ok(faults) || err_memory(e));
}

bool stamps_parse(const char **p, const char *end, struct stamp_row *row)
{
    uint64_t first, mark;

    if (!copytext_read_u64(p, end, &first))
        return false;
    row->stamp = 0;
    if (!copytext_skip_null(p, end) && !copytext_read_u64(p, end, &row->stamp))
        return false;
    if (!copytext_read_u64(p, end, &mark) || mark > SQL_TRIGGER_OLD)
        return false;
    row->mark = (enum sql_trigger_mark)mark;
    row->later = row->mark == SQL_TRIGGER_TOMBSTONE ? first : 0;
    row->xmin = row->mark == SQL_TRIGGER_TOMBSTONE ? 0 : (uint32_t)first;
    return true;
}
