/* complete_ask.c -- asks the server about rows of one source.
 * SPDX-License-Identifier: MIT */
#include "capture/complete_ask.h"

#include "pg/sqlstate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ASKED_BYTES ((size_t)8 << 20) /* of rows in one statement, if there are several */
#define SQL_BYTES ((size_t)900 << 20) /* a server takes less than 1 GB */

/* ---- statements ---- */

/* What is asked about the units from <from> on and before <end>. */
struct asked {
    size_t from, end;
    bool rows, only_reads;
    bool texts;
    size_t column; /* of the texts only this one; SIZE_MAX: all; n_columns: the hash of the key */
};

/* An item of an array, in double quotes, in E''. */
static void put_item(struct buf *b, const char *s, size_t len)
{
    const char *end = s + len;

    buf_putc(b, '"');
    while (s < end) {
        const char *p = s;

        while (p < end && *p != '\\' && *p != '"' && *p != '\'')
            p++;
        buf_add(b, s, (size_t)(p - s));
        if (p < end) {
            buf_puts(b, *p == '\\' ? "\\\\\\\\" : *p == '"' ? "\\\\\"" : "''");
            p++;
        }
        s = p;
    }
    buf_putc(b, '"');
}

static void begin_array(struct buf *b)
{
    buf_clear(b);
    buf_puts(b, "E'{");
}

static void end_array(struct buf *b)
{
    buf_puts(b, "}'::text[]");
}

/* The fields of a tuple; false: it has others than were announced, which was checked before. */
static bool read_fields(const struct complete_table *ct, struct complete_table_tuple tuple,
                        struct pgoutput_field *fields)
{
    struct pgoutput_tuple rest = { ct->bytes + tuple.start, tuple.n };
    size_t n = 0;

    if (tuple.n != ct->n_names)
        return false;
    while (pgoutput_next_field(&rest, &fields[n]))
        n++;
    return true;
}

/* A field of a row as text. */
static void put_part(struct buf *b, const char *s, size_t len)
{
    buf_putc(b, '"');
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '"' || s[i] == '\\')
            buf_putc(b, s[i]);
        buf_putc(b, s[i]);
    }
    buf_putc(b, '"');
}

/* The same of a field of COPY. */
static void put_escaped_part(struct buf *b, struct copytext_field f)
{
    buf_putc(b, '"');
    for (size_t i = 0; i < f.len; i++) {
        char c = f.p[i];

        if (c == '\\' && i + 1 < f.len)
            c = copytext_unescape_char(f.p[++i]);
        if (c == '"' || c == '\\')
            buf_putc(b, c);
        buf_putc(b, c);
    }
    buf_putc(b, '"');
}

/* The field <column> of the unit's line, len 0 and p NULL if it has none. */
static struct copytext_field field_of(const struct complete_table_unit *u, size_t column)
{
    const char *p = u->chunk->bytes + u->start, *end = p + u->len, *tab;

    for (; u->len > 0; column--, p = tab + 1) {
        tab = memchr(p, '\t', (size_t)(end - p));
        if (column == 0)
            return (struct copytext_field){ p, (size_t)((tab != NULL ? tab : end) - p) };
        if (tab == NULL)
            break;
    }
    return (struct copytext_field){ NULL, 0 };
}

/* The row type's column that is column <i> of the plan; SIZE_MAX: there is none. */
static size_t column_of_plan(const struct complete_table *ct, size_t i)
{
    for (size_t k = 0; k < ct->rowtype->n_columns; k++)
        if (ct->plan.place[k] == i)
            return k;
    return SIZE_MAX;
}

/* The value of a column that the update left as it was: that of the line, if it was found. */
static struct copytext_field unchanged_field(const struct complete_table *ct,
                                             const struct complete_table_unit *u, size_t i)
{
    size_t column = column_of_plan(ct, i);

    return column != SIZE_MAX && u->len > 0 ? field_of(u, column)
                                            : (struct copytext_field){ COPYTEXT_UNKNOWN, 2 };
}

/* Reads the fields of the unit's row, those of the log, into the first half of <fields>. */
static bool read_row(const struct complete_table *ct, const struct complete_table_unit *u,
                     struct pgoutput_field *fields)
{
    struct pgoutput_field *before = fields + ct->n_names;
    bool has_before = read_fields(ct, u->before, before);

