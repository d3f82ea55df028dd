/* forms.c -- which columns rows had that were kept.                    floor 3
 * SPDX-License-Identifier: MIT */
#include "forms.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char kind[] = "form", key_name[] = "key";

struct form_names {
    uint32_t number;
    char *names;
};

struct forms {
    struct store *store;  /* borrowed, as is the next one */
    const char *source;
    struct form_names *v;
    size_t n;
    char *key;            /* of the rows that are known, or NULL */
    struct shape *shape;  /* of the last forms_enter */
    uint32_t number;
};

static bool add(struct forms *f, uint32_t number, const char *names, size_t len, struct err *e)
{
    struct form_names *v = realloc(f->v, (f->n + 1) * sizeof *v);

    if (v == NULL)
        return err_memory(e);
    f->v = v;
    v[f->n] = (struct form_names){ number, strndup(names, len) };
    return v[f->n++].names != NULL || err_memory(e);
}

static bool load(struct forms *f, struct err *e)
{
    struct record r;

    if (!store_find(f->store, kind, f->source, e))
        return false;
    while (store_next(f->store, &r, e)) {
        bool ok = true;

        if (strcmp(r.key.p, key_name) != 0)
            ok = add(f, (uint32_t)strtoul(r.key.p, NULL, 10), r.value.p, r.value.len, e);
        else if ((f->key = strndup(r.value.p, r.value.len)) == NULL)
            ok = err_memory(e);
        if (!ok) {
            store_leave(f->store);
            return false;
        }
    }
    return e->code == ERR_NONE;
}

struct forms *forms_open(struct store *store, const char *source, struct err *e)
{
    struct forms *f = calloc(1, sizeof *f);

    if (f == NULL) {
        err_memory(e);
        return NULL;
    }
    f->store = store;
    f->source = source;
    if (load(f, e))
        return f;
    forms_close(f);
    return NULL;
}

void forms_close(struct forms *f)
{
    if (f == NULL)
        return;
    for (size_t i = 0; i < f->n; i++)
        free(f->v[i].names);
    free(f->v);
    free(f->key);
    shape_unref(f->shape);
    free(f);
}

static bool save(struct forms *f, const char *key, const char *value, struct err *e)
{
    struct record r = { { kind, strlen(kind) }, { f->source, strlen(f->source) },
                        { key, strlen(key) }, { value, strlen(value) } };

    return store_put(f->store, &r, e);
}

/* What the hash of a key depends on. */
static const char *hash_class(const char *type)
{
    static const char *const integers[] = { "bigint", "integer", "smallint" };

    for (size_t i = 0; i < 3; i++)
        if (strcmp(type, integers[i]) == 0)
            return "integer"; /* they hash alike */
    return strcmp(type, "uuid") == 0 ? "uuid" : "text";
}

static bool enter_key(struct forms *f, const struct shape *s, bool *is_other, struct err *e)
{
    struct buf b;
    bool ok = true;

    buf_init(&b, BUF_SQL_MAX);
    for (size_t k = 0; k < s->n_key; k++)
        buf_printf(&b, "%s\t%s\n", s->columns[s->key[k]].name,
                   hash_class(s->columns[s->key[k]].type));
    *is_other = buf_ok(&b) && f->key != NULL && strcmp(f->key, b.data) != 0;
    if (!buf_ok(&b))
        ok = err_memory(e);
    else if (f->key == NULL || *is_other)
        ok = save(f, key_name, b.data, e);
    free(f->key);
    f->key = buf_take(&b);
    return ok;
}

static bool enter_names(struct forms *f, const char *names, struct err *e)
{
    char key[24];

    f->number = 0;
    for (size_t i = 0; i < f->n; i++) {
        if (strcmp(f->v[i].names, names) == 0) {
            f->number = f->v[i].number;
            return true;
        }
        f->number = f->v[i].number > f->number ? f->v[i].number : f->number;
    }
    f->number++;
    snprintf(key, sizeof key, "%" PRIu32, f->number);
    return add(f, f->number, names, strlen(names), e) && save(f, key, names, e);
}

bool forms_enter(struct forms *f, struct shape *s, uint32_t *number, bool *is_other_key,
                 struct err *e)
{
    struct buf b;
    bool ok;

    *is_other_key = false;
    *number = f->number;
    if (s == f->shape)
        return true;
    buf_init(&b, BUF_SQL_MAX);
    for (size_t i = 0; i < s->n_columns; i++)
        buf_printf(&b, "%s\n", s->columns[i].name);
    ok = (buf_ok(&b) || err_memory(e)) && enter_names(f, b.data, e) &&
         enter_key(f, s, is_other_key, e);
    buf_fini(&b);
    shape_unref(f->shape);
    f->shape = ok ? shape_ref(s) : NULL;
    *number = f->number;
    return ok;
}

/* The field of <row> whose name in <names> is <name>; p NULL if there is none. */
static struct slice find_field(const char *names, struct slice row, const char *name)
{
    const char *p = row.p, *end = row.p + row.len;
    size_t len = strlen(name);

    for (const char *n = names, *next; (next = strchr(n, '\n')) != NULL; n = next + 1) {
        const char *tab = memchr(p, '\t', (size_t)(end - p));

        if ((size_t)(next - n) == len && memcmp(n, name, len) == 0)
            return (struct slice){ p, (size_t)((tab != NULL ? tab : end) - p) };
        if (tab == NULL)
            break;
        p = tab + 1;
    }
    return (struct slice){ NULL, 0 };
}

bool forms_map(const struct forms *f, uint32_t number, struct slice row, const struct shape *s,
               struct buf *b)
{
    const char *names = "";

    if (number == f->number) {
        buf_add(b, row.p, row.len);
        return buf_ok(b);
    }
    for (size_t i = 0; i < f->n; i++)
        if (f->v[i].number == number)
            names = f->v[i].names;
    for (size_t i = 0; i < s->n_columns; i++) {
        struct slice field = find_field(names, row, s->columns[i].name);

        if (i > 0)
            buf_putc(b, '\t');
        if (field.p != NULL)
            buf_add(b, field.p, field.len);
        else
            buf_puts(b, "\\N");
    }
    return buf_ok(b);
}
