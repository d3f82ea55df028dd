/* complete_table.c -- rows of one source that wait until they are complete.
 * SPDX-License-Identifier: MIT */
#include "capture/complete_table.h"

#include "base/array.h"

#include <stdlib.h>
#include <string.h>

void complete_table_init(struct complete_table *ct)
{
    *ct = (struct complete_table){ 0 };
    buf_init(&ct->answers, SIZE_MAX / 2);
    buf_init(&ct->scratch, SIZE_MAX / 2);
}

void complete_table_forget_units(struct complete_table *ct)
{
    ct->n_units = ct->n_put = 0;
    buf_clear(&ct->answers);
    free(ct->values);
    ct->values = NULL;
}

void complete_table_take(struct complete_table *ct)
{
    size_t n = ct->n_put, start = n < ct->n_wholes ? ct->wholes[n].now.start : ct->n_bytes;

    complete_table_forget_units(ct);
    ct->n_wholes -= n;
    ct->n_bytes -= start;
    if (ct->n_wholes > 0) {
        memmove(ct->wholes, ct->wholes + n, ct->n_wholes * sizeof *ct->wholes);
        memmove(ct->bytes, ct->bytes + start, ct->n_bytes);
    }
    for (size_t i = 0; i < ct->n_wholes; i++) {
        ct->wholes[i].now.start -= start;
        ct->wholes[i].old.start -= start;
    }
    ct->is_planned_anew = false;
}

static void forget_table(struct complete_table *ct)
{
    complete_table_forget_units(ct);
    ct->n_wholes = ct->n_bytes = 0;
    complete_plan_fini(&ct->plan);
    for (size_t i = 0; i < ct->n_names; i++)
        free(ct->names[i]);
    free(ct->names);
    free(ct->from);
    free(ct->is_told);
    rowtype_unref(ct->rowtype);
    ct->names = NULL;
    ct->n_names = 0;
    ct->from = NULL;
    ct->is_told = NULL;
    ct->rowtype = NULL;
    ct->source = NULL;
}

void complete_table_fini(struct complete_table *ct)
{
    forget_table(ct);
    free(ct->wholes);
    free(ct->bytes);
    free(ct->units);
    buf_fini(&ct->answers);
    buf_fini(&ct->scratch);
}

/* ---- the table ---- */

static size_t find_name(const struct complete_table *ct, const char *name)
{
    for (size_t i = 0; i < ct->n_names; i++)
        if (strcmp(ct->names[i], name) == 0)
            return i;
    return SIZE_MAX;
}

bool complete_table_plan(struct complete_table *ct, struct conn *conn, struct err *e)
{
    struct complete_plan *p = &ct->plan;

    if (!complete_plan_read(p, ct->source, ct->rowtype, conn, e))
        return false;
    free(ct->from);
    ct->from = calloc(p->n_columns + 1, sizeof *ct->from);
    if (ct->from == NULL)
        return err_memory(e);
    for (size_t i = 0; i < p->n_columns; i++) {
        ct->from[i] = find_name(ct, p->columns[i].name);
        p->columns[i].is_computed = p->columns[i].expression != NULL && ct->from[i] == SIZE_MAX;
    }
    ct->needs_rows = complete_plan_needs_rows(p, ct->source);
    return true;
}

static bool copy_names(struct complete_table *ct, const struct stream_table *t, struct err *e)
{
    ct->names = calloc(t->n + 1, sizeof *ct->names);
    ct->is_told = calloc(ct->rowtype->n_columns + 1, sizeof *ct->is_told);
    if (ct->names == NULL || ct->is_told == NULL)
        return err_memory(e);
    for (size_t i = 0; i < t->n; i++) {
        if ((ct->names[i] = strdup(t->names[i])) == NULL)
            return err_memory(e);
        ct->n_names++;
    }
    return true;
}

