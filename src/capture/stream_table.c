/* stream_table.c -- the columns of a relation of the log in the rows of a source.
 * SPDX-License-Identifier: MIT */
#include "capture/stream_table.h"

#include "base/array.h"
#include "base/hash.h"
#include "pg/copytext.h"

#include <stdlib.h>
#include <string.h>

static void forget_columns(struct stream_table *t)
{
    for (size_t i = 0; i < t->n; i++) {
        free(t->told[i]);
        free(t->names[i]);
    }
    free(t->told);
    free(t->names);
    free(t->types);
    free(t->numbers);
    free(t->before);
    free(t->is_key);
    free(t->fields);
    free(t->old);
    free(t->column);
    rowtype_unref(t->rowtype);
    *t = (struct stream_table){ .oid = t->oid, .source = SIZE_MAX, .hash = t->hash,
                                .looked = t->looked, .n_looked = t->n_looked,
                                .cap_looked = t->cap_looked };
}

void stream_table_fini_all(struct stream_table_list *ts)
{
    for (size_t i = 0; i < ts->n; i++) {
        forget_columns(&ts->v[i]);
        free(ts->v[i].looked);
    }
    free(ts->v);
    *ts = (struct stream_table_list){ .serial = ts->serial };
}

static struct stream_table *find(const struct stream_table_list *ts, uint32_t oid)
{
    for (size_t i = 0; i < ts->n; i++)
        if (ts->v[i].oid == oid)
            return &ts->v[i];
    return NULL;
}

bool stream_table_announce(struct stream_table_list *ts, const struct pgoutput_relation *r,
                            struct err *e)
{
    struct stream_table *t = find(ts, r->oid);
    struct pgoutput_columns columns = r->columns;
    struct pgoutput_column column;
    size_t room = columns.n + 1;
    uint64_t hash = HASH_START;
    uint16_t *before = NULL;

    if (t == NULL) {
        if (!ARRAY_PUSH(ts->v, ts->n, ts->cap, ((struct stream_table){ .oid = r->oid })))
            return err_memory(e);
        t = &ts->v[ts->n - 1];
    }
    if (t->is_numbered && t->is_settled) {
        before = t->numbers;
        t->numbers = NULL;
    }
    forget_columns(t);
    t->before = before;
    t->identity = r->identity;
    t->serial = ++ts->serial;
    t->told = calloc(room, sizeof *t->told);
    t->names = calloc(room, sizeof *t->names);
    t->types = calloc(room, sizeof *t->types);
    t->numbers = calloc(room, sizeof *t->numbers);
    t->is_key = calloc(room, sizeof *t->is_key);
    t->fields = calloc(room, sizeof *t->fields);
    t->old = calloc(room, sizeof *t->old);
    if (t->told == NULL || t->names == NULL || t->types == NULL || t->numbers == NULL ||
        t->is_key == NULL || t->fields == NULL || t->old == NULL)
        return err_memory(e);
    for (; pgoutput_next_column(&columns, &column); t->n++) {
        t->told[t->n] = strdup(column.name);
        t->names[t->n] = strdup(column.name);
        if (t->told[t->n] == NULL || t->names[t->n] == NULL) {
            t->n++;
            return err_memory(e);
        }
        t->types[t->n] = column.type;
        t->is_key[t->n] = column.is_key;
        hash = hash_bytes(hash, column.name, strlen(column.name) + 1);
        hash = hash_add(hash_add(hash, column.type), (uint64_t)column.modifier);
    }
    if (hash != t->hash) {
        t->n_looked = 0;
        free(t->before);
        t->before = NULL;
    }
    t->hash = hash;
    return true;
}

/* The place of the column with this name; SIZE_MAX: there is none. */
static size_t place_of(const struct stream_table *t, const char *name)
{
    for (size_t i = 0; i < t->n; i++)
        if (strcmp(t->names[i], name) == 0)
            return i;
    return SIZE_MAX;
}

static bool has_column(const struct rowtype *s, const char *name)
{
    for (size_t i = 0; i < s->n_columns; i++)
        if (strcmp(s->columns[i].name, name) == 0)
            return true;
    return false;
}

