/* log_columns.c -- which of a table's columns the log's are.
 * SPDX-License-Identifier: MIT */
#include "capture/log_columns.h"

#include "base/array.h"
#include "pg/copytext.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* How well a column fits: the sum for all of them is compared. A name that another one has now may
 * have changed hands, so of two ways that one is better where the types are right. */
enum { HAS_NAME = 4, HAS_TYPE = 3, HAD_NAME_OF_DROPPED = 6, HAD_NUMBER = 5, IS_DROPPED = 1 };

#define NO_WAY (INT_MIN / 2)

void log_columns_fini(struct log_columns *c)
{
    for (size_t i = 0; i < c->n; i++)
        free(c->v[i].name);
    free(c->v);
    *c = (struct log_columns){ 0 };
}

void log_columns_put(struct buf *sql)
{
    buf_puts(sql, "(SELECT string_agg(CASE WHEN l.attisdropped THEN '-' WHEN l.attgenerated = ''"
                  " THEN '+' ELSE l.attgenerated::text END || l.atttypid || ' ' ||"
                  " replace(replace(l.attname::text,"
                  " E'\\\\', E'\\\\\\\\'), E'\\n', E'\\\\n') || E'\\n', '' ORDER BY l.attnum)"
                  " FROM pg_attribute l WHERE l.attrelid = c.oid AND l.attnum > 0)");
}

/* Owned, or NULL (out of memory). */
static char *unescape(const char *p, size_t len)
{
    char *to = malloc(len + 1);

    if (to != NULL)
        to[copytext_unescape((struct copytext_field){ p, len }, to)] = '\0';
    return to;
}

bool log_columns_read(struct log_columns *c, const char *text, struct err *e)
{
    log_columns_fini(c);
    for (const char *end; text != NULL && (end = strchr(text, '\n')) != NULL; text = end + 1) {
        struct log_column column = { .state = (enum log_columns_state)*text };
        char *name;

        column.type = (uint32_t)strtoul(text + 1, &name, 10);
        name += *name == ' ';
        column.name = unescape(name, (size_t)(end - name));
        if (column.name == NULL || !ARRAY_PUSH(c->v, c->n, c->cap, column)) {
            free(column.name);
            return err_memory(e);
        }
    }
    return true;
}

/* ---- which are they ---- */

static bool was_dropped(const struct rowtype *now, const char *told, bool *is, struct err *e)
{
    *is = false;
    for (const char *p = now->dropped, *end; p != NULL && (end = strchr(p, '\n')) != NULL;
         p = end + 1) {
        char *name = unescape(p, (size_t)(end - p));

        if (name == NULL)
            return err_memory(e);
        *is = *is || strcmp(name, told) == 0;
        free(name);
    }
    return true;
}

static bool has_name(const struct log_columns *c, size_t j, const struct rowtype *now,
                     const char *told)
{
    if (strcmp(c->v[j].name, told) == 0)
        return true;
    for (size_t k = 0; k < now->n_columns; k++)
        if (now->columns[k].number == j + 1 && now->columns[k].former != NULL &&
            strcmp(now->columns[k].former, told) == 0)
            return true;
    return false;
}

/* Of told->names[i]. <is_dropped>: a column of that name was dropped. */
static int fit_of(const struct log_columns *c, size_t j, const struct rowtype *now,
                  const struct log_columns_told *told, size_t i, bool is_dropped)
{
    int fit = told->before != NULL && told->before[i] == j + 1 ? HAD_NUMBER : 0;

    if (c->v[j].state == LOG_COLUMNS_DROPPED)
        return fit + (is_dropped ? HAD_NAME_OF_DROPPED : IS_DROPPED);
    return fit + (has_name(c, j, now, told->names[i]) ? HAS_NAME : 0) +
           (c->v[j].type == told->types[i] ? HAS_TYPE : 0);
}

/* Whether the log's next column may be the one in hand, and whether it may be another one. */
static bool may_be(enum log_columns_state state)
{
    return state != LOG_COLUMNS_VIRTUAL;
}

static bool may_lack(enum log_columns_state state)
{
    return state != LOG_COLUMNS_LIVES;
}

/* A table: how well names[i..] fit to the columns from j on; <width> is of a row of it. */
struct way {
    int *best;
    size_t width;
};

static int *at(const struct way *w, size_t i, size_t j)
{
    return &w->best[i * w->width + j];
}

static bool find_ways(const struct log_columns *c, const struct rowtype *now,
                      const struct log_columns_told *told, const struct way *w, struct err *e)
{
    for (size_t j = 0; j <= c->n; j++)
        *at(w, told->n, j) = 0;
    for (size_t i = told->n; i-- > 0;) {
        bool is_dropped;

        if (!was_dropped(now, told->names[i], &is_dropped, e))
            return false;
        *at(w, i, c->n) = NO_WAY;
        for (size_t j = c->n; j-- > 0;) {
            int lack = may_lack(c->v[j].state) ? *at(w, i, j + 1) : NO_WAY;
            int take = may_be(c->v[j].state) && *at(w, i + 1, j + 1) > NO_WAY
                           ? *at(w, i + 1, j + 1) +
                                 fit_of(c, j, now, told, i, is_dropped) : NO_WAY;

            *at(w, i, j) = take > lack ? take : lack;
        }
    }
    return true;
}

static void follow(const struct log_columns *c, size_t n, const struct way *w, uint16_t *numbers)
{
    for (size_t i = 0, j = 0; i < n; j++) {
        if (may_lack(c->v[j].state) && *at(w, i, j) == *at(w, i, j + 1))
            continue;
        numbers[i++] = (uint16_t)(j + 1);
    }
}

bool log_columns_number(const struct log_columns *c, const struct rowtype *now,
                        const struct log_columns_told *told, uint16_t *numbers, bool *is_found,
                        struct err *e)
{
    struct way w = { calloc((told->n + 1) * (c->n + 1), sizeof *w.best), c->n + 1 };
    bool ok;

    if (w.best == NULL)
        return err_memory(e);
    ok = find_ways(c, now, told, &w, e);
    *is_found = ok && *at(&w, 0, 0) > NO_WAY;
    if (*is_found)
        follow(c, told->n, &w, numbers);
    free(w.best);
    return ok;
}
