/* rowtype.c -- what rows need to be understood: their columns and key.
 * SPDX-License-Identifier: MIT */
#include "capture/rowtype.h"

#include "base/hash.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct rowtype *rowtype_ref(struct rowtype *s)
{
    atomic_fetch_add(&s->refs, 1);
    return s;
}

void rowtype_unref(struct rowtype *s)
{
    if (s == NULL || atomic_fetch_sub(&s->refs, 1) > 1)
        return;
    for (size_t i = 0; i < s->n_columns; i++) {
        free(s->columns[i].name);
        free(s->columns[i].type);
        free(s->columns[i].base_type);
        free(s->columns[i].expression);
        free(s->columns[i].altered);
        free(s->columns[i].parts);
        free(s->columns[i].attributes);
        free(s->columns[i].former);
        free(s->columns[i].former_expression);
    }
    free(s->columns);
    free(s->key);
    free(s->database);
    free(s->schema);
    free(s->table);
    free(s->table_id);
    free(s->started);
    free(s->numbers);
    free(s->dropped);
    free(s->signature);
    free(s->columns_text);
    free(s);
}

/* Copies text, which may be NULL. False: out of memory. */
static bool copy_text(char **to, const char *from)
{
    return from == NULL || (*to = strdup(from)) != NULL;
}

/* Either may be NULL. */
static bool is_same_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

bool rowtype_equal(const struct rowtype *a, const struct rowtype *b)
{
    if (strcmp(a->database, b->database) != 0 || strcmp(a->signature, b->signature) != 0 ||
        strcmp(a->table_id, b->table_id) != 0 || strcmp(a->columns_text, b->columns_text) != 0 ||
        !is_same_text(a->started, b->started) || a->n_columns != b->n_columns ||
        a->n_key != b->n_key)
        return false;
    for (size_t i = 0; i < a->n_columns; i++)
        if (strcmp(a->columns[i].name, b->columns[i].name) != 0 ||
            !is_same_text(a->columns[i].base_type, b->columns[i].base_type) ||
            !is_same_text(a->columns[i].parts, b->columns[i].parts) ||
            a->columns[i].kind != b->columns[i].kind)
            return false;
    return a->soft == b->soft && a->has_stamp == b->has_stamp && a->has_place == b->has_place &&
           a->order == b->order && a->scope == b->scope &&
           memcmp(a->key, b->key, a->n_key * sizeof *a->key) == 0;
}

/* The field <i> of a row; p NULL if it has none. */
static struct copytext_field find_field(const char *row, size_t len, size_t i)
{
    const char *p = row, *end = row + len, *tab;

    for (; i > 0; i--, p = tab + 1)
        if ((tab = memchr(p, '\t', (size_t)(end - p))) == NULL)
            return (struct copytext_field){ NULL, 0 };
    tab = memchr(p, '\t', (size_t)(end - p));
    return (struct copytext_field){ p, (size_t)((tab != NULL ? tab : end) - p) };
}

bool rowtype_is_soft_deleted(const struct rowtype *s, const char *row, size_t len)
{
    struct copytext_field f;

    if (s->soft == SIZE_MAX)
        return false;
    f = find_field(row, len, s->soft);
    if (f.p == NULL || copytext_is_null(f))
        return false;
    return s->columns[s->soft].kind != TYPES_BOOL || *f.p == 't';
}

const char *rowtype_hash_class(const char *type)
{
    static const char *const integers[] = { "bigint", "integer", "smallint" };

    for (size_t i = 0; i < 3; i++)
        if (strcmp(type, integers[i]) == 0)
            return "integer";
    return strcmp(type, "uuid") == 0 ? "uuid" : "text";
}

bool rowtype_put_key(const struct rowtype *s, const char *row, size_t len, struct buf *key)
{
    for (size_t i = 0; i < s->n_key; i++) {
        struct copytext_field f = find_field(row, len, s->key[i]);

        if (f.p == NULL)
            return false;
        if (i > 0)
            buf_putc(key, '\t');
        buf_add(key, f.p, f.len);
    }
    return buf_ok(key);
}