/* (What was inserted needs no identity.) */
bool stream_table_check_key(const struct stream_table *t, struct err *e)
{
    const struct rowtype *s = t->rowtype;

    for (size_t k = 0; k < s->n_key; k++) {
        size_t at = t->column[s->key[k]];

        if (at == SIZE_MAX || !t->is_key[at])
            return err_set(e, ERR_REFUSED, "%s.%s: column \"%s\" of the key is not part of the "
                           "replica identity: ALTER TABLE %s.%s REPLICA IDENTITY FULL, or USING "
                           "INDEX a unique index that has it; what the log has already stays as "
                           "it is: where it does not go on, drop the slot, and what has changed "
                           "since is read by xmin", s->schema, s->table,
                           s->columns[s->key[k]].name, s->schema, s->table);
    }
    return true;
}

/* Gives the columns the names of now. (A partition's own order of columns may be another one.)
 * <is_newer>: the facts are not older than the announcement. */
static bool rename_columns(struct stream_table *t, const struct source *s, bool is_newer,
                           struct err *e)
{
    const struct log_columns *now = &s->log_columns;
    bool is_told = now->n > 0 && t->oid == s->facts.table.oid;

    struct log_columns_told told = { t->told, t->types, t->before, t->n };

    if (is_told && !t->is_settled &&
        !log_columns_number(now, s->facts.rowtype, &told, t->numbers, &t->is_numbered, e))
        return false;
    for (size_t i = 0; is_told && t->is_numbered && i < t->n; i++) {
        uint16_t number = t->numbers[i];
        bool is_there = number > 0 && number <= now->n &&
                        now->v[number - 1].state != LOG_COLUMNS_DROPPED;
        char *name = strdup(is_there ? now->v[number - 1].name : "");

        if (name == NULL)
            return err_memory(e);
        free(t->names[i]);
        t->names[i] = name;
    }
    t->is_settled = is_newer;
    return true;
}

static bool map(struct stream_table *t, size_t i, struct rowtype *s, struct err *e)
{
    size_t *column = calloc(s->n_columns + 1, sizeof *column);

    if (column == NULL)
        return err_memory(e);
    free(t->column);
    rowtype_unref(t->rowtype);
    t->column = column;
    t->rowtype = rowtype_ref(s);
    t->source = i;
    for (size_t k = 0; k < s->n_columns; k++)
        column[k] = place_of(t, s->columns[k].name);
    return true;
}

static bool has_looked(const struct stream_table *t, size_t i)
{
    for (size_t k = 0; k < t->n_looked; k++)
        if (t->looked[k] == i)
            return true;
    return false;
}

static bool is_mapped(const struct stream_table *t, size_t i, const struct source *s)
{
    return t->source == i && t->rowtype == s->facts.rowtype && has_looked(t, i) && t->is_settled;
}

bool stream_table_find(struct stream_table_list *ts, uint32_t oid, size_t i,
                        const struct source *source, struct stream_table **t, bool *is_known,
                        struct err *e)
{
    struct rowtype *s = source->facts.rowtype;

    *is_known = true;
    *t = find(ts, oid);
    if (*t == NULL || is_mapped(*t, i, source))
        return true;
    *is_known = has_looked(*t, i);
    if (!rename_columns(*t, source, *is_known, e))
        return false;
    if (!*is_known && !ARRAY_PUSH((*t)->looked, (*t)->n_looked, (*t)->cap_looked, i))
        return err_memory(e);
    for (size_t k = 0; source->config->n_columns == 0 && k < (*t)->n; k++)
        *is_known = *is_known && has_column(s, (*t)->names[k]);
    for (size_t k = 0; k < s->n_columns; k++)
        *is_known = *is_known && (s->columns[k].expression != NULL ||
                                  place_of(*t, s->columns[k].name) != SIZE_MAX);
    return map(*t, i, s, e);
}

void stream_table_look_again(struct stream_table_list *ts, uint32_t oid)
{
    find(ts, oid)->n_looked = 0;
}

bool stream_table_is_of(const struct source *s, uint32_t oid)
{
    const struct relation *r = &s->facts.table;

    return r->oid == oid || (!r->is_partitioned && relation_leaf(r, oid) != NULL);
}

const struct stream_table *stream_table_known(struct stream_table_list *ts, uint32_t oid, size_t i,
                                              const struct source *source)
{
    struct stream_table *t = find(ts, oid);

    return t != NULL && is_mapped(t, i, source) ? t : NULL;
}

/* ---- fields ---- */

static bool read_fields(const struct stream_table *t, struct pgoutput_tuple tuple,
                        struct pgoutput_field *fields, struct err *e)
{
    if (tuple.n != t->n)
        return err_set(e, ERR_ANSWER, "a row of the log has %zu columns where %zu were announced",
                       tuple.n, t->n);
    for (size_t i = 0; pgoutput_next_field(&tuple, &fields[i]); i++)
        ;
    return true;
}

