/* complete_plan.c -- what the server is asked about rows that the log has brought.
 *
 * All settings are for one message, which is a transaction by itself, so that a pooler in between
 * does no harm. Our own names in a statement have a colon, so that a condition does not mean them.
 *
 * SPDX-License-Identifier: MIT */
#include "capture/complete_plan.h"

#include "capture/sql.h"
#include "pg/session.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const struct result_shape columns_shape = { "the columns of the table", "ttT", 0, 1664 };

void complete_plan_fini(struct complete_plan *p)
{
    for (size_t i = 0; i < p->n_columns; i++) {
        free(p->columns[i].name);
        free(p->columns[i].type);
        free(p->columns[i].expression);
    }
    free(p->columns);
    free(p->place);
    rowtype_unref(p->rowtype);
    *p = (struct complete_plan){ 0 };
}

/* ---- the columns ---- */

void complete_plan_put_settings(struct buf *sql, int server_version)
{
    buf_puts(sql, "SET LOCAL transaction_read_only = on;");
    session_put(sql, SESSION_UNLIMITED, server_version);
    session_put(sql, SESSION_CAPTURE, server_version);
}

static void put_columns_question(struct buf *sql, const struct source *s)
{
    buf_printf(sql, "WITH RECURSIVE base(num, typ) AS (SELECT attnum, atttypid FROM pg_attribute"
               " WHERE attrelid = %" PRIu32 " AND attnum > 0 AND NOT attisdropped"
               " UNION SELECT num, t.typbasetype FROM base JOIN pg_type t ON t.oid = typ"
               " WHERE t.typtype = 'd') SELECT a.attname, format_type(typ, -1),"
               " CASE WHEN a.attgenerated <> '' THEN (SELECT pg_get_expr(d.adbin, d.adrelid)"
               " FROM pg_attrdef d WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum) END"
               " FROM base JOIN pg_type t ON t.oid = typ AND t.typtype <> 'd' JOIN pg_attribute a"
               " ON a.attnum = num AND a.attrelid = %" PRIu32 " ORDER BY a.attnum",
               s->facts.table.oid, s->facts.table.oid);
}

static size_t find_column(const struct complete_plan *p, const char *name)
{
    for (size_t i = 0; i < p->n_columns; i++)
        if (strcmp(p->columns[i].name, name) == 0)
            return i;
    return SIZE_MAX;
}

static bool take_columns(struct complete_plan *p, struct rowtype *t, const struct result *r,
                         struct err *e)
{
    size_t n = result_count(r);

    p->columns = calloc(n + 1, sizeof *p->columns);
    p->place = calloc(t->n_columns + 1, sizeof *p->place);
    if (p->columns == NULL || p->place == NULL)
        return err_memory(e);
    for (size_t i = 0; i < n; i++) {
        struct complete_plan_column *c = &p->columns[p->n_columns++];
        const char *expression = result_text(r, i, 2);

        c->name = strdup(result_text(r, i, 0));
        c->type = strdup(result_text(r, i, 1));
        c->expression = expression != NULL ? strdup(expression) : NULL;
        c->is_computed = expression != NULL;
        if (c->name == NULL || c->type == NULL || (expression != NULL && c->expression == NULL))
            return err_memory(e);
    }
    for (size_t i = 0; i < t->n_columns; i++)
        p->place[i] = find_column(p, t->columns[i].name);
    p->rowtype = rowtype_ref(t);
    return true;
}

bool complete_plan_read(struct complete_plan *p, const struct source *s, struct rowtype *t,
                        struct conn *conn, struct err *e)
{
    struct result *rows = NULL;
    struct buf sql;
    bool ok;

    complete_plan_fini(p);
    buf_init(&sql, BUF_SQL_MAX);
    complete_plan_put_settings(&sql, conn_version(conn));
    put_columns_question(&sql, s);
    ok = buf_ok(&sql) ? conn_run(conn, sql.data, &columns_shape, &rows, 1, e) : err_memory(e);
    buf_fini(&sql);
    ok = ok && take_columns(p, t, rows, e);
    result_free(rows);
    if (!ok)
        complete_plan_fini(p);
    return ok;
}

/* ---- what is asked ---- */

bool complete_plan_is_needed(const struct source *s)
{
    const struct rowtype *t = s->facts.rowtype;

    for (size_t i = 0; i < t->n_columns; i++)
        if (t->columns[i].wants_to_json || t->columns[i].expression != NULL)
            return true;
    return s->config->where != NULL;
}