/* The third answer to sql_table. */
enum { C_NAME, C_TYPE, C_OID, C_ARRAY, C_COMPOSITE, C_CAST, C_PK, C_NULLABLE, C_UNIQUE, C_NUMBER,
       C_BASE_TYPE, C_EXPRESSION, C_ALTERED, C_HAS_PARTS };

/* The answer to sql_parts. */
enum { P_NUMBER, P_PARTS, P_ATTRIBUTES };

#define XID8_OID 5069
#define INDEXES_MAX 10000 /* unique ones, each counted once for each of its columns */

/* SIZE_MAX: there is none. */
static size_t find_column(const struct result *r, const char *name)
{
    for (size_t i = 0; i < result_count(r); i++)
        if (strcmp(result_text(r, i, C_NAME), name) == 0)
            return i;
    return SIZE_MAX;
}

static bool fail_no_column(const struct relation *t, const struct result *r, const char *what,
                           const char *name, struct err *e)
{
    const char *nearest = NULL;
    size_t best = SIZE_MAX;

    for (size_t i = 0; i < result_count(r); i++) {
        const char *other = result_text(r, i, C_NAME);
        size_t d = text_distance(name, other);

        if (d < best) {
            best = d;
            nearest = other;
        }
    }
    return err_set(e, ERR_REFUSED, "%s.%s has no column \"%s\" (named in %s)%s%s%s", t->schema,
                   t->name, name, what, nearest != NULL ? "; the nearest is \"" : "",
                   nearest != NULL ? nearest : "", nearest != NULL ? "\"" : "");
}

/* Adds column <i> of the answer; returns its index in the row type, or SIZE_MAX without memory. */
static size_t add_column(struct rowtype *s, const struct result *r, size_t i)
{
    struct rowtype_column *c = &s->columns[s->n_columns];
    struct types_facts type = {
        .oid = result_u32(r, i, C_OID),
        .is_array = result_bool(r, i, C_ARRAY),
        .is_composite = result_bool(r, i, C_COMPOSITE),
        .has_json_cast = result_bool(r, i, C_CAST),
    };

    c->number = (uint16_t)result_u64(r, i, C_NUMBER);
    c->name = strdup(result_text(r, i, C_NAME));
    c->type = strdup(result_text(r, i, C_TYPE));
    c->base_type = strdup(result_text(r, i, C_BASE_TYPE));
    c->altered = strdup(result_text(r, i, C_ALTERED));
    c->kind = types_kind_of(&type);
    c->wants_to_json = types_wants_to_json(&type);
    c->is_nullable = result_bool(r, i, C_NULLABLE);
    c->is_text = row_order_is_text(type.oid);
    c->is_total = row_order_is_total(type.oid);
    c->has_parts = result_bool(r, i, C_HAS_PARTS);
    c->has_json_cast = type.has_json_cast && !type.is_array && !type.is_composite;
    s->n_columns++;
    if (result_text(r, i, C_EXPRESSION) != NULL &&
        (c->expression = strdup(result_text(r, i, C_EXPRESSION))) == NULL)
        return SIZE_MAX;
    return c->name != NULL && c->type != NULL && c->base_type != NULL && c->altered != NULL
               ? s->n_columns - 1 : SIZE_MAX;
}

static bool add_row_columns(struct rowtype *s, const struct relation *t, const struct result *r,
                            const struct config *c, struct err *e)
{
    size_t n = c->n_columns > 0 ? c->n_columns : result_count(r);
    size_t stamp = find_column(r, ROWTYPE_STAMP_COLUMN);

    s->has_stamp = stamp != SIZE_MAX && result_u64(r, stamp, C_OID) == XID8_OID;
    for (size_t i = 0; i < n; i++) {
        size_t at = c->n_columns > 0 ? find_column(r, c->columns[i]) : i;

        if (c->n_columns == 0 && at == stamp && s->has_stamp)
            continue;
        if (at == SIZE_MAX)
            return fail_no_column(t, r, "columns", c->columns[i], e);
        if (add_column(s, r, at) == SIZE_MAX)
            return err_memory(e);
    }
    s->n_row = s->n_columns;
    return true;
}