    if (!read_fields(ct, u->row, fields))
        return false;
    for (size_t i = 0; i < ct->n_names && has_before; i++)
        if (fields[i].value == PGOUTPUT_UNCHANGED && before[i].value == PGOUTPUT_TEXT)
            fields[i] = before[i];
    return true;
}

/* The unit's row as text of the table's row type; <fields>: scratch, for two rows. */
static void put_row(const struct complete_table *ct, const struct complete_table_unit *u,
                    struct pgoutput_field *fields, struct buf *b)
{
    bool has_row = read_row(ct, u, fields);

    buf_clear(b);
    buf_putc(b, '(');
    for (size_t i = 0; i < ct->plan.n_columns; i++) {
        size_t at = ct->from[i];

        if (i > 0)
            buf_putc(b, ',');
        if (!has_row || at == SIZE_MAX)
            continue;
        if (fields[at].value == PGOUTPUT_UNCHANGED)
            put_escaped_part(b, unchanged_field(ct, u, i));
        else if (fields[at].value == PGOUTPUT_TEXT)
            put_part(b, fields[at].p, fields[at].len);
    }
    buf_putc(b, ')');
}

/* True if a value of the unit's row is not known. */
static bool lacks(const struct complete_table *ct, const struct complete_table_unit *u,
                  struct pgoutput_field *fields)
{
    if (!u->has_row || !read_row(ct, u, fields))
        return false;
    for (size_t i = 0; i < ct->plan.n_columns; i++)
        if (ct->from[i] != SIZE_MAX && fields[ct->from[i]].value == PGOUTPUT_UNCHANGED &&
            copytext_is_unknown(unchanged_field(ct, u, i)))
            return true;
    return false;
}

static bool put_rows(struct complete_table *ct, const struct asked *a, struct buf *array)
{
    struct pgoutput_field *fields = calloc(2 * ct->n_names + 1, sizeof *fields);

    if (fields == NULL)
        return false;
    begin_array(array);
    for (size_t i = a->from; i < a->end; i++) {
        if (i > a->from)
            buf_putc(array, ',');
        if (ct->units[i].has_row) {
            put_row(ct, &ct->units[i], fields, &ct->scratch);
            if (!buf_ok(&ct->scratch))
                array->failed = true;
            else
                put_item(array, ct->scratch.data, ct->scratch.len);
        } else {
            buf_puts(array, "NULL");
        }
    }
    end_array(array);
    free(fields);
    return buf_ok(array);
}

/* *has_some: one of the texts is there. */
static bool put_texts(struct complete_table *ct, const struct asked *a, size_t column,
                      struct buf *array, bool *has_some)
{
    begin_array(array);
    for (size_t i = a->from; i < a->end; i++) {
        struct copytext_field f = field_of(&ct->units[i], column);
        char *to;

        if (i > a->from)
            buf_putc(array, ',');
        if (f.p == NULL || copytext_is_null(f) || copytext_is_unknown(f)) {
            buf_puts(array, "NULL");
            continue;
        }
        buf_clear(&ct->scratch);
        if ((to = buf_reserve(&ct->scratch, f.len + 1)) == NULL)
            return false;
        put_item(array, to, copytext_unescape(f, to));
        *has_some = true;
    }
    end_array(array);
    return buf_ok(array);
}

enum answer { ANSWER_TAKEN, ANSWER_REFUSED, ANSWER_FAILED };

bool complete_ask_is_refusal(const struct err *e)
{
    return e->code == ERR_SQL && e->sqlstate[0] != '\0' &&
           (!sqlstate_passes(e->sqlstate, SQLSTATE_SOURCE) || strcmp(e->sqlstate, "55000") == 0);
}

static void set_value(struct complete_table *ct, struct complete_table_unit *u, size_t column,
                      const char *text, size_t len)
{
    struct complete_table_value *v;

    if (u->values == NULL)
        u->values = &ct->values[(size_t)(u - ct->units) * ct->rowtype->n_columns];
    v = &u->values[column];
    v->is_set = true;
    v->is_null = text == NULL;
    v->start = ct->answers.len;
    if (text != NULL)
        copytext_escape(&ct->answers, text, len);
    v->len = ct->answers.len - v->start;
}