static const struct complete_plan_column *column_of(const struct complete_plan *p, size_t i)
{
    return p->place[i] != SIZE_MAX ? &p->columns[p->place[i]] : NULL;
}

bool complete_plan_wants_value(const struct complete_plan *p, size_t i)
{
    return column_of(p, i) != NULL && column_of(p, i)->is_computed;
}

bool complete_plan_wants_json(const struct complete_plan *p, size_t i)
{
    return p->rowtype->columns[i].wants_to_json && column_of(p, i) != NULL &&
           !complete_plan_wants_value(p, i);
}

bool complete_plan_needs_rows(const struct complete_plan *p, const struct source *s)
{
    for (size_t i = 0; i < p->rowtype->n_columns; i++)
        if (complete_plan_wants_value(p, i))
            return true;
    return s->config->where != NULL;
}

bool complete_plan_has_key(const struct complete_plan *p)
{
    for (size_t k = 0; k < p->rowtype->n_key; k++)
        if (column_of(p, p->rowtype->key[k]) == NULL)
            return false;
    return true;
}

/* ---- statements ---- */

void complete_plan_put_table(struct buf *sql, const struct source *s)
{
    sql_put_ident(sql, s->facts.table.schema);
    buf_putc(sql, '.');
    sql_put_ident(sql, s->facts.table.name);
}

void complete_plan_put_name(struct buf *sql, const struct source *s, const char *name)
{
    sql_put_ident(sql, s->facts.table.name);
    buf_putc(sql, '.');
    sql_put_ident(sql, name);
}

void complete_plan_put_item(struct buf *sql, struct copytext_field f)
{
    char c;

    buf_putc(sql, '"');
    for (size_t i = 0; i < f.len; i++) {
        c = f.p[i];
        if (c == '\\' && i + 1 < f.len)
            c = copytext_unescape_char(f.p[++i]);
        if (c == '\\')
            buf_puts(sql, "\\\\\\\\");
        else if (c == '"')
            buf_puts(sql, "\\\\\"");
        else if (c == '\'')
            buf_puts(sql, "''");
        else
            buf_putc(sql, c);
    }
    buf_putc(sql, '"');
}

/* The row as the table has it: with the values of generated columns. */
static void put_whole_row(struct buf *sql, const struct complete_plan *p, const struct source *s)
{
    buf_puts(sql, "SELECT ROW(");
    for (size_t i = 0; i < p->n_columns; i++) {
        buf_puts(sql, i > 0 ? ", " : "");
        if (p->columns[i].is_computed) {
            buf_putc(sql, '(');
            buf_puts(sql, p->columns[i].expression);
            buf_putc(sql, ')');
        } else {
            complete_plan_put_name(sql, s, p->columns[i].name);
        }
    }
    buf_puts(sql, ")::");
    complete_plan_put_table(sql, s);
    buf_puts(sql, " AS \"pgcdc:r\" FROM unnest(ARRAY[\"pgcdc:x\"]::");
    complete_plan_put_table(sql, s);
    buf_puts(sql, "[]) AS ");
    sql_put_ident(sql, s->facts.table.name);
}

/* The newline ends a comment that the condition may end with. */
static void put_condition(struct buf *sql, const struct source *s)
{
    buf_puts(sql, "((");
    buf_puts(sql, s->config->where != NULL ? s->config->where : "true");
    buf_puts(sql, "\n) IS TRUE)");
}

/* What is asked of a row, named by numbers, from a table that has it. */
static void put_of_row(struct buf *sql, const struct complete_plan *p, const struct source *s)
{
    buf_puts(sql, " LEFT JOIN LATERAL (SELECT ");
    put_condition(sql, s);
    buf_puts(sql, " AS \"pgcdc:p\"");
    for (size_t i = 0; i < p->rowtype->n_columns; i++) {
        if (!complete_plan_wants_value(p, i))
            continue;
        buf_puts(sql, p->rowtype->columns[i].wants_to_json ? ", to_json(" : ", (");
        complete_plan_put_name(sql, s, p->rowtype->columns[i].name);
        buf_printf(sql, ") AS \"pgcdc:v%zu\"", i);
    }
    buf_puts(sql, " FROM (");
    put_whole_row(sql, p, s);
    buf_puts(sql, ") AS \"pgcdc:q\", LATERAL unnest(ARRAY[\"pgcdc:r\"]) AS ");
    sql_put_ident(sql, s->facts.table.name);
    buf_puts(sql, " WHERE \"pgcdc:x\" IS NOT NULL) AS \"pgcdc:a\" ON true");
}