/* Column <at> of the answer, which is added after the row if it is not in it. */
static bool add_hidden_column(struct rowtype *s, const struct result *r, size_t at, size_t *i,
                              struct err *e)
{
    const char *name = result_text(r, at, C_NAME);

    for (*i = 0; *i < s->n_columns && strcmp(s->columns[*i].name, name) != 0; ++*i)
        ;
    return *i < s->n_columns || add_column(s, r, at) != SIZE_MAX || err_memory(e);
}

static bool add_key_column(struct rowtype *s, const struct result *r, size_t at, struct err *e)
{
    return add_hidden_column(s, r, at, &s->key[s->n_key++], e);
}

static bool add_soft(struct rowtype *s, const struct relation *t, const struct result *r,
                     const char *soft, struct err *e)
{
    size_t at = soft != NULL ? find_column(r, soft) : 0;

    s->soft = SIZE_MAX;
    if (soft == NULL)
        return true;
    if (at == SIZE_MAX)
        return fail_no_column(t, r, "soft_delete", soft, e);
    return add_hidden_column(s, r, at, &s->soft, e);
}

/* The primary key's columns carry their place in it, from 1, in C_PK. */
static bool add_primary_key(struct rowtype *s, const struct relation *t, const struct result *r,
                            struct err *e)
{
    size_t n = result_count(r);

    for (uint64_t place = 1;; place++) {
        size_t at = 0;

        while (at < n && result_u64(r, at, C_PK) != place)
            at++;
        if (at == n)
            break;
        if (!add_key_column(s, r, at, e))
            return false;
    }
    if (s->n_key == 0)
        return err_set(e, ERR_REFUSED,
                       "%s.%s has no primary key: say which columns identify a row, "
                       "pk = \"...\" or pk = {\"...\", \"...\"}", t->schema, t->name);
    return true;
}

static bool add_key(struct rowtype *s, const struct relation *t, const struct result *r,
                    const struct config *c, struct err *e)
{
    if (c->n_pk == 0)
        return add_primary_key(s, t, r, e);
    for (size_t i = 0; i < c->n_pk; i++) {
        size_t at = find_column(r, c->pk[i]);

        if (at == SIZE_MAX)
            return fail_no_column(t, r, "pk", c->pk[i], e);
        if (!add_key_column(s, r, at, e))
            return false;
    }
    return true;
}

/* ---- the order of rows, see row_order.h ---- */

/* The unique indexes that the <k>th column of the key is part of: "oid/n oid/n", or "". */
static const char *indexes_of(const struct rowtype *s, const struct result *r, size_t k)
{
    const char *list = result_text(r, find_column(r, s->columns[s->key[k]].name), C_UNIQUE);

    return list != NULL ? list : "";
}

/* The next index of such a list, or its end. */
static const char *next_index(const char *p)
{
    size_t len = strcspn(p, " ");

    return p + len + (p[len] == ' ');
}

/* Checks the lists of unique indexes. ERR_ANSWER if one cannot be read, or if there are too many to
 * be compared. */
static bool check_indexes(const struct result *r, struct err *e)
{
    size_t count = 0;

    for (size_t i = 0; i < result_count(r); i++) {
        const char *p = result_text(r, i, C_UNIQUE);

        for (uint64_t n; p != NULL && *p != '\0'; p += *p == ' ', count++)
            if (count == INDEXES_MAX || !text_read_u64(&p, NULL, &n) || *p++ != '/' ||
                !text_read_u64(&p, NULL, &n) || (*p != ' ' && *p != '\0'))
                return err_set(e, ERR_ANSWER, "the server's list of a column's unique indexes "
                               "cannot be read: %.100s", result_text(r, i, C_UNIQUE));
    }
    return true;
}

/* How many columns of the key are part of <index>, an item of such a list. */
static size_t count_columns(const struct rowtype *s, const struct result *r, const char *index)
{
    size_t len = strcspn(index, " "), n = 0;

    for (size_t k = 0; k < s->n_key; k++)
        for (const char *p = indexes_of(s, r, k); *p != '\0'; p = next_index(p))
            n += strcspn(p, " ") == len && strncmp(p, index, len) == 0;
    return n;
}

