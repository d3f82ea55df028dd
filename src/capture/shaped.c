/* shaped.c -- changes that were written as JSON, made rows again.
 * SPDX-License-Identifier: MIT */
#include "capture/shaped.h"

#include "base/text.h"
#include "capture/rowtype_derive.h"
#include "pg/document.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define LONGEST UINT32_MAX

/* A part of the JSON. */
struct slice {
    const char *p;
    size_t len;
};

/* ---- row types ---- */

/* The kinds of types by their names. Others are text, or JSON. */
static const struct { const char *name; enum types_kind kind; } kinds[] = {
    { "boolean", TYPES_BOOL }, { "smallint", TYPES_INT }, { "integer", TYPES_INT },
    { "bigint", TYPES_INT }, { "real", TYPES_FLOAT }, { "double precision", TYPES_FLOAT },
    { "numeric", TYPES_NUMERIC }, { "bytea", TYPES_BYTEA }, { "timestamp", TYPES_TIMESTAMP },
    { "json", TYPES_JSON }, { "jsonb", TYPES_JSON },
};

/* True if <type> is <name>, or that with something after it: "numeric(12,2)". */
static bool is_type(const char *type, const char *name)
{
    size_t n = strlen(name);

    return strncmp(type, name, n) == 0 && (type[n] == '\0' || type[n] == '(' || type[n] == ' ');
}

static enum types_kind kind_of(const struct shaped_column *c)
{
    size_t n = c->type != NULL ? strlen(c->type) : 0;

    if (c->is_json || (n > 2 && strcmp(c->type + n - 2, "[]") == 0))
        return TYPES_JSON;
    for (size_t i = 0; n > 0 && i < sizeof kinds / sizeof *kinds; i++)
        if (is_type(c->type, kinds[i].name))
            return kinds[i].kind;
    return TYPES_TEXT;
}

/* Fills in a column that borrows from <c>. */
static void set_column(struct rowtype_column *to, const struct shaped_column *c)
{
    to->name = (char *)c->name;
    to->type = (char *)(c->type != NULL ? c->type : "text");
    to->base_type = (char *)c->type;
    to->kind = kind_of(c);
    to->wants_to_json = to->kind == TYPES_JSON && (c->is_json || strchr(to->type, '[') != NULL);
    to->is_nullable = true;
    to->is_text = c->type == NULL || is_type(c->type, "text") ||
                  is_type(c->type, "character varying");
    to->is_total = to->is_text;
}

/* The index of the column <name>; <n> if there is none. */
static size_t find(const struct rowtype_column *columns, size_t n, const char *name)
{
    size_t i = 0;

    while (i < n && strcmp(columns[i].name, name) != 0)
        i++;
    return i;
}

struct rowtype *shaped_rowtype(const struct shaped_shape *shape)
{
    size_t most = shape->n_columns + shape->n_key + 1, n;
    struct rowtype like = { .soft = SIZE_MAX, .hides_key = true, .n_row = shape->n_columns,
                            .n_key = shape->n_key, .has_no_xid = shape->has_no_xid,
                            .database = (char *)shape->database, .schema = (char *)shape->schema,
                            .table = (char *)shape->table };
    struct rowtype *s = NULL;

    like.columns = calloc(most, sizeof *like.columns);
    like.key = calloc(shape->n_key + 1, sizeof *like.key);
    if (like.columns != NULL && like.key != NULL) {
        for (n = 0; n < shape->n_columns; n++)
            set_column(&like.columns[n], &shape->columns[n]);
        for (size_t k = 0; k < shape->n_key; k++) {
            like.key[k] = find(like.columns, n, shape->key[k].name);
            if (like.key[k] == n)
                set_column(&like.columns[n++], &shape->key[k]);
        }
        /* like.is_text is false there, so that nothing in it is escaped */
        like.columns[n++] = (struct rowtype_column){ .name = (char *)"", .type = (char *)"text",
                                                     .is_total = true };
        like.n_columns = n;
        s = rowtype_derive_recorded(&like);
    }
    free(like.columns);
    free(like.key);
    return s;
}