/* As in a poll, of the key's columns as they are there. */
static void put_hash(struct buf *sql, const struct complete_plan *p, const struct source *s)
{
    const struct sql_query q = { .table = &s->facts.table, .rowtype = p->rowtype };

    buf_puts(sql, "(SELECT ");
    sql_put_hash(sql, &q, "pgcdc:key");
    for (size_t k = 0; k < p->rowtype->n_key; k++) {
        buf_printf(sql, "%s\"pgcdc:k%zu\"::%s AS ", k > 0 ? ", " : " FROM (SELECT ", k,
                   column_of(p, p->rowtype->key[k])->type);
        sql_put_ident(sql, p->rowtype->columns[p->rowtype->key[k]].name);
    }
    buf_puts(sql, ") AS \"pgcdc:key\")");
}

/* The columns of the answer. */
static void put_list(struct buf *sql, const struct complete_plan *p, const struct source *s,
                     const struct complete_plan_question *q)
{
    const char *comma = "";

    if (q->rows != NULL && q->only_reads) {
        buf_puts(sql, "\"pgcdc:x\"::");
        complete_plan_put_table(sql, s);
        comma = ", ";
    } else if (q->rows != NULL) {
        buf_puts(sql, "\"pgcdc:p\"");
        for (size_t i = 0; i < p->rowtype->n_columns; i++)
            if (complete_plan_wants_value(p, i))
                buf_printf(sql, ", \"pgcdc:v%zu\"", i);
        comma = ", ";
    }
    for (size_t i = 0; i < p->rowtype->n_columns; i++) {
        if (q->texts[i] == NULL)
            continue;
        buf_printf(sql, "%sto_json(\"pgcdc:t%zu\"::", comma, i);
        buf_puts(sql, column_of(p, i)->type);
        buf_putc(sql, ')');
        comma = ", ";
    }
    if (q->keys == NULL)
        return;
    buf_puts(sql, comma);
    put_hash(sql, p, s);
}

/* The arrays as one table: a row of each. */
static void put_arrays(struct buf *sql, const struct complete_plan *p,
                       const struct complete_plan_question *q)
{
    const char *comma = "";

    buf_puts(sql, " FROM unnest(");
    if (q->rows != NULL) {
        buf_puts(sql, q->rows);
        comma = ", ";
    }
    for (size_t i = 0; i < p->rowtype->n_columns; i++) {
        if (q->texts[i] == NULL)
            continue;
        buf_puts(sql, comma);
        buf_puts(sql, q->texts[i]);
        comma = ", ";
    }
    for (size_t k = 0; q->keys != NULL && k < p->rowtype->n_key; k++) {
        buf_puts(sql, comma);
        buf_puts(sql, q->keys[k]);
        comma = ", ";
    }
    buf_puts(sql, ") WITH ORDINALITY AS \"pgcdc:u\"(");
    if (q->rows != NULL)
        buf_puts(sql, "\"pgcdc:x\", ");
    for (size_t i = 0; i < p->rowtype->n_columns; i++)
        if (q->texts[i] != NULL)
            buf_printf(sql, "\"pgcdc:t%zu\", ", i);
    for (size_t k = 0; q->keys != NULL && k < p->rowtype->n_key; k++)
        buf_printf(sql, "\"pgcdc:k%zu\", ", k);
    buf_puts(sql, "\"pgcdc:n\")");
}

void complete_plan_put(const struct complete_plan *p, const struct source *s,
                       const struct complete_plan_question *q, int server_version, struct buf *sql)
{
    complete_plan_put_settings(sql, server_version);
    buf_puts(sql, "SELECT ");
    put_list(sql, p, s, q);
    put_arrays(sql, p, q);
    if (q->rows != NULL && !q->only_reads)
        put_of_row(sql, p, s);
    buf_puts(sql, " ORDER BY \"pgcdc:n\"");
}

void complete_plan_put_try(const struct source *s, struct buf *sql)
{
    const struct rowtype *t = s->facts.rowtype;

    if (!complete_plan_is_needed(s))
        return;
    buf_puts(sql, ";SELECT ");
    put_condition(sql, s);
    for (size_t i = 0; i < t->n_columns; i++) {
        if (t->columns[i].expression == NULL)
            continue;
        buf_puts(sql, ", (");
        buf_puts(sql, t->columns[i].expression + 1);
        buf_putc(sql, ')');
    }
    buf_puts(sql, " FROM unnest(ARRAY[]::");
    complete_plan_put_table(sql, s);
    buf_puts(sql, "[]) AS ");
    sql_put_ident(sql, s->facts.table.name);
}