static void put_field(const struct pgoutput_field *f, struct buf *line)
{
    if (f->value == PGOUTPUT_TEXT)
        copytext_escape(line, f->p, f->len);
    else
        buf_puts(line, f->value == PGOUTPUT_NULL ? "\\N" : COPYTEXT_UNKNOWN);
}

/* True if the log did not write the value of a column that was dropped since, and whose name a new
 * one has: then the new one had no value of its own, and what it has now is not of that time. */
static bool is_replaced(const struct stream_table *t, const char *name)
{
    for (size_t i = 0; i < t->n; i++)
        if (strcmp(t->told[i], name) == 0)
            return t->fields[i].value == PGOUTPUT_UNCHANGED;
    return false;
}

bool stream_table_put_row(const struct stream_table *t, const struct pgoutput_row *row,
                          struct buf *line, bool *lacks, struct err *e)
{
    static const struct pgoutput_field unchanged = { .value = PGOUTPUT_UNCHANGED };

    *lacks = false;
    buf_clear(line);
    if (!read_fields(t, row->new, t->fields, e) ||
        (row->has_old != PGOUTPUT_NO_OLD && !read_fields(t, row->old, t->old, e)))
        return false;
    for (size_t k = 0; k < t->rowtype->n_columns; k++) {
        size_t at = t->column[k];
        const struct pgoutput_field *f =
            at != SIZE_MAX                                ? &t->fields[at]
            : is_replaced(t, t->rowtype->columns[k].name) ? &unchanged
                                                          : NULL;

        if (k > 0)
            buf_putc(line, '\t');
        /* where only the key is there, the others are NULL, which no such value is */
        if (f != NULL && at != SIZE_MAX && f->value == PGOUTPUT_UNCHANGED &&
            row->has_old != PGOUTPUT_NO_OLD && t->old[at].value == PGOUTPUT_TEXT)
            f = &t->old[at];
        *lacks = *lacks || (f != NULL && f->value == PGOUTPUT_UNCHANGED);
        put_field(f != NULL ? f : &(struct pgoutput_field){ .value = PGOUTPUT_NULL }, line);
    }
    return buf_ok(line) || err_memory(e);
}

static bool is_key(const struct rowtype *s, size_t column)
{
    for (size_t k = 0; k < s->n_key; k++)
        if (s->key[k] == column)
            return true;
    return false;
}

bool stream_table_put_key(const struct stream_table *t, const struct pgoutput_tuple *old,
                          struct buf *line, struct err *e)
{
    buf_clear(line);
    if (!read_fields(t, *old, t->old, e))
        return false;
    for (size_t k = 0; k < t->rowtype->n_columns; k++) {
        if (k > 0)
            buf_putc(line, '\t');
        if (is_key(t->rowtype, k))
            put_field(&t->old[t->column[k]], line);
        else
            buf_puts(line, "\\N");
    }
    return buf_ok(line) || err_memory(e);
}

bool stream_table_put_old(const struct stream_table *t, const struct pgoutput_tuple *old,
                          struct buf *line, struct err *e)
{
    static const struct pgoutput_field null = { .value = PGOUTPUT_NULL };

    buf_clear(line);
    if (!read_fields(t, *old, t->old, e))
        return false;
    for (size_t k = 0; k < t->rowtype->n_columns; k++) {
        if (k > 0)
            buf_putc(line, '\t');
        put_field(t->column[k] != SIZE_MAX ? &t->old[t->column[k]] : &null, line);
    }
    return buf_ok(line) || err_memory(e);
}

static bool is_equal(const struct pgoutput_field *a, const struct pgoutput_field *b)
{
    if (a->value != PGOUTPUT_TEXT || b->value != PGOUTPUT_TEXT)
        return a->value == b->value || a->value == PGOUTPUT_UNCHANGED ||
               b->value == PGOUTPUT_UNCHANGED;
    return a->len == b->len && memcmp(a->p, b->p, a->len) == 0;
}

bool stream_table_is_other_key(const struct stream_table *t, const struct pgoutput_row *row,
                               bool *is, struct err *e)
{
    *is = false;
    if (!read_fields(t, row->old, t->old, e) || !read_fields(t, row->new, t->fields, e))
        return false;
    for (size_t k = 0; k < t->rowtype->n_key; k++) {
        size_t at = t->column[t->rowtype->key[k]];

        *is = *is || !is_equal(&t->old[at], &t->fields[at]);
    }
    return true;
}