/* ---- JSON, which document_check has found good ---- */

static const char *skip_blanks(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
        p++;
    return p;
}

/* The end of the string that begins at <p>. */
static const char *skip_string(const char *p, const char *end)
{
    for (p++; p < end && *p != '"'; p++)
        p += *p == '\\';
    return p < end ? p + 1 : end;
}

/* The end of the value that begins at <p>. */
static const char *skip_value(const char *p, const char *end)
{
    size_t depth = 0;

    while (p < end) {
        char c = *p;

        if (c == '"') {
            p = skip_string(p, end);
        } else if (depth == 0 && (c == ',' || c == '}' || c == ']')) {
            break;
        } else {
            depth += c == '{' || c == '[';
            depth -= c == '}' || c == ']';
            p++;
        }
        if (depth == 0 && (c == '"' || c == '}' || c == ']'))
            break;
    }
    return p;
}

/* The same without the blanks around it. */
static struct slice trim(struct slice s)
{
    const char *end = s.p + s.len, *p = skip_blanks(s.p, end);

    while (end > p && (end[-1] == ' ' || end[-1] == '\n' || end[-1] == '\r' || end[-1] == '\t'))
        end--;
    return (struct slice){ p, (size_t)(end - p) };
}

/* Takes the next member of the object that *p is in, and moves *p after it. *p begins after the
 * brace. False: there is none. The name has its quotes, the value the blanks around it. */
static bool next_member(const char **p, const char *end, struct slice *name, struct slice *value)
{
    const char *at = skip_blanks(*p, end), *start;

    if (at < end && *at == ',')
        at = skip_blanks(at + 1, end);
    if (at == end || *at != '"')
        return false;
    start = at;
    at = skip_string(at, end);
    *name = (struct slice){ start, (size_t)(at - start) };
    at = skip_blanks(at, end);
    start = at += at < end; /* the colon */
    at = skip_value(skip_blanks(at, end), end);
    *p = at = skip_blanks(at, end);
    *value = (struct slice){ start, (size_t)(at - start) };
    return true;
}

static bool is_string(struct slice s)
{
    return s.len >= 2 && s.p[0] == '"';
}

static bool is_null(struct slice s)
{
    return s.len == 4 && memcmp(s.p, "null", 4) == 0;
}

static bool is_object(struct slice s)
{
    return s.len >= 2 && s.p[0] == '{';
}

/* Reads four hex digits. */
static bool read_hex(const char *p, const char *end, uint32_t *n)
{
    *n = 0;
    if (end - p < 4)
        return false;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        int digit = text_hex_digit(c >= 'A' && c <= 'F' ? (char)(c + 32) : c);

        if (digit < 0)
            return false;
        *n = *n << 4 | (uint32_t)digit;
    }
    return true;
}

static void put_utf8(struct buf *b, uint32_t c)
{
    if (c < 0x80) {
        buf_putc(b, (char)c);
    } else if (c < 0x800) {
        buf_putc(b, (char)(0xc0 | c >> 6));
        buf_putc(b, (char)(0x80 | (c & 0x3f)));
    } else if (c < 0x10000) {
        buf_putc(b, (char)(0xe0 | c >> 12));
        buf_putc(b, (char)(0x80 | (c >> 6 & 0x3f)));
        buf_putc(b, (char)(0x80 | (c & 0x3f)));
    } else {
        buf_putc(b, (char)(0xf0 | c >> 18));
        buf_putc(b, (char)(0x80 | (c >> 12 & 0x3f)));
        buf_putc(b, (char)(0x80 | (c >> 6 & 0x3f)));
        buf_putc(b, (char)(0x80 | (c & 0x3f)));
    }
}

/* Reads what comes after "\u" at *p, and the second half of a pair. False: half a pair, or zero,
 * which no text of a server has. */