/* One line of an answer. */
static void take_line(struct complete_table *ct, const struct asked *a,
                      const struct complete_plan_question *q, const struct result *r, size_t line)
{
    struct complete_table_unit *u = &ct->units[a->from + line];
    const struct complete_plan *p = &ct->plan;
    size_t n = 0, len;
    const char *text;

    if (q->rows != NULL) {
        text = result_value(r, line, n++, &len);
        if (u->has_row)
            u->passes = text != NULL && *text == 't';
        for (size_t i = 0; i < p->rowtype->n_columns; i++) {
            if (!complete_plan_wants_value(p, i))
                continue;
            text = result_value(r, line, n++, &len);
            if (u->has_row && u->len > 0)
                set_value(ct, u, i, text, len);
        }
    }
    for (size_t i = 0; i < p->rowtype->n_columns; i++) {
        if (q->texts[i] == NULL)
            continue;
        text = result_value(r, line, n++, &len);
        if (u->len > 0 && !copytext_is_unknown(field_of(u, i)))
            set_value(ct, u, i, text, len);
    }
    if (q->keys != NULL && (text = result_value(r, line, n, &len)) != NULL)
        u->hash = (uint64_t)strtoll(text, NULL, 10);
}

static size_t count_columns(const struct complete_table *ct, const struct complete_plan_question *q)
{
    size_t n = (q->rows != NULL) + (q->keys != NULL);

    for (size_t i = 0; i < ct->rowtype->n_columns; i++)
        n += q->texts[i] != NULL ||
             (q->rows != NULL && !q->only_reads && complete_plan_wants_value(&ct->plan, i));
    return n;
}

static enum answer take_answer(struct complete_table *ct, const struct asked *a,
                               const struct complete_plan_question *q, struct conn *conn,
                               struct err *e)
{
    struct result *r = NULL;
    uint64_t affected;

    if (!conn_answer(conn, SIZE_MAX / 4, &r, &affected, e))
        return complete_ask_is_refusal(e) ? ANSWER_REFUSED : ANSWER_FAILED;
    if (result_count(r) != a->end - a->from || result_columns(r) != count_columns(ct, q)) {
        err_set(e, ERR_ANSWER, "the server's values for rows of the log are not as many as were "
                "asked for");
        result_free(r);
        return ANSWER_FAILED;
    }
    for (size_t i = 0; !q->only_reads && i < result_count(r); i++)
        take_line(ct, a, q, r, i);
    result_free(r);
    if (buf_ok(&ct->answers))
        return ANSWER_TAKEN;
    err_memory(e);
    return ANSWER_FAILED;
}

static enum answer send_question(struct complete_table *ct, const struct asked *a,
                                 const struct complete_plan_question *q, struct conn *conn,
                                 struct err *e)
{
    struct buf sql;
    enum answer answer;

    buf_init(&sql, SIZE_MAX / 2);
    complete_plan_put(&ct->plan, ct->source, q, conn_version(conn), &sql);
    if (!buf_ok(&sql)) {
        err_memory(e);
        answer = ANSWER_FAILED;
    } else if (sql.len > SQL_BYTES) {
        err_set(e, ERR_SQL, "it is too large");
        answer = ANSWER_REFUSED;
    } else if (!conn_send(conn, sql.data, NULL, 0, e)) {
        answer = ANSWER_FAILED;
    } else {
        answer = take_answer(ct, a, q, conn, e);
    }
    buf_fini(&sql);
    return answer;
}

static bool has_rows(const struct complete_table *ct, const struct asked *a)
{
    for (size_t i = a->from; i < a->end; i++)
        if (ct->units[i].has_row)
            return true;
    return false;
}

static bool asks_hash(const struct complete_table *ct, const struct asked *a)
{
    return ct->wants_hash && a->texts && complete_plan_has_key(&ct->plan) &&
           (a->column == SIZE_MAX || a->column == ct->rowtype->n_columns);
}

