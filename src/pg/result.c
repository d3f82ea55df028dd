/* result.c -- the rows that a server has answered with, checked.
 * SPDX-License-Identifier: MIT */
#include "pg/result.h"

#include "base/array.h"
#include "base/buf.h"
#include "base/text.h"

#include <assert.h>
#include <ctype.h>
#include <libpq-fe.h>
#include <stdlib.h>

/* Each value is in <bytes>, with a NUL after it. */
struct cell {
    size_t at; /* NO_VALUE: NULL */
    size_t len;
};

#define NO_VALUE SIZE_MAX
#define COLUMNS_MAX 1664 /* what a server's statement can return at most */

struct result {
    struct result_shape shape; /* without a shape: <columns> is NULL */
    PGresult *last;            /* owned; says what columns there are; NULL before the end */
    struct cell *cells;        /* row by row */
    size_t n_cells, cap_cells, columns, rows, max;
    struct buf bytes;
};

struct result *result_new(const struct result_shape *shape, size_t max, struct err *e)
{
    struct result *r = calloc(1, sizeof *r);

    if (r == NULL) {
        err_memory(e);
        return NULL;
    }
    r->max = max;
    buf_init(&r->bytes, SIZE_MAX / 2);
    if (shape != NULL) {
        r->shape = *shape;
        r->columns = strlen(shape->columns);
    }
    return r;
}

void result_free(struct result *r)
{
    if (r == NULL)
        return;
    PQclear(r->last);
    free(r->cells);
    buf_fini(&r->bytes);
    free(r);
}

/* ---- what comes ---- */

static bool is_u32(const char *s)
{
    uint64_t n;

    return text_is_u64(s, &n) && n <= UINT32_MAX;
}

/* Why the text is no value of this kind; NULL if it is one. */
static const char *why_not(char kind, const char *s, size_t len)
{
    uint64_t u;
    int64_t i;

    if (strlen(s) != len)
        return "holds a zero byte";
    switch (kind) {
    case 't':
        return NULL;
    case 'c':
        return len == 1 ? NULL : "is not one byte";
    case 'b':
        return len == 1 && (*s == 't' || *s == 'f') ? NULL : "is no boolean";
    case 'i':
        return text_is_i64(s, &i) ? NULL : "is no integer";
    case 'u':
        return text_is_u64(s, &u) ? NULL : "is no integer, or is negative";
    case 'o':
        return is_u32(s) ? NULL : "is no integer of 32 bits, or is negative";
    default:
        assert(!"a letter of a shape");
    }
    return NULL;
}

static bool fail(const struct result *r, struct err *e, const char *what)
{
    return err_set(e, ERR_ANSWER, "%s: %s", r->shape.what, what);
}

static bool check_value(const struct result *r, const PGresult *res, int row, int col,
                        struct err *e)
{
    char letter = r->shape.columns[col], kind = (char)tolower((unsigned char)letter);
    bool is_null = PQgetisnull(res, row, col);
    const char *text = PQgetvalue(res, row, col);
    const char *why = !is_null ? why_not(kind, text, (size_t)PQgetlength(res, row, col))
                               : letter == kind ? "is missing (NULL)" : NULL;

    return why == NULL || err_set(e, ERR_ANSWER, "%s: the value in column %d of row %zu %s%s%.60s",
                                  r->shape.what, col + 1, r->rows + 1, why,
                                  is_null ? "" : ": ", is_null ? "" : text);
}

static bool check_columns(const struct result *r, const PGresult *res, struct err *e)
{
    size_t n = (size_t)PQnfields(res);

    if (r->shape.columns == NULL)
        return n <= COLUMNS_MAX || err_set(e, ERR_ANSWER, "%zu columns are too many", n);
    return n == r->columns || err_set(e, ERR_ANSWER, "%s: %zu columns came in place of %zu",
                                      r->shape.what, n, r->columns);
}

/* True if the next row is one that the shape allows. */
static bool check_row(const struct result *r, const PGresult *res, int row, struct err *e)
{
    size_t n = (size_t)PQnfields(res);

    if (!check_columns(r, res, e))
        return false;
    if (r->shape.columns == NULL)
        return n == r->columns || err_set(e, ERR_ANSWER, "its rows have not the same columns");
    if (r->rows == r->shape.most)
        return fail(r, e, "too many rows came");
    for (size_t i = 0; i < n; i++)
        if (!check_value(r, res, row, (int)i, e))
            return false;
    return true;
}