static bool read_unicode(const char **p, const char *end, uint32_t *c)
{
    uint32_t low;

    if (!read_hex(*p, end, c) || *c == 0 || (*c >= 0xdc00 && *c < 0xe000))
        return false;
    *p += 4;
    if (*c < 0xd800 || *c >= 0xe000)
        return true;
    if (end - *p < 6 || (*p)[0] != '\\' || (*p)[1] != 'u' || !read_hex(*p + 2, end, &low) ||
        low < 0xdc00 || low >= 0xe000)
        return false;
    *p += 6;
    *c = 0x10000 + ((*c - 0xd800) << 10) + (low - 0xdc00);
    return true;
}

/* Appends the text of a JSON string. False: it is none. */
static bool put_decoded(struct buf *b, struct slice s)
{
    static const char letters[] = "\"\"\\\\//b\bf\fn\nr\rt\t";
    const char *p = s.p + 1, *end = s.p + s.len - 1;

    while (p < end) {
        const char *run = p, *letter;
        uint32_t c;

        while (p < end && *p != '\\')
            p++;
        buf_add(b, run, (size_t)(p - run));
        if (p == end)
            break;
        if (++p == end)
            return false;
        if (*p == 'u') {
            p++;
            if (!read_unicode(&p, end, &c))
                return false;
            put_utf8(b, c);
            continue;
        }
        for (letter = letters; *letter != '\0' && *letter != *p; letter += 2)
            ;
        if (*letter == '\0')
            return false;
        buf_putc(b, letter[1]);
        p++;
    }
    return true;
}

/* True if the string, with its quotes, is <text>. */
static bool is_text(struct slice s, const char *text)
{
    size_t n = strlen(text);

    return s.len == n + 2 && memcmp(s.p + 1, text, n) == 0;
}

/* ---- values ---- */

/* What a reading needs. */
struct job {
    const struct rowtype *s;
    struct chunk *c;
    struct buf text;  /* scratch */
    struct buf row;   /* the fields of the row in hand, tabs between */
    struct slice *fields; /* of it, by column; p NULL: there is none */
    struct slice op, key, data, old, xid, seq, ts, id;
    bool has_unknown; /* one of the fields is not there */
};

/* The text of a timestamp as the server has it. It has no backslash. */
static void put_timestamp(struct buf *b, struct slice s)
{
    const char *t = memchr(s.p, 'T', s.len), *zone, *rest;

    if (t == NULL) { /* infinity */
        buf_add(b, s.p, s.len);
        return;
    }
    buf_add(b, s.p, (size_t)(t - s.p));
    buf_putc(b, ' ');
    zone = t + 1;
    while (zone < s.p + s.len && *zone != '+' && *zone != '-' && *zone != ' ')
        zone++;
    rest = zone;
    while (rest < s.p + s.len && *rest != ' ')
        rest++;
    if (rest - zone == 6 && memcmp(rest - 3, ":00", 3) == 0)
        buf_add(b, t + 1, (size_t)(rest - 3 - (t + 1)));
    else
        buf_add(b, t + 1, (size_t)(rest - (t + 1)));
    buf_add(b, rest, (size_t)(s.p + s.len - rest));
}

/* Appends a value as a field of COPY. A document keeps its blanks. False: it cannot be one. */
static bool put_value(struct job *j, enum types_kind kind, struct slice value)
{
    struct slice v = trim(value), inner = { v.p + 1, v.len - 2 };

    if (is_null(v)) {
        buf_puts(&j->row, "\\N");
        return true;
    }
    if (kind == TYPES_BOOL && (v.p[0] == 't' || v.p[0] == 'f')) {
        buf_putc(&j->row, v.p[0]);
        return true;
    }
    if (kind == TYPES_JSON || !is_string(v)) {
        copytext_escape(&j->row, kind == TYPES_JSON ? value.p : v.p,
                        kind == TYPES_JSON ? value.len : v.len);
        return true;
    }
    if (memchr(inner.p, '\\', inner.len) == NULL) { /* nor anything that COPY escapes */
        if (kind == TYPES_TIMESTAMP)
            put_timestamp(&j->row, inner);
        else
            buf_add(&j->row, inner.p, inner.len);
        return true;
    }
    buf_clear(&j->text);
    if (!put_decoded(&j->text, v))
        return false;
    copytext_escape(&j->row, j->text.data != NULL ? j->text.data : "", j->text.len);
    return true;
}

