/* kept_columns.c -- which columns the rows had that were kept.
 * SPDX-License-Identifier: MIT */
#include "state/kept_columns.h"

#include "base/array.h"
#include "base/hash.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char kind[] = "form", key_name[] = "key", altered_name[] = "altered";

struct numbered {
    uint32_t number;
    char *columns;
};

struct kept_columns {
    struct store *store;  /* borrowed, as is the next one */
    const char *source;
    struct numbered *v;
    size_t n, cap;
    char *key;            /* of the rows that are known, or NULL */
    struct rowtype *rowtype;  /* of the last kept_columns_enter */
    uint32_t number;
    uint64_t altered;     /* see kept_columns_set_altered */
};

static bool add(struct kept_columns *k, uint32_t number, const char *columns, size_t len,
                struct err *e)
{
    struct numbered c = { number, strndup(columns, len) };

    if (c.columns != NULL && ARRAY_PUSH(k->v, k->n, k->cap, c))
        return true;
    free(c.columns);
    return err_memory(e);
}

static bool load(struct kept_columns *k, struct err *e)
{
    struct store_record r;

    if (!store_find(k->store, kind, k->source, e))
        return false;
    while (store_next(k->store, &r, e)) {
        uint64_t number;
        bool ok = true;

        text_is_u64(r.key.p, &number);
        if (strcmp(r.key.p, altered_name) == 0)
            text_is_u64(r.value.p, &k->altered);
        else if (strcmp(r.key.p, key_name) != 0)
            ok = add(k, (uint32_t)number, r.value.p, r.value.len, e);
        else if ((k->key = strndup(r.value.p, r.value.len)) == NULL)
            ok = err_memory(e);
        if (!ok) {
            store_leave(k->store);
            return false;
        }
    }
    return e->code == ERR_NONE;
}

struct kept_columns *kept_columns_open(struct store *store, const char *source, struct err *e)
{
    struct kept_columns *k = calloc(1, sizeof *k);

    if (k == NULL) {
        err_memory(e);
        return NULL;
    }
    k->store = store;
    k->source = source;
    if (load(k, e))
        return k;
    kept_columns_close(k);
    return NULL;
}

void kept_columns_close(struct kept_columns *k)
{
    if (k == NULL)
        return;
    for (size_t i = 0; i < k->n; i++)
        free(k->v[i].columns);
    free(k->v);
    free(k->key);
    rowtype_unref(k->rowtype);
    free(k);
}

static bool save(struct kept_columns *k, const char *key, const char *value, struct err *e)
{
    struct store_record r = { { kind, strlen(kind) }, { k->source, strlen(k->source) },
                              { key, strlen(key) }, { value, strlen(value) }, 0 };

    return store_put(k->store, &r, e);
}

bool kept_columns_set_altered(struct kept_columns *k, uint64_t change, struct err *e)
{
    char text[24];

    k->altered = change;
    snprintf(text, sizeof text, "%" PRIu64, change);
    return save(k, altered_name, text, e);
}

uint64_t kept_columns_altered(const struct kept_columns *k)
{
    return k->altered;
}

static bool enter_key(struct kept_columns *k, const struct rowtype *rowtype, bool *is_other,
                      struct err *e)
{
    struct buf b, by_name;
    bool ok = true, is_same;

    buf_init(&b, BUF_SQL_MAX);
    buf_init(&by_name, BUF_SQL_MAX);
    for (size_t i = 0; i < rowtype->n_key; i++) {
        const struct rowtype_column *c = &rowtype->columns[rowtype->key[i]];

        buf_printf(&b, "%s\t%d\n", rowtype_hash_class(c->type), c->number);
        buf_printf(&by_name, "%s\t%s\n", c->name, rowtype_hash_class(c->type));
    }
    if (!buf_ok(&b) || !buf_ok(&by_name)) {
        ok = err_memory(e);
    } else {
        is_same = k->key != NULL && strcmp(k->key, b.data) == 0;
        *is_other = k->key != NULL && !is_same && strcmp(k->key, by_name.data) != 0;
        ok = is_same || save(k, key_name, b.data, e);
    }
    buf_fini(&by_name);
    free(k->key);
    k->key = buf_take(&b);
    return ok;
}

/* True if these lines tell the numbers of columns. */
static bool has_numbers(const char *lines)
{
    const char *tab = strchr(lines, '\t'), *end = strchr(lines, '\n');

    return tab != NULL && end != NULL && memchr(tab + 1, '\t', (size_t)(end - tab - 1)) != NULL;
}