static bool add_cell(struct result *r, const PGresult *res, int row, int col)
{
    struct cell cell = { NO_VALUE, 0 };

    if (!PQgetisnull(res, row, col)) {
        cell = (struct cell){ r->bytes.len, (size_t)PQgetlength(res, row, col) };
        buf_add(&r->bytes, PQgetvalue(res, row, col), cell.len);
        buf_putc(&r->bytes, '\0');
    }
    return ARRAY_PUSH(r->cells, r->n_cells, r->cap_cells, cell) && buf_ok(&r->bytes);
}

/* How many bytes the rows take so far. A row without columns counts as a cell, so that the number
 * of rows has a limit, too. */
static size_t size_of(const struct result *r)
{
    return r->bytes.len + (r->n_cells + r->rows) * sizeof *r->cells;
}

bool result_add(struct result *r, const PGresult *res, struct err *e)
{
    size_t n = (size_t)PQnfields(res);

    if (r->shape.columns == NULL && r->rows == 0)
        r->columns = n;
    for (int row = 0; row < PQntuples(res); row++) {
        if (!check_row(r, res, row, e))
            return false;
        for (size_t i = 0; i < n; i++)
            if (!add_cell(r, res, row, (int)i))
                return err_memory(e);
        r->rows++;
        if (size_of(r) > r->max)
            return err_set(e, ERR_ANSWER, "%s%sthe rows take more than %zu MB",
                           r->shape.what != NULL ? r->shape.what : "",
                           r->shape.what != NULL ? ": " : "", r->max >> 20);
    }
    return true;
}

bool result_end(struct result *r, PGresult *res, struct err *e)
{
    size_t n = (size_t)PQnfields(res);

    PQclear(r->last);
    r->last = res;
    if (!check_columns(r, res, e))
        return false;
    if (r->shape.columns != NULL)
        return r->rows >= r->shape.least ||
               fail(r, e, r->rows == 0 ? "no row came" : "too few rows came");
    if (r->rows > 0 && r->columns != n)
        return err_set(e, ERR_ANSWER, "its rows have not the columns that it names");
    r->columns = n;
    return true;
}

/* ---- what is read ---- */

static const struct cell *cell(const struct result *r, size_t row, size_t col)
{
    assert(row < r->rows && col < r->columns);
    return &r->cells[row * r->columns + col];
}

static const char *text(const struct result *r, const struct cell *cell)
{
    return cell->at != NO_VALUE ? r->bytes.data + cell->at : NULL;
}

/* The text of a value that is one of <kinds>; NULL for NULL. */
static const char *value(const struct result *r, size_t row, size_t col, const char *kinds)
{
    const struct cell *at = cell(r, row, col);

    assert(r->shape.columns != NULL &&
           strchr(kinds, tolower((unsigned char)r->shape.columns[col])) != NULL);
    return text(r, at);
}

size_t result_count(const struct result *r)
{
    return r->rows;
}

const char *result_text(const struct result *r, size_t row, size_t col)
{
    return value(r, row, col, "tc");
}

uint64_t result_u64(const struct result *r, size_t row, size_t col)
{
    const char *s = value(r, row, col, "uo");
    uint64_t n = 0;

    if (s != NULL)
        text_is_u64(s, &n);
    return n;
}

uint32_t result_u32(const struct result *r, size_t row, size_t col)
{
    (void)value(r, row, col, "o");
    return (uint32_t)result_u64(r, row, col);
}

bool result_i64(const struct result *r, size_t row, size_t col, int64_t *n)
{
    const char *s = value(r, row, col, "i");

    *n = 0;
    return s != NULL && text_is_i64(s, n);
}

bool result_bool(const struct result *r, size_t row, size_t col)
{
    const char *s = value(r, row, col, "b");

    return s != NULL && *s == 't';
}

/* ---- of any statement ---- */

size_t result_columns(const struct result *r)
{
    return r->columns;
}

const char *result_name(const struct result *r, size_t col)
{
    assert(r->shape.columns == NULL && col < r->columns);
    return PQfname(r->last, (int)col);
}

uint32_t result_type(const struct result *r, size_t col)
{
    assert(r->shape.columns == NULL && col < r->columns);
    return PQftype(r->last, (int)col);
}

const char *result_value(const struct result *r, size_t row, size_t col, size_t *len)
{
    const struct cell *at = cell(r, row, col);

    assert(r->shape.columns == NULL);
    *len = at->len;
    return text(r, at);
}