/* Asks one statement, or none where there is nothing to ask. */
static enum answer ask(struct complete_table *ct, const struct asked *a, struct conn *conn,
                       struct err *e)
{
    size_t n = ct->rowtype->n_columns, n_key = ct->rowtype->n_key, n_all = n + 1 + n_key;
    struct buf *arrays = calloc(n_all, sizeof *arrays);
    const char **texts = calloc(n_all, sizeof *texts);
    struct complete_plan_question q = { .only_reads = a->only_reads, .texts = texts };
    bool ok = arrays != NULL && texts != NULL, has_some = false;
    enum answer answer = ANSWER_TAKEN;

    for (size_t i = 0; ok && i < n_all; i++)
        buf_init(&arrays[i], SIZE_MAX / 2);
    if (ok && a->rows && ct->needs_rows && has_rows(ct, a)) {
        ok = put_rows(ct, a, &arrays[n]);
        q.rows = arrays[n].data;
        has_some = true;
    }
    for (size_t i = 0; ok && a->texts && i < n; i++) {
        bool has_text = false;

        if ((a->column != SIZE_MAX && a->column != i) || !complete_plan_wants_json(&ct->plan, i))
            continue;
        ok = put_texts(ct, a, i, &arrays[i], &has_text);
        texts[i] = has_text ? arrays[i].data : NULL;
        has_some = has_some || has_text;
    }
    if (ok && asks_hash(ct, a)) {
        for (size_t k = 0; ok && k < n_key; k++) {
            ok = put_texts(ct, a, ct->rowtype->key[k], &arrays[n + 1 + k], &has_some);
            texts[n + 1 + k] = arrays[n + 1 + k].data;
        }
        q.keys = texts + n + 1;
        has_some = true;
    }
    if (!ok) {
        err_memory(e);
        answer = ANSWER_FAILED;
    } else if (has_some) {
        answer = send_question(ct, a, &q, conn, e);
    }
    for (size_t i = 0; arrays != NULL && i < n_all; i++)
        buf_fini(&arrays[i]);
    free(arrays);
    free(texts);
    return answer;
}

/* ---- what the server refuses ---- */

/* The value is told as its text. */
static bool take_as_text(struct complete_table *ct, size_t unit, size_t column,
                         const struct err *why, struct err *e)
{
    struct complete_table_unit *u = &ct->units[unit];
    struct copytext_field f = field_of(u, column);
    struct buf json;
    char text[600], *to;
    bool ok;

    buf_clear(&ct->scratch);
    if ((to = buf_reserve(&ct->scratch, f.len + 1)) == NULL)
        return err_memory(e);
    buf_init(&json, SIZE_MAX / 2);
    ok = types_put_string(&json, to, copytext_unescape(f, to)) && buf_ok(&json);
    if (ok)
        set_value(ct, u, column, json.data, json.len);
    buf_fini(&json);
    if (!ok || !buf_ok(&ct->answers))
        return err_memory(e);
    if (ct->is_told[column])
        return true;
    ct->is_told[column] = true;
    snprintf(text, sizeof text, "a value of column \"%.100s\" is told as its text, since it is none"
             " of its type any more: %.300s", ct->rowtype->columns[column].name, why->msg);
    return source_add_notice(ct->source, LOG_WARN, text, e);
}

/* The row cannot be read as one of its table: it passes, and computed values are NULL. */
static bool take_as_passing(struct complete_table *ct, const struct err *why, struct err *e)
{
    char text[600];

    if (ct->is_row_told)
        return true;
    ct->is_row_told = true;
    snprintf(text, sizeof text, "a row is none of its table any more, as that is now: it is told "
             "without asking for the condition or for generated columns: %.300s", why->msg);
    return source_add_notice(ct->source, LOG_WARN, text, e);
}

