/* database_load.c -- reads the state of a pipeline from a database.
 * SPDX-License-Identifier: MIT */
#include "state/database_load.h"

#include "base/text.h"
#include "pg/copytext.h"

#define ROW_COLUMNS "source, id, hash, xid, digest, flags, note, sum," \
    " pg_catalog.encode(key, 'hex'), form, pg_catalog.encode(\"row\", 'hex')," \
    " pg_catalog.encode(older, 'hex')"

#define MAX_FIELDS 12

/* Turns hex digits into the bytes they stand for, in their place. */
static bool unhex(char *p, size_t len, struct store_slice *slice)
{
    if (len % 2 != 0)
        return false;
    for (size_t i = 0; i < len; i += 2) {
        int high = text_hex_digit(p[i]), low = text_hex_digit(p[i + 1]);

        if (high < 0 || low < 0)
            return false;
        p[i / 2] = (char)(high << 4 | low);
    }
    *slice = (struct store_slice){ p, len / 2 };
    return true;
}

/* A line of COPY, cut into fields, which end with a NUL. */
struct line {
    struct buf text;
    char *fields[MAX_FIELDS]; /* NULL: NULL */
    size_t lengths[MAX_FIELDS];
};

/* What fields hold has no backslash but in \N: names of tables, numbers, hex. */
static bool cut(struct line *l, const char *p, size_t len, size_t n)
{
    uint32_t ends[MAX_FIELDS];

    buf_clear(&l->text);
    buf_add(&l->text, p, len);
    if (!buf_ok(&l->text) || !copytext_split(p, len, ends, n))
        return false;
    for (size_t i = 0; i < n; i++) {
        size_t from = i > 0 ? ends[i - 1] + 1 : 0;

        l->lengths[i] = ends[i] - from;
        l->fields[i] = l->text.data + from;
        if (copytext_is_null((struct copytext_field){ l->fields[i], l->lengths[i] }))
            l->fields[i] = NULL;
        l->text.data[ends[i]] = '\0';
    }
    return true;
}

static bool read_bytes(const struct line *l, size_t i, struct store_slice *slice)
{
    if (l->fields[i] != NULL)
        return unhex(l->fields[i], l->lengths[i], slice);
    *slice = (struct store_slice){ NULL, 0 };
    return true;
}

static bool read_record(struct line *l, struct store_record *r)
{
    *r = (struct store_record){ .kind = { l->fields[0], l->lengths[0] } };
    return l->fields[0] != NULL && read_bytes(l, 1, &r->name) && read_bytes(l, 2, &r->key) &&
           read_bytes(l, 3, &r->value) && r->value.p != NULL;
}

static bool read_row(struct line *l, struct kept_row *r)
{
    int64_t n[8] = { 0 };

    *r = (struct kept_row){ 0 };
    for (size_t i = 1; i < 8; i++)
        if (l->fields[i] == NULL || !text_is_i64(l->fields[i], &n[i]))
            return false;
    if (l->fields[9] != NULL && !text_is_i64(l->fields[9], &n[0]))
        return false;
    r->id = n[1];
    r->hash = (uint64_t)n[2];
    r->now.xid = (uint64_t)n[3];
    r->now.digest = (uint64_t)n[4];
    kept_row_set_flags(&r->now, (uint64_t)n[5]);
    r->now.change = (uint64_t)n[6];
    r->now.columns = (uint32_t)n[0];
    return l->fields[0] != NULL && read_bytes(l, 8, &r->key) && r->key.p != NULL &&
           read_bytes(l, 10, &r->now.row) && read_bytes(l, 11, &r->older) &&
           kept_row_sum(r) == (int32_t)n[7];
}

/* Calls the visitor for a line. */
static bool take_line(struct line *l, size_t n, const struct database_load_visit *visit,
                      struct err *e)
{
    struct store_record record;
    struct kept_row row;

    if (n == 4 && read_record(l, &record))
        return visit->record(visit->arg, &record, e);
    if (n == MAX_FIELDS && read_row(l, &row))
        return visit->row(visit->arg, l->fields[0], &row, e);
    return err_set(e, ERR_STATE, "%s cannot be read: restore it, or forget all with --reset",
                   n == 4 ? "a record in pgcdc.state" : "a row in pgcdc.state_rows");
}

/* Reads what a COPY of <n> columns gives. */
static bool load(struct conn *c, const char *pipeline, const char *format, size_t n,
                 const struct database_load_visit *visit, struct err *e)
{
    struct line l;
    struct buf sql;
    const char *p;
    size_t len;
    enum conn_copy got = CONN_COPY_FAILED;
    bool ok;

    buf_init(&l.text, SIZE_MAX / 2);
    buf_init(&sql, BUF_SQL_MAX);
    buf_printf(&sql, "COPY (SELECT %s WHERE pipeline = %s ORDER BY 1) TO STDOUT", format,
               pipeline);
    ok = (buf_ok(&sql) || err_memory(e)) && conn_copy(c, sql.data, e);
    while (ok && (got = conn_copy_next(c, &p, &len, e)) == CONN_COPY_LINE)
        ok = cut(&l, p, len, n) ? take_line(&l, n, visit, e)
                                : err_set(e, ERR_STATE, "its answer cannot be read");
    buf_fini(&l.text);
    buf_fini(&sql);
    return ok && got == CONN_COPY_END;
}

bool database_load_all(struct conn *c, const char *pipeline,
                       const struct database_load_visit *visit, struct err *e)
{
    return load(c, pipeline, "kind, pg_catalog.encode(name, 'hex'), pg_catalog.encode(key, 'hex'),"
                " pg_catalog.encode(value, 'hex') FROM pgcdc.state", 4, visit, e) &&
           load(c, pipeline, ROW_COLUMNS " FROM pgcdc.state_rows", MAX_FIELDS, visit, e);
}