/* True if all columns of a unique index without NULLs are in the key. */
static bool has_unique_key(const struct rowtype *s, const struct result *r)
{
    for (size_t k = 0; k < s->n_key; k++)
        for (const char *p = indexes_of(s, r, k); *p != '\0'; p = next_index(p))
            if (count_columns(s, r, p) == strtoul(strchr(p, '/') + 1, NULL, 10))
                return true;
    return false;
}

/* True if all columns of the key have a total order, and no NULLs. */
static bool has_total_order(const struct rowtype *s)
{
    for (size_t k = 0; k < s->n_key; k++)
        if (s->columns[s->key[k]].is_nullable || !s->columns[s->key[k]].is_total)
            return false;
    return true;
}

static uint64_t hash_column(uint64_t h, const struct rowtype_column *c)
{
    h = hash_bytes(h, c->name, strlen(c->name) + 1);
    return hash_bytes(h, c->type, strlen(c->type) + 1);
}

static void choose_order(struct rowtype *s, const struct result *r)
{
    bool is_unique = has_unique_key(s, r), has_text = false, has_json = false;

    for (size_t k = 0; k < s->n_key; k++) {
        has_text = has_text || s->columns[s->key[k]].is_text;
        has_json = has_json || s->columns[s->key[k]].wants_to_json; /* two values may look alike */
    }
    s->has_place = !s->has_no_xid && (!is_unique || has_json);
    s->order = s->has_no_xid || (is_unique && has_total_order(s))
                   ? has_text ? ROW_ORDER_BY_BYTES : ROW_ORDER_BY_KEY
                   : ROW_ORDER_BY_FINGERPRINT;
    if (s->order != ROW_ORDER_BY_FINGERPRINT)
        return;
    s->scope = HASH_START;
    for (size_t i = 0; i < (s->has_place ? s->n_columns : s->n_key); i++)
        s->scope = hash_column(s->scope, &s->columns[s->has_place ? i : s->key[i]]);
}

/* ---- what the position keeps of columns ---- */

static char *read_numbers(const struct result *r)
{
    struct buf b;

    buf_init(&b, BUF_SQL_MAX);
    buf_putc(&b, ' ');
    for (size_t i = 0; i < result_count(r); i++)
        buf_printf(&b, "%" PRIu32 " ", result_u32(r, i, C_NUMBER));
    return buf_take(&b);
}

static void put_escaped(struct buf *b, const char *text)
{
    copytext_escape(b, text, strlen(text));
}

/* The place of column <i> in the key, from 1; 0: it is no part of it. */
static size_t key_place(const struct rowtype *s, size_t i)
{
    for (size_t k = 0; k < s->n_key; k++)
        if (s->key[k] == i)
            return k + 1;
    return 0;
}

static bool describe_columns(struct rowtype *s, struct err *e)
{
    struct buf b;

    buf_init(&b, BUF_SQL_MAX);
    for (size_t i = 0; i < s->n_columns; i++) {
        const struct rowtype_column *c = &s->columns[i];

        buf_printf(&b, "%d\t%zu\t", c->number, key_place(s, i));
        put_escaped(&b, c->name);
        buf_putc(&b, '\t');
        put_escaped(&b, c->type);
        buf_putc(&b, '\t');
        put_escaped(&b, c->expression != NULL ? c->expression : "");
        buf_printf(&b, "\t%s\t", c->altered);
        put_escaped(&b, c->attributes != NULL ? c->attributes : "-");
        buf_putc(&b, '\n');
    }
    s->columns_text = buf_take(&b);
    return s->columns_text != NULL || err_memory(e);
}

bool rowtype_sign(struct rowtype *s, struct err *e)
{
    struct buf b;

    buf_init(&b, BUF_SQL_MAX);
    for (size_t i = 0; i < s->n_row; i++) {
        put_escaped(&b, s->columns[i].name);
        buf_putc(&b, '\t');
        put_escaped(&b, s->columns[i].type);
        buf_putc(&b, '\n');
    }
    s->signature = buf_take(&b);
    return s->signature != NULL ? true : err_memory(e);
}

