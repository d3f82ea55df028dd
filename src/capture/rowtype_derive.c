/* rowtype_derive.c -- row types that are made of another one, by hand, or of a recording.
 * SPDX-License-Identifier: MIT */
#include "capture/rowtype_derive.h"

#include <stdlib.h>
#include <string.h>

/* Copies text, which may be NULL. False: out of memory. */
static bool copy_text(char **to, const char *from)
{
    return from == NULL || (*to = strdup(from)) != NULL;
}

static bool derive_column(struct rowtype_column *to, const struct rowtype_column *columns,
                          const struct rowtype_derive_column *c)
{
    static const struct rowtype_column new = { 0 };
    const struct rowtype_column *from = c->from != ROWTYPE_DERIVE_NEW ? &columns[c->from] : &new;
    bool is_text = c->from == ROWTYPE_DERIVE_NEW || c->is_text;

    to->number = from->number;
    to->kind = is_text ? TYPES_TEXT : from->kind;
    to->wants_to_json = !is_text && from->wants_to_json;
    to->is_nullable = c->from == ROWTYPE_DERIVE_NEW || from->is_nullable;
    to->is_text = is_text || from->is_text;
    to->is_total = is_text || from->is_total;
    to->is_computed = c->is_computed || from->is_computed;
    to->has_json_cast = !is_text && from->has_json_cast;
    return copy_text(&to->name, c->name) && copy_text(&to->type, is_text ? "text" : from->type) &&
           copy_text(&to->base_type, is_text ? NULL : from->base_type) &&
           copy_text(&to->parts, is_text ? NULL : from->parts) &&
           copy_text(&to->expression, is_text ? NULL : from->expression) &&
           copy_text(&to->former, from->former) &&
           copy_text(&to->former_expression, from->former_expression);
}

/* One of a table of that name, without columns yet: room for <n> and one more, <n_key> of them of
 * the key. */
static struct rowtype *allocate(const char *database, const char *schema, const char *table,
                                size_t n, size_t n_key)
{
    struct rowtype *s = calloc(1, sizeof *s);

    if (s == NULL)
        return NULL;
    atomic_init(&s->refs, 1);
    s->database = strdup(database);
    s->schema = strdup(schema);
    s->table = strdup(table);
    s->columns = calloc(n + 1, sizeof *s->columns);
    s->key = calloc(n_key + 1, sizeof *s->key);
    if (s->database != NULL && s->schema != NULL && s->table != NULL && s->columns != NULL &&
        s->key != NULL)
        return s;
    rowtype_unref(s);
    return NULL;
}

struct rowtype *rowtype_derive(const struct rowtype *of,
                               const struct rowtype_derive_column *columns, size_t n,
                               size_t n_row, bool hides_key)
{
    struct rowtype *s = allocate(of->database, of->schema, of->table, n, of->n_key);
    struct err e;
    bool ok;

    if (s == NULL)
        return NULL;
    ok = copy_text(&s->table_id, of->table_id) && copy_text(&s->started, of->started) &&
         copy_text(&s->numbers, of->numbers) && copy_text(&s->dropped, of->dropped);
    for (; ok && s->n_columns < n; s->n_columns++)
        ok = derive_column(&s->columns[s->n_columns], of->columns, &columns[s->n_columns]);
    s->n_row = n_row;
    for (size_t k = 0; ok && k < of->n_key; k++)
        for (size_t i = 0; i < n; i++)
            if (columns[i].from == of->key[k])
                s->key[s->n_key++] = i;
    s->hides_key = hides_key;
    s->has_no_xid = of->has_no_xid;
    s->has_place = of->has_place;
    s->is_by_hand = of->is_by_hand;
    s->soft = SIZE_MAX;
    if (ok && hides_key)
        ok = derive_column(&s->columns[s->n_columns++], of->columns,
                           &(struct rowtype_derive_column){ "", ROWTYPE_DERIVE_NEW, true, false });
    if (ok && rowtype_sign(s, &e))
        return s;
    rowtype_unref(s);
    return NULL;
}

struct rowtype *rowtype_derive_by_hand(const struct rowtype_derive_hand *hand)
{
    struct rowtype *s = allocate(hand->database, hand->schema, hand->table, hand->n, hand->n_key);
    struct err e;
    bool ok = s != NULL;

    if (s == NULL)
        return NULL;
    for (; ok && s->n_columns < hand->n; s->n_columns++) {
        struct rowtype_derive_column column = {
            hand->names[s->n_columns], ROWTYPE_DERIVE_NEW, true, true,
        };

        ok = derive_column(&s->columns[s->n_columns], NULL, &column);
    }
    s->n_row = hand->n_row;
    for (; ok && s->n_key < hand->n_key; s->n_key++)
        s->key[s->n_key] = hand->key[s->n_key];
    s->has_no_xid = s->is_by_hand = true;
    s->soft = SIZE_MAX;
    if (ok && rowtype_sign(s, &e))
        return s;
    rowtype_unref(s);
    return NULL;
}

struct rowtype *rowtype_derive_recorded(const struct rowtype *like)
{
    struct rowtype *s = allocate(like->database, like->schema, like->table, like->n_columns,
                                 like->n_key);
    struct err e;
    bool ok = s != NULL && copy_text(&s->table_id, like->table_id) &&
              copy_text(&s->started, like->started) && copy_text(&s->numbers, like->numbers);

    if (s == NULL)
        return NULL;
    for (; ok && s->n_columns < like->n_columns; s->n_columns++) {
        struct rowtype_derive_column column = {
            like->columns[s->n_columns].name, s->n_columns, false, false,
        };

        ok = derive_column(&s->columns[s->n_columns], like->columns, &column);
    }
    s->n_row = like->n_row;
    for (; s->n_key < like->n_key; s->n_key++)
        s->key[s->n_key] = like->key[s->n_key];
    s->hides_key = like->hides_key;
    s->has_no_xid = like->has_no_xid;
    s->has_place = like->has_place;
    s->soft = SIZE_MAX;
    if (ok && rowtype_sign(s, &e))
        return s;
    rowtype_unref(s);
    return NULL;
}