uint64_t kept_columns_digest(const struct kept_columns *k, const char *row, size_t len)
{
    return hash_digest(row, len) + k->number * UINT64_C(0x9e3779b97f4a7c15);
}

bool kept_columns_is_old_digest(const struct kept_columns *k, uint64_t digest, const char *row,
                                size_t len)
{
    size_t n = 0;

    for (size_t i = 0; i < k->n; i++)
        n += has_numbers(k->v[i].columns);
    return n < 2 && n < k->n && digest == hash_digest(row, len);
}

static bool enter_columns(struct kept_columns *k, const char *columns, struct err *e)
{
    char key[24];

    k->number = 0;
    for (size_t i = 0; i < k->n; i++) {
        if (strcmp(k->v[i].columns, columns) == 0) {
            k->number = k->v[i].number;
            return true;
        }
        k->number = k->v[i].number > k->number ? k->v[i].number : k->number;
    }
    k->number++;
    snprintf(key, sizeof key, "%" PRIu32, k->number);
    return add(k, k->number, columns, strlen(columns), e) && save(k, key, columns, e);
}

static void put_column(struct buf *b, const struct rowtype_column *c)
{
    copytext_escape(b, c->name, strlen(c->name));
    buf_printf(b, "\t%d\t%d", (int)c->kind, c->number);
}

bool kept_columns_enter(struct kept_columns *k, struct rowtype *rowtype, uint32_t *number,
                        bool *is_other_key, struct err *e)
{
    struct buf b;
    bool ok;

    *is_other_key = false;
    *number = k->number;
    if (rowtype == k->rowtype)
        return true;
    buf_init(&b, BUF_SQL_MAX);
    for (size_t i = 0; i < rowtype->n_columns; i++) {
        put_column(&b, &rowtype->columns[i]);
        buf_putc(&b, '\n');
    }
    ok = (buf_ok(&b) || err_memory(e)) && enter_columns(k, b.data, e) &&
         enter_key(k, rowtype, is_other_key, e);
    buf_fini(&b);
    rowtype_unref(k->rowtype);
    k->rowtype = ok ? rowtype_ref(rowtype) : NULL;
    *number = k->number;
    return ok;
}

/* True if the column of this line, <n> bytes, is <column>, which is such a line. */
static bool is_column(const char *line, size_t n, const char *column)
{
    const char *tab = memchr(line, '\t', n);
    size_t name = strcspn(column, "\t"), both = name + 1 + strcspn(column + name + 1, "\t");
    size_t here = tab != NULL ? (size_t)(tab - line) : n;

    if (tab != NULL && memchr(tab + 1, '\t', n - here - 1) != NULL) /* it may have been renamed */
        return n - here == strlen(column + name) && memcmp(tab, column + name, n - here) == 0;
    return (n == both || n == name) && memcmp(line, column, n) == 0;
}

/* The field of <row>, of the columns <lines>, that is <column>; p NULL if there is none. */
static struct store_slice find_field(const char *lines, struct store_slice row, const char *column)
{
    const char *p = row.p, *end = row.p + row.len;

    for (const char *line = lines, *next; (next = strchr(line, '\n')) != NULL; line = next + 1) {
        const char *tab = memchr(p, '\t', (size_t)(end - p));

        if (is_column(line, (size_t)(next - line), column))
            return (struct store_slice){ p, (size_t)((tab != NULL ? tab : end) - p) };
        if (tab == NULL)
            break;
        p = tab + 1;
    }
    return (struct store_slice){ NULL, 0 };
}

bool kept_columns_map(const struct kept_columns *k, uint32_t number, struct store_slice row,
                      const struct rowtype *rowtype, struct buf *b)
{
    const char *lines = "";
    struct buf column;

    if (number == k->number) {
        buf_add(b, row.p, row.len);
        return buf_ok(b);
    }
    for (size_t i = 0; i < k->n; i++)
        if (k->v[i].number == number)
            lines = k->v[i].columns;
    buf_init(&column, BUF_SQL_MAX);
    for (size_t i = 0; i < rowtype->n_columns; i++) {
        struct store_slice field = { NULL, 0 };

        buf_clear(&column);
        put_column(&column, &rowtype->columns[i]);
        if (buf_ok(&column))
            field = find_field(lines, row, column.data);
        if (i > 0)
            buf_putc(b, '\t');
        if (field.p != NULL)
            buf_add(b, field.p, field.len);
        else
            buf_puts(b, "\\N");
        b->failed = b->failed || !buf_ok(&column);
    }
    buf_fini(&column);
    return buf_ok(b);
}
