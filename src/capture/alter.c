/* alter.c -- what an ALTER TABLE did to rows that it did not write.
 * SPDX-License-Identifier: MIT */
#include "capture/alter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the columns that the position knows ---- */

enum { K_NUMBER, K_PLACE, K_NAME, K_TYPE, K_EXPRESSION, K_ALTERED, K_ATTRIBUTES, K_COUNT };

/* A column of the position; its text is part of <before>, with COPY's backslashes. */
struct known_column {
    unsigned number;
    struct copytext_field fields[K_COUNT];
};

/* Reads the next line. False: there is none, or it makes no sense. */
static bool next_known(const char **at, struct known_column *c)
{
    const char *p = *at, *end = strchr(p, '\n');

    if (end == NULL)
        return false;
    for (int i = 0; i < K_COUNT; i++) {
        const char *stop = p < end ? memchr(p, '\t', (size_t)(end - p)) : NULL;

        if (stop == NULL && i < K_EXPRESSION)
            return false;
        stop = stop != NULL ? stop : end;
        c->fields[i] = (struct copytext_field){ p, (size_t)(stop - p) };
        p = stop < end ? stop + 1 : end;
    }
    c->number = (unsigned)strtoul(c->fields[K_NUMBER].p, NULL, 10);
    *at = end + 1;
    return true;
}

static bool find_number(const char *before, unsigned number, struct known_column *c)
{
    while (next_known(&before, c))
        if (c->number == number)
            return true;
    return false;
}

static bool is_same(struct copytext_field a, struct copytext_field b)
{
    return a.len == b.len && memcmp(a.p, b.p, a.len) == 0;
}

static bool find_name(const char *before, struct copytext_field name, struct known_column *c)
{
    while (next_known(&before, c))
        if (is_same(c->fields[K_NAME], name))
            return true;
    return false;
}

/* ---- what became of the rows ---- */

/* True if a leaf has another file than at the last poll. */
static bool is_rewritten(const struct source *s)
{
    for (size_t i = 0; i < s->position.n_leaves; i++) {
        const struct position_leaf *leaf = &s->position.leaves[i];
        const struct relation_leaf *now = relation_leaf(&s->facts.table, leaf->oid);

        if (now != NULL && now->filenode != leaf->filenode)
            return true;
    }
    return false;
}

static bool ask_missing(const struct source *s, struct conn *conn, struct result **names,
                        struct err *e)
{
    struct buf sql;
    bool ok;

    buf_init(&sql, BUF_SQL_MAX);
    sql_missing_values(&sql, &s->facts.table);
    ok = buf_ok(&sql) ? conn_run(conn, sql.data, &sql_missing_values_shape, names, 1, e)
                      : err_memory(e);
    buf_fini(&sql);
    return ok;
}

static bool has_name(const struct result *names, const char *name)
{
    for (size_t i = 0; i < result_count(names); i++)
        if (strcmp(result_text(names, i, 0), name) == 0)
            return true;
    return false;
}

struct look {
    const struct source *s;
    struct conn *conn;
    bool by_xmin;
    struct result *missing; /* names of the columns with values that are not stored, once asked */
    struct alter_news *news;
};

static void say(struct look *k, const char *column, const char *what)
{
    if (*k->news->why == '\0')
        snprintf(k->news->why, sizeof k->news->why, "column %.60s %s", column, what);
}

/* Adds news if a column that the position does not know has values in rows that were there. */
static bool look_at_new(struct look *k, const struct rowtype_column *c, struct copytext_field name,
                        struct err *e)
{
    struct known_column other;
    bool is_virtual = c->expression != NULL && *c->expression == 'v';

    if (find_name(k->s->position.columns, name, &other)) {
        say(k, c->name, "is another one than before");
        return true;
    }
    if (k->missing == NULL && !ask_missing(k->s, k->conn, &k->missing, e))
        return false;
    if (is_virtual || !k->s->facts.table.has_xmin || is_rewritten(k->s) ||
        has_name(k->missing, c->name))
        say(k, c->name, "was added with values for the rows that were there");
    return true;
}

/* Adds news if a column's values in rows that were there may be others. <before>: the column in the
 * position; <now>: in the text of the row type. */
static void look_at_known(struct look *k, const struct rowtype_column *c,
                          const struct known_column *before, const struct known_column *now)
{
    bool is_other = !is_same(before->fields[K_EXPRESSION], now->fields[K_EXPRESSION]);
    bool is_retyped = !is_same(before->fields[K_TYPE], now->fields[K_TYPE]);
    bool is_altered = before->fields[K_ALTERED].len > 0 &&
                      !is_same(before->fields[K_ALTERED], now->fields[K_ALTERED]);
    bool is_made_anew = before->fields[K_ATTRIBUTES].len > 0 &&
                        !is_same(before->fields[K_ATTRIBUTES], now->fields[K_ATTRIBUTES]);
    bool is_key = *now->fields[K_PLACE].p != '0';

    if (is_made_anew)
        say(k, c->name, "has rows as values, whose attributes are others now");
    else if (is_other && c->expression != NULL && *c->expression == 'v')
        say(k, c->name, "has another expression");
    else if (is_other && !k->by_xmin && is_rewritten(k->s))
        say(k, c->name, "has another expression");
    else if (is_retyped && (is_key || !k->by_xmin) && is_rewritten(k->s))
        say(k, c->name, is_key ? "of the key has another type" : "has another type");
    else if (is_altered && (is_key || !k->by_xmin) && is_rewritten(k->s))
        say(k, c->name, "was altered, and the table has another file, so that its values may be"
            " others");
}