/* The column that a member's name means, from <*next> on where it mostly is; n if none. */
static size_t column_of(struct job *j, struct slice name, size_t n, size_t *next)
{
    const char *p = name.p + 1;
    size_t len = name.len - 2;

    if (memchr(p, '\\', len) != NULL) {
        buf_clear(&j->text);
        if (!put_decoded(&j->text, name) || !buf_ok(&j->text))
            return n;
        p = j->text.data;
        len = j->text.len;
    }
    for (size_t k = 0; k < n; k++) {
        size_t i = (*next + k) % n;

        if (strlen(j->s->columns[i].name) == len && memcmp(j->s->columns[i].name, p, len) == 0) {
            *next = i + 1;
            return i;
        }
    }
    return n;
}

/* Notes the members of an object in <fields>: of the first <n> columns. */
static void note_fields(struct job *j, struct slice object, size_t n)
{
    const char *p = object.p + 1, *end = object.p + object.len;
    struct slice name, value;
    size_t next = 0;

    if (!is_object(object))
        return;
    while (next_member(&p, end, &name, &value)) {
        size_t i = column_of(j, name, n, &next);

        if (i < n)
            j->fields[i] = value;
    }
}

/* Puts the row's fields into j->row: those of <data>, the key's, and <last>, the hidden one. */
static bool put_row(struct job *j, struct slice data, struct slice last, struct err *e)
{
    const struct rowtype *s = j->s;
    bool has_row = is_object(data);

    memset(j->fields, 0, s->n_columns * sizeof *j->fields);
    note_fields(j, j->key, s->n_columns - 1);
    note_fields(j, data, s->n_row);
    buf_clear(&j->row);
    for (size_t i = 0; i + 1 < s->n_columns; i++) {
        if (j->fields[i].p == NULL) {
            buf_puts(&j->row, has_row && i < s->n_row ? COPYTEXT_UNKNOWN : "\\N");
            j->has_unknown = j->has_unknown || (has_row && i < s->n_row);
        } else if (!put_value(j, s->columns[i].kind, j->fields[i])) {
            return err_set(e, ERR_REFUSED, "the value of %s is no text of a server",
                           s->columns[i].name);
        }
        buf_putc(&j->row, '\t');
    }
    copytext_escape(&j->row, last.p, last.len);
    return buf_ok(&j->row) || err_memory(e);
}

/* ---- a change ---- */

static void note_part(struct job *j, struct slice name, struct slice value)
{
    const struct { const char *name; struct slice *to; } parts[] = {
        { "op", &j->op }, { "key", &j->key }, { "row", &j->data }, { "old", &j->old },
        { "xid", &j->xid }, { "seq", &j->seq }, { "ts", &j->ts }, { "id", &j->id },
    };

    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (is_text(name, parts[i].name))
            *parts[i].to = trim(value);
}

static bool read_op(struct slice s, enum op *op)
{
    static const char *const names[OP_COUNT] = { "read", "upsert", "insert", "update", "delete" };

    for (int i = 0; i < OP_COUNT; i++)
        if (is_text(s, names[i])) {
            *op = (enum op)i;
            return true;
        }
    return false;
}

/* A number, or null: 0. */
static bool read_number(struct slice s, uint64_t *n)
{
    const char *p = s.p;

    *n = 0;
    return s.p == NULL || is_null(s) ||
           (text_read_u64(&p, s.p + s.len, n) && p == s.p + s.len && *n <= INT64_MAX);
}

/* What an id has after "schema.table/xid/", without the end that tells a delete. What begins in
 * another way is taken as it stands. */