/* Sets table_id and started. False: out of memory. */
static bool set_place(struct rowtype *s, const struct relation *t, const struct identity *id)
{
    char table_id[80];

    snprintf(table_id, sizeof table_id, "%s/%" PRIu32 "/%" PRIu32, id->system, id->database,
             t->oid);
    s->table_id = strdup(table_id);
    return s->table_id != NULL && (id->in_recovery || copy_text(&s->started, id->started));
}

bool rowtype_has_parts(const struct result *columns)
{
    for (size_t i = 0; i < result_count(columns); i++)
        if (result_bool(columns, i, C_HAS_PARTS))
            return true;
    return false;
}

/* Sets the parts and attributes of the columns. */
static bool set_parts(struct rowtype *s, const struct rowtype_answers *a, struct err *e)
{
    for (size_t i = 0; i < s->n_columns && a->parts != NULL; i++)
        for (size_t k = 0; k < result_count(a->parts); k++)
            if (result_u32(a->parts, k, P_NUMBER) == s->columns[i].number &&
                s->columns[i].has_parts &&
                !(copy_text(&s->columns[i].parts, result_text(a->parts, k, P_PARTS)) &&
                  copy_text(&s->columns[i].attributes, result_text(a->parts, k, P_ATTRIBUTES))))
                return err_memory(e);
    return true;
}

struct rowtype *rowtype_read(const struct relation *t, const struct rowtype_answers *a,
                             const struct config *c, const struct identity *id, struct err *e)
{
    const struct result *columns = a->columns;
    size_t most = result_count(columns) + c->n_columns + c->n_pk + 1;
    struct rowtype *s = calloc(1, sizeof *s);

    if (s == NULL) {
        err_memory(e);
        return NULL;
    }
    atomic_init(&s->refs, 1);
    s->database = strdup(t->database);
    s->schema = strdup(t->schema);
    s->table = strdup(t->name);
    s->numbers = read_numbers(columns);
    s->columns = calloc(most, sizeof *s->columns);
    s->key = calloc(most, sizeof *s->key);
    s->has_no_xid = !t->has_xmin;
    if (!set_place(s, t, id) || s->database == NULL || s->schema == NULL || s->table == NULL ||
        s->numbers == NULL || s->columns == NULL || s->key == NULL)
        err_memory(e);
    else if (check_indexes(columns, e) && add_row_columns(s, t, columns, c, e) &&
             add_key(s, t, columns, c, e) && add_soft(s, t, columns, c->soft_delete, e) &&
             set_parts(s, a, e) && rowtype_sign(s, e) && describe_columns(s, e)) {
        choose_order(s, columns);
        return s;
    }
    rowtype_unref(s);
    return NULL;
}

bool rowtype_read_growth(const struct relation *t, const struct result *columns,
                         const char *name, enum increment_growth *growth, struct err *e)
{
    static const struct { uint64_t oid; enum increment_growth growth; } types[] = {
        { 20, INCREMENT_INTEGER }, { 21, INCREMENT_INTEGER }, { 23, INCREMENT_INTEGER },
        { 1082, INCREMENT_DATE }, { 1114, INCREMENT_TIMESTAMP }, { 1184, INCREMENT_TIMESTAMPTZ },
    };
    size_t at = find_column(columns, name);

    *growth = INCREMENT_GROWS_NOT;
    if (at == SIZE_MAX)
        return fail_no_column(t, columns, "column", name, e);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].oid == result_u64(columns, at, C_OID))
            *growth = types[i].growth;
    return *growth != INCREMENT_GROWS_NOT ||
           err_set(e, ERR_REFUSED, "%s.%s: capture = \"increment\" goes by smallint, integer, "
                   "bigint, date, timestamp or timestamptz, and column \"%s\" is %s", t->schema,
                   t->name, name, result_text(columns, at, C_TYPE));
}
