/* writes.c -- what a transaction changes in a state that is kept in a database.
 * SPDX-License-Identifier: MIT */
#include "state/writes.h"

#include "base/array.h"
#include "base/text.h"
#include "capture/sql.h"

#include <inttypes.h>
#include <stdlib.h>

#define FEW 50 /* rows */

/* What a row becomes that is there already. */
static const char replace[] =
    " ON CONFLICT (pipeline, source, id) DO UPDATE SET hash = excluded.hash, xid = excluded.xid,"
    " digest = excluded.digest, flags = excluded.flags, note = excluded.note, sum = excluded.sum,"
    " key = excluded.key, form = excluded.form, \"row\" = excluded.\"row\","
    " older = excluded.older;";

bool writes_init(struct writes *w, const char *pipeline, struct err *e)
{
    struct buf literal;

    *w = (struct writes){ 0 };
    buf_init(&literal, BUF_SQL_MAX);
    sql_put_literal(&literal, pipeline);
    w->pipeline = buf_take(&literal);
    return w->pipeline != NULL || err_memory(e);
}

void writes_clear(struct writes *w)
{
    for (size_t i = 0; i < w->n; i++)
        buf_fini(&w->pieces[i].text);
    w->n = 0;
    free(w->dropped);
    w->dropped = NULL;
    w->failed = false;
}

void writes_fini(struct writes *w)
{
    writes_clear(w);
    free(w->pieces);
    free(w->pipeline);
}

/* Ends the list of ids that is open. */
static void end_list(struct writes *w)
{
    if (w->dropped == NULL)
        return;
    buf_puts(&w->pieces[w->n - 1].text, ");");
    free(w->dropped);
    w->dropped = NULL;
}

bool writes_end(struct writes *w)
{
    end_list(w);
    for (size_t i = 0; i < w->n; i++)
        if (!buf_ok(&w->pieces[i].text))
            return false;
    return !w->failed;
}

/* Where the next piece of that kind goes. NULL: there is no memory. */
static struct buf *open_piece(struct writes *w, bool is_rows)
{
    struct writes_piece fresh = { .is_rows = is_rows };

    end_list(w);
    if (w->n > 0 && w->pieces[w->n - 1].is_rows == is_rows)
        return &w->pieces[w->n - 1].text;
    buf_init(&fresh.text, SIZE_MAX / 2);
    if (w->failed || !ARRAY_PUSH(w->pieces, w->n, w->cap, fresh)) {
        w->failed = true;
        return NULL;
    }
    return &w->pieces[w->n - 1].text;
}

/* Two digits a byte. */
static void put_hex(struct buf *b, struct store_slice s)
{
    char *to = buf_reserve(b, 2 * s.len);

    if (to == NULL)
        return;
    b->len = (size_t)(text_put_hex(to, s.p, s.len) - b->data);
}

static void put_bytes(struct buf *sql, struct store_slice s)
{
    buf_puts(sql, "E'\\\\x");
    put_hex(sql, s);
    buf_puts(sql, "'::bytea");
}

static struct store_slice slice_of(const char *text)
{
    return (struct store_slice){ text, strlen(text) };
}

/* ---- records ---- */

void writes_put(struct writes *w, const struct store_record *r)
{
    struct buf *sql = open_piece(w, false);

    if (sql == NULL)
        return;
    if (r->value.p != NULL)
        buf_printf(sql, "INSERT INTO pgcdc.state VALUES (%s,'%.*s',", w->pipeline,
                   (int)r->kind.len, r->kind.p);
    else
        buf_printf(sql, "DELETE FROM pgcdc.state WHERE (pipeline, kind, name, key) ="
                   " (%s,'%.*s',", w->pipeline, (int)r->kind.len, r->kind.p);
    put_bytes(sql, r->name);
    buf_putc(sql, ',');
    put_bytes(sql, r->key);
    if (r->value.p != NULL) {
        buf_putc(sql, ',');
        put_bytes(sql, r->value);
        buf_puts(sql, ") ON CONFLICT (pipeline, kind, name, key) DO UPDATE SET"
                 " value = excluded.value, saved = excluded.saved;");
    } else {
        buf_puts(sql, ");");
    }
}

void writes_forget(struct writes *w, const char *source, bool is_any_schema)
{
    struct buf *sql = open_piece(w, false);

    if (sql == NULL)
        return;
    buf_printf(sql, "DELETE FROM pgcdc.state WHERE pipeline = %s AND kind = 'position'"
               " AND (name = ", w->pipeline);
    put_bytes(sql, slice_of(source));
    if (is_any_schema) {
        buf_puts(sql, " OR pg_catalog.substr(name, pg_catalog.length(name) - ");
        buf_printf(sql, "%zu) = '.'::bytea || ", strlen(source));
        put_bytes(sql, slice_of(source));
    }
    buf_puts(sql, ");");
}

void writes_forget_all(struct writes *w)
{
    struct buf *sql = open_piece(w, false);

    if (sql != NULL)
        buf_printf(sql, "DELETE FROM pgcdc.state WHERE pipeline = %s"
                   " AND kind NOT IN ('save', 'epoch');", w->pipeline);
}

void writes_remove(struct writes *w)
{
    static const char *const tables[] = { "state_rows", "state", "standby", "lease" };
    struct buf *sql = open_piece(w, false);

    for (size_t i = 0; sql != NULL && i < sizeof tables / sizeof *tables; i++)
        buf_printf(sql, "DELETE FROM pgcdc.%s WHERE pipeline = %s;", tables[i], w->pipeline);
}