bool complete_table_begin(struct complete_table *ct, struct source *s,
                          const struct stream_table *t, struct conn *conn, struct err *e)
{
    forget_table(ct);
    ct->rowtype = rowtype_ref(s->facts.rowtype);
    ct->serial = t->serial;
    ct->newest = t->serial > ct->newest ? t->serial : ct->newest;
    ct->is_row_told = false;
    ct->is_lacking = false;
    ct->has_condition = s->config->where != NULL;
    ct->wants_hash = source_keeps_by_log(s);
    ct->is_asked = ct->wants_hash || complete_plan_is_needed(s);
    ct->source = s;
    if (copy_names(ct, t, e) && (!ct->is_asked || complete_table_plan(ct, conn, e)))
        return true;
    ct->source = NULL; /* again, next time */
    return false;
}

/* ---- rows that wait ---- */

static bool add_tuple(struct complete_table *ct, const struct pgoutput_tuple *tuple,
                      struct complete_table_tuple *to)
{
    struct pgoutput_tuple rest;
    struct pgoutput_field f;
    size_t len;

    *to = (struct complete_table_tuple){ .start = ct->n_bytes };
    if (tuple == NULL || !ct->needs_rows)
        return true;
    for (rest = *tuple; pgoutput_next_field(&rest, &f);)
        ;
    len = (size_t)(rest.p - tuple->p);
    if (!ARRAY_RESERVE(ct->bytes, ct->n_bytes, ct->cap_bytes, len + 1))
        return false;
    memcpy(ct->bytes + ct->n_bytes, tuple->p, len);
    ct->n_bytes += len;
    to->n = tuple->n;
    return true;
}

bool complete_table_add(struct complete_table *ct, const struct pgoutput_tuple *now,
                        const struct pgoutput_tuple *old, bool lacks, struct err *e)
{
    const struct rowtype *t = ct->rowtype;
    struct complete_table_whole whole;

    if (lacks && ct->source->config->toast == CONFIG_TOAST_REQUIRE && !ct->wants_hash)
        return err_set(e, ERR_REFUSED, "%s.%s: toast = \"require\", and the log does not have a "
                       "value that an update left as it was: ALTER TABLE %s.%s REPLICA IDENTITY "
                       "FULL", t->schema, t->table, t->schema, t->table);
    ct->is_lacking = ct->is_lacking || lacks;
    ct->n_lacking += ct->is_lacking;
    if (!ct->is_asked)
        return true;
    return (add_tuple(ct, now, &whole.now) && add_tuple(ct, old, &whole.old) &&
            ARRAY_PUSH(ct->wholes, ct->n_wholes, ct->cap_wholes, whole)) || err_memory(e);
}

static bool add_unit(struct complete_table *ct, const struct complete_table_unit *u)
{
    return ARRAY_PUSH(ct->units, ct->n_units, ct->cap_units, *u);
}

bool complete_table_put(struct complete_table *ct, const struct chunk *chunk, struct err *e)
{
    for (size_t i = 0; i < chunk->n_rows; i++) {
        const struct complete_table_whole *whole = &ct->wholes[ct->n_put];
        const struct chunk_side *side = chunk->sides != NULL ? &chunk->sides[i] : NULL;
        struct complete_table_unit now = {
            .chunk = chunk, .passes = true, .answers = &ct->answers,
            .start = chunk->rows[i].start, .len = chunk->rows[i].len,
            .has_row = whole->now.n > 0, .row = whole->now, .before = whole->old,
        };
        struct complete_table_unit old = {
            .chunk = chunk, .passes = true, .answers = &ct->answers,
            .start = side != NULL ? side->old_start : 0, .len = side != NULL ? side->old_len : 0,
            .has_row = whole->old.n > 0, .row = whole->old,
        };

        if (ct->n_put++ >= ct->n_wholes)
            return err_set(e, ERR_INTERNAL, "more rows than were announced");
        now.has_old = old.has_row || old.len > 0;
        if (!add_unit(ct, &now) || (now.has_old && !add_unit(ct, &old)))
            return err_memory(e);
    }
    return true;
}