static bool look(struct look *k, struct err *e)
{
    const struct rowtype *now = k->s->facts.rowtype;
    const char *at = now->columns_text;
    struct known_column column, before;

    for (size_t i = 0; next_known(&at, &column); i++) {
        if (find_number(k->s->position.columns, column.number, &before))
            look_at_known(k, &now->columns[i], &before, &column);
        else if (!look_at_new(k, &now->columns[i], column.fields[K_NAME], e))
            return false;
    }
    return true;
}

/* Owned, or NULL (out of memory). */
static char *unescape(struct copytext_field f)
{
    char *to = malloc(f.len + 1);

    if (to != NULL)
        to[copytext_unescape(f, to)] = '\0';
    return to;
}

/* Finds the column that is at this place of the key, from 1. False: the key is shorter. */
static bool find_place(const char *columns, size_t place, struct known_column *c)
{
    while (next_known(&columns, c))
        if (strtoul(c->fields[K_PLACE].p, NULL, 10) == place)
            return true;
    return false;
}

/* *is_other: the key has other columns than before, or they hash otherwise. */
static bool compare_keys(const struct rowtype *now, const char *before, bool *is_other,
                         struct err *e)
{
    struct known_column c;

    *is_other = find_place(before, now->n_key + 1, &c);
    for (size_t i = 0; i < now->n_key && !*is_other; i++) {
        const struct rowtype_column *column = &now->columns[now->key[i]];
        char *type;

        if (!find_place(before, i + 1, &c) || c.number != column->number) {
            *is_other = true;
            break;
        }
        if ((type = unescape(c.fields[K_TYPE])) == NULL)
            return err_memory(e);
        *is_other = strcmp(rowtype_hash_class(type), rowtype_hash_class(column->type)) != 0;
        free(type);
    }
    return true;
}

bool alter_find(const struct source *s, struct conn *conn, bool by_xmin, struct alter_news *news,
                struct err *e)
{
    struct look k = { .s = s, .conn = conn, .by_xmin = by_xmin, .news = news };
    bool ok;

    *news = (struct alter_news){ .why = "" };
    if (s->position.columns == NULL ||
        strcmp(s->position.columns, s->facts.rowtype->columns_text) == 0)
        return true;
    ok = look(&k, e);
    result_free(k.missing);
    if (!ok || !compare_keys(s->facts.rowtype, s->position.columns, &news->is_other_key, e))
        return false;
    if (news->is_other_key && s->config->deletes && *news->why == '\0')
        snprintf(news->why, sizeof news->why, "the key is another one than before");
    return true;
}

/* Sets *former to the text of the field, unless it is <now> or something was set before. */
static bool set_former(char **former, struct copytext_field f, const char *now)
{
    char *text;

    if (*former != NULL)
        return true;
    if ((text = unescape(f)) == NULL)
        return false;
    if (strcmp(text, now) != 0)
        *former = text;
    else
        free(text);
    return true;
}

static bool set_dropped(struct rowtype *now, const char *before)
{
    struct known_column known;
    char number[16];
    struct buf b;

    buf_init(&b, BUF_SQL_MAX);
    while (next_known(&before, &known)) {
        snprintf(number, sizeof number, " %u ", known.number);
        if (strstr(now->numbers, number) == NULL) {
            buf_add(&b, known.fields[K_NAME].p, known.fields[K_NAME].len);
            buf_putc(&b, '\n');
        }
    }
    free(now->dropped);
    now->dropped = buf_take(&b);
    return now->dropped != NULL;
}

bool alter_set_former(struct rowtype *now, const char *before)
{
    const char *at = now->columns_text;
    struct known_column column, known;

    for (size_t i = 0; next_known(&at, &column); i++) {
        struct rowtype_column *c = &now->columns[i];

        if (find_number(before, c->number, &known)) {
            if (!set_former(&c->former, known.fields[K_NAME], c->name))
                return false;
        } else if (!find_name(before, column.fields[K_NAME], &known)) {
            continue;
        }
        if (!set_former(&c->former_expression, known.fields[K_EXPRESSION],
                        c->expression != NULL ? c->expression : ""))
            return false;
    }
    return now->dropped != NULL || set_dropped(now, before);
}