/* ---- rows ---- */

static void put_number(struct buf *b, uint64_t n)
{
    buf_printf(b, "\t%" PRId64, (int64_t)n);
}

static void put_field(struct buf *b, struct store_slice s)
{
    if (s.p == NULL) {
        buf_puts(b, "\t\\N");
        return;
    }
    buf_puts(b, "\t\\\\x");
    put_hex(b, s);
}

void writes_row_put(struct writes *w, const char *table, const struct kept_row *r)
{
    struct buf *line = open_piece(w, true);

    if (line == NULL)
        return;
    w->pieces[w->n - 1].n_rows++;
    buf_printf(line, "%" PRIu64 "\t%s", w->rows++, table);
    put_number(line, (uint64_t)r->id);
    put_number(line, r->hash);
    put_number(line, r->now.xid);
    put_number(line, r->now.digest);
    put_number(line, kept_row_flags(&r->now));
    put_number(line, r->now.change);
    put_number(line, (uint64_t)(int64_t)kept_row_sum(r));
    put_field(line, r->key);
    if (r->now.row.p != NULL)
        put_number(line, r->now.columns);
    else
        buf_puts(line, "\t\\N");
    put_field(line, r->now.row);
    put_field(line, r->older);
    buf_putc(line, '\n');
}

/* Begins a statement that deletes rows of a source. */
static struct buf *begin_delete(struct writes *w, const char *table)
{
    struct buf *sql = open_piece(w, false);

    if (sql != NULL)
        buf_printf(sql, "DELETE FROM pgcdc.state_rows WHERE pipeline = %s AND source = '%s'",
                   w->pipeline, table);
    return sql;
}

void writes_row_drop(struct writes *w, const char *table, int64_t id)
{
    struct buf *sql;

    if (w->dropped != NULL && strcmp(w->dropped, table) == 0) {
        buf_printf(&w->pieces[w->n - 1].text, ",%" PRId64, id);
        return;
    }
    sql = begin_delete(w, table);
    if (sql == NULL)
        return;
    buf_printf(sql, " AND id IN (%" PRId64, id);
    w->dropped = strdup(table);
    if (w->dropped == NULL)
        w->failed = true;
}

void writes_rows_clear(struct writes *w, const char *table)
{
    struct buf *sql = begin_delete(w, table);

    if (sql != NULL)
        buf_puts(sql, ";");
}

void writes_rows_drop_deleted(struct writes *w, const char *table, uint64_t saved)
{
    struct buf *sql = begin_delete(w, table);

    if (sql != NULL)
        buf_printf(sql, " AND flags & 2 <> 0 AND note <= %" PRId64 ";", (int64_t)saved);
}

/* ---- sending rows ---- */

bool writes_are_few(const struct writes_piece *piece)
{
    return piece->n_rows <= FEW;
}

/* The end of the field that begins at <p>. */
static const char *field_end(const char *p)
{
    return p + strcspn(p, "\t\n");
}

/* Appends a field of a line as a value of SQL: text in hex, a number, or NULL. */
static void put_value(struct buf *sql, const char *p, const char *end)
{
    buf_putc(sql, ',');
    if (*p != '\\') {
        buf_add(sql, p, (size_t)(end - p));
    } else if (p[1] == 'N') {
        buf_puts(sql, "NULL");
    } else {
        buf_puts(sql, "E'");
        buf_add(sql, p, (size_t)(end - p));
        buf_putc(sql, '\'');
    }
}

/* A statement takes rows of one source whose ids grow, so that it has none twice. */
void writes_put_rows(const struct writes *w, const struct writes_piece *piece, struct buf *sql)
{
    const char *source = NULL;
    size_t source_len = 0;
    long long id = 0;

    for (const char *p = piece->text.data, *end; *p != '\0'; p = end + 1) {
        const char *from = field_end(p) + 1; /* the first field is not needed here */
        const char *to = field_end(from);
        long long next = strtoll(to + 1, NULL, 10);
        bool goes_on = source != NULL && (size_t)(to - from) == source_len &&
                       memcmp(source, from, source_len) == 0 && next > id;

        if (!goes_on && source != NULL)
            buf_puts(sql, replace);
        buf_puts(sql, goes_on ? "," : "INSERT INTO pgcdc.state_rows VALUES ");
        buf_printf(sql, "(%s,'%.*s'", w->pipeline, (int)(to - from), from);
        for (end = to; *end == '\t'; ) {
            p = end + 1;
            end = field_end(p);
            put_value(sql, p, end);
        }
        buf_putc(sql, ')');
        source = from;
        source_len = (size_t)(to - from);
        id = next;
    }
    if (source != NULL)
        buf_puts(sql, replace);
}

void writes_put_temporary(struct buf *sql)
{
    buf_puts(sql, "CREATE TEMPORARY TABLE pgcdc_rows (n bigint, source text, id bigint,"
             " hash bigint, xid bigint, digest bigint, flags bigint, note bigint, sum bigint,"
             " key bytea, form bigint, \"row\" bytea, older bytea) ON COMMIT DROP;");
}

void writes_put_take_over(const struct writes *w, struct buf *sql)
{
    buf_printf(sql, "INSERT INTO pgcdc.state_rows SELECT DISTINCT ON (source, id) %s, source, id,"
               " hash, xid, digest, flags, note, sum, key, form, \"row\", older"
               " FROM pg_temp.pgcdc_rows ORDER BY source, id, n DESC", w->pipeline);
    buf_puts(sql, replace);
    buf_puts(sql, "DROP TABLE pg_temp.pgcdc_rows;");
}