/* Asks about one unit piece by piece. */
static bool ask_one(struct complete_table *ct, size_t unit, struct conn *conn, struct err *e)
{
    struct asked a = { .from = unit, .end = unit + 1, .texts = true };
    enum answer answer;
    struct err why;

    for (size_t i = 0; i <= ct->rowtype->n_columns; i++) {
        a.column = i;
        answer = ask(ct, &a, conn, &why);
        if (answer == ANSWER_FAILED) {
            *e = why;
            return false;
        }
        /* (a key that its type does not take any more is none of those that are kept) */
        if (answer == ANSWER_REFUSED && i < ct->rowtype->n_columns &&
            !take_as_text(ct, unit, i, &why, e))
            return false;
    }
    a.texts = false;
    a.rows = a.only_reads = true;
    answer = ask(ct, &a, conn, &why);
    if (answer == ANSWER_REFUSED)
        return take_as_passing(ct, &why, e);
    if (answer == ANSWER_TAKEN) {
        a.only_reads = false;
        answer = ask(ct, &a, conn, &why);
    }
    if (answer == ANSWER_TAKEN)
        return true;
    *e = why;
    if (answer == ANSWER_REFUSED)
        err_set(e, ERR_REFUSED, "%s.%s: where, or a generated column, cannot be computed for a row:"
                " %.500s", ct->rowtype->schema, ct->rowtype->table, why.msg);
    return false;
}

/* The table may be another one than when it was looked at. */
static bool plan_anew(struct complete_table *ct, struct conn *conn, struct err *e)
{
    ct->is_planned_anew = true;
    return complete_table_plan(ct, conn, e);
}

static size_t size_of(const struct complete_table *ct, size_t from, size_t end)
{
    size_t n = 0;

    for (size_t i = from; i < end; i++) {
        const struct complete_table_unit *u = &ct->units[i];

        n += u->len;
        if (u->has_row && i + 1 < ct->n_units && ct->units[i + 1].has_row)
            n += ct->units[i + 1].row.start > u->row.start
                     ? ct->units[i + 1].row.start - u->row.start : 0;
    }
    return n;
}

static bool ask_about(struct complete_table *ct, size_t from, size_t end, struct conn *conn,
                      struct err *e)
{
    const struct asked all = {
        .from = from, .end = end, .rows = true, .texts = true, .column = SIZE_MAX,
    };
    size_t middle = from + (end - from) / 2;
    enum answer answer = ANSWER_REFUSED;

    if (end - from < 2 || size_of(ct, from, end) < ASKED_BYTES) {
        answer = ask(ct, &all, conn, e);
        if (answer == ANSWER_REFUSED && !ct->is_planned_anew) {
            if (!plan_anew(ct, conn, e))
                return false;
            answer = ask(ct, &all, conn, e);
        }
    }
    if (answer != ANSWER_REFUSED)
        return answer == ANSWER_TAKEN;
    if (end - from < 2)
        return ask_one(ct, from, conn, e);
    return ask_about(ct, from, middle, conn, e) && ask_about(ct, middle, end, conn, e);
}

static bool refuse_lacking(const struct complete_table *ct, struct err *e)
{
    return err_set(e, ERR_REFUSED, "%s.%s: generated columns cannot be computed, since the log does"
                   " not have a value that an update left as it was, nor was it found: ALTER TABLE "
                   "%s.%s REPLICA IDENTITY FULL", ct->rowtype->schema, ct->rowtype->table,
                   ct->rowtype->schema, ct->rowtype->table);
}

/* Where a value is not known nobody can say whether the row passes: then it does. */
static bool check_lacking(struct complete_table *ct, struct err *e)
{
    struct pgoutput_field *fields = calloc(2 * ct->n_names + 1, sizeof *fields);
    bool is_computed = false, ok = true;

    if (fields == NULL)
        return err_memory(e);
    for (size_t i = 0; i < ct->rowtype->n_columns; i++)
        is_computed = is_computed || complete_plan_wants_value(&ct->plan, i);
    for (size_t i = 0; i < ct->n_units && ok; i++) {
        if (!lacks(ct, &ct->units[i], fields))
            continue;
        ct->units[i].has_row = false;
        ok = !is_computed || refuse_lacking(ct, e);
    }
    free(fields);
    return ok;
}

bool complete_ask(struct complete_table *ct, struct conn *conn, struct err *e)
{
    if (ct->n_units == 0)
        return true;
    if (ct->needs_rows && !check_lacking(ct, e))
        return false;
    ct->values = calloc(ct->n_units * ct->rowtype->n_columns + 1, sizeof *ct->values);
    if (ct->values == NULL)
        return err_memory(e);
    return ask_about(ct, 0, ct->n_units, conn, e);
}