static struct slice rest_of_id(struct job *j, uint64_t xid, bool is_key_only)
{
    static const char deleted[] = "/deleted";
    const size_t n = sizeof deleted - 1;
    struct slice rest;
    char *head;

    buf_clear(&j->text);
    if (!is_string(j->id) || !put_decoded(&j->text, j->id))
        return (struct slice){ "", 0 };
    rest = (struct slice){ j->text.data, j->text.len };
    buf_clear(&j->row);
    buf_printf(&j->row, "%s.%s/%" PRIu64 "/", j->s->schema, j->s->table, xid);
    head = j->row.data;
    if (buf_ok(&j->row) && rest.len >= j->row.len && memcmp(rest.p, head, j->row.len) == 0) {
        rest.p += j->row.len;
        rest.len -= j->row.len;
    }
    if (is_key_only && rest.len >= n && memcmp(rest.p + rest.len - n, deleted, n) == 0)
        rest.len -= n;
    return rest;
}

static bool read_ts(struct slice s, struct chunk *c)
{
    if (s.len < 3 || s.len - 2 >= sizeof c->ts || !is_string(s))
        return false;
    memcpy(c->ts, s.p + 1, s.len - 2);
    c->ts[s.len - 2] = '\0';
    return true;
}

/* Adds the row and the old row. */
static bool add_rows(struct job *j, struct chunk_row *row, struct err *e)
{
    struct slice id = rest_of_id(j, row->xid, row->is_key_only);
    struct buf kept;
    bool ok;

    buf_init(&kept, LONGEST);
    buf_add(&kept, id.p, id.len); /* the scratch that it is in is used again */
    id = (struct slice){ kept.data != NULL ? kept.data : "", kept.len };
    ok = (buf_ok(&kept) || err_memory(e)) && put_row(j, j->data, id, e);
    row->has_unknown = j->has_unknown;
    row->len = (uint32_t)j->row.len;
    ok = ok && (chunk_add(j->c, row, j->row.data) || err_memory(e));
    if (ok && is_object(j->old))
        ok = put_row(j, j->old, id, e) &&
             (chunk_add_old(j->c, j->row.data, j->row.len) || err_memory(e));
    buf_fini(&kept);
    return ok;
}

static bool read_change(struct job *j, const char *json, size_t len, struct err *e)
{
    const char *end = json + len, *p = skip_blanks(json, end);
    struct slice name, value;
    struct chunk_row row = { 0 };

    if (!document_check(json, len) || *p++ != '{')
        return err_set(e, ERR_REFUSED, "it is no JSON object");
    while (next_member(&p, end, &name, &value))
        note_part(j, name, value);
    if (!read_op(j->op, &row.op))
        return err_set(e, ERR_REFUSED, "it is no change: it has no op");
    if (!is_object(j->key) || (!is_object(j->data) && row.op != OP_DELETE))
        return err_set(e, ERR_REFUSED, "it is no change: it has no %s",
                       is_object(j->key) ? "row" : "key");
    if (!read_number(j->xid, &row.xid) || !read_number(j->seq, &j->c->seq) ||
        !read_ts(j->ts, j->c))
        return err_set(e, ERR_REFUSED, "it is no change: it has no xid, seq and ts");
    row.is_key_only = !is_object(j->data);
    return add_rows(j, &row, e);
}

bool shaped_read(struct rowtype *s, const char *json, size_t len, struct chunk *c, struct err *e)
{
    struct job j = { .s = s, .c = c };
    bool ok;

    buf_init(&j.text, LONGEST);
    buf_init(&j.row, LONGEST);
    j.fields = calloc(s->n_columns + 1, sizeof *j.fields);
    ok = j.fields != NULL ? read_change(&j, json, len, e) : err_memory(e);
    if (ok)
        c->rowtype = rowtype_ref(s);
    free(j.fields);
    buf_fini(&j.text);
    buf_fini(&j.row);
    return ok;
}
