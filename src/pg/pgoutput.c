/* pgoutput.c -- the messages of the plug-in pgoutput.
 * SPDX-License-Identifier: MIT */
#include "pg/pgoutput.h"

#include "base/bytes.h"

/* ---- columns and fields ---- */

static bool read_column(struct bytes *b, struct pgoutput_column *column)
{
    uint32_t modifier;
    uint8_t flags;

    if (!bytes_u8(b, &flags) || !bytes_text(b, &column->name) || !bytes_u32(b, &column->type) ||
        !bytes_u32(b, &modifier))
        return false;
    column->is_key = (flags & 1) != 0;
    column->modifier = (int32_t)modifier;
    return true;
}

static bool read_field(struct bytes *b, struct pgoutput_field *field)
{
    uint32_t len;
    uint8_t kind;

    if (!bytes_u8(b, &kind))
        return false;
    *field = (struct pgoutput_field){ .value = PGOUTPUT_NULL };
    switch (kind) {
    case 'n':
        return true;
    case 'u':
        field->value = PGOUTPUT_UNCHANGED;
        return true;
    case 't':
        field->value = PGOUTPUT_TEXT;
        field->len = bytes_u32(b, &len) ? len : SIZE_MAX;
        return bytes_run(b, field->len, &field->p);
    default:
        return false;
    }
}

/* What was checked before is read again without an end. */
static struct bytes unchecked(const char *p)
{
    return (struct bytes){ .p = p, .left = SIZE_MAX };
}

bool pgoutput_next_column(struct pgoutput_columns *columns, struct pgoutput_column *column)
{
    struct bytes b = unchecked(columns->p);

    if (columns->n == 0 || !read_column(&b, column))
        return false;
    columns->p = b.p;
    columns->n--;
    return true;
}

bool pgoutput_next_field(struct pgoutput_tuple *tuple, struct pgoutput_field *field)
{
    struct bytes b = unchecked(tuple->p);

    if (tuple->n == 0 || !read_field(&b, field))
        return false;
    tuple->p = b.p;
    tuple->n--;
    return true;
}

uint32_t pgoutput_truncated(const struct pgoutput_truncate *t, size_t i)
{
    struct bytes b = unchecked(t->relations + 4 * i);
    uint32_t oid;

    return bytes_u32(&b, &oid) ? oid : 0;
}

/* ---- messages ---- */

static bool read_begin(struct bytes *b, struct pgoutput_begin *begin)
{
    return bytes_u64(b, &begin->commit_lsn) && bytes_i64(b, &begin->ts) &&
           bytes_u32(b, &begin->xid);
}

static bool read_commit(struct bytes *b, struct pgoutput_commit *commit)
{
    uint8_t flags;

    return bytes_u8(b, &flags) && bytes_u64(b, &commit->commit_lsn) &&
           bytes_u64(b, &commit->end_lsn) && bytes_i64(b, &commit->ts);
}

static bool read_origin(struct bytes *b)
{
    const char *name;
    uint64_t lsn;

    return bytes_u64(b, &lsn) && bytes_text(b, &name);
}

static bool read_type(struct bytes *b)
{
    const char *schema, *name;
    uint32_t oid;

    return bytes_u32(b, &oid) && bytes_text(b, &schema) && bytes_text(b, &name);
}

static bool read_relation(struct bytes *b, struct pgoutput_relation *r)
{
    struct pgoutput_column column;
    uint8_t identity;
    uint16_t n;

    if (!bytes_u32(b, &r->oid) || !bytes_text(b, &r->schema) || !bytes_text(b, &r->name) ||
        !bytes_u8(b, &identity) || !bytes_u16(b, &n))
        return false;
    r->identity = (char)identity;
    r->columns = (struct pgoutput_columns){ b->p, n };
    while (n-- > 0)
        if (!read_column(b, &column))
            return false;
    return true;
}

static bool read_tuple(struct bytes *b, struct pgoutput_tuple *tuple)
{
    struct pgoutput_field field;
    uint16_t n;

    if (!bytes_u16(b, &n))
        return false;
    *tuple = (struct pgoutput_tuple){ b->p, n };
    while (n-- > 0)
        if (!read_field(b, &field))
            return false;
    return true;
}

static bool read_row(struct bytes *b, enum pgoutput_kind kind, struct pgoutput_row *row)
{
    uint8_t part;

    if (!bytes_u32(b, &row->relation) || !bytes_u8(b, &part))
        return false;
    if (kind != PGOUTPUT_INSERT && (part == 'K' || part == 'O')) {
        row->has_old = part == 'K' ? PGOUTPUT_OLD_KEY : PGOUTPUT_OLD_ROW;
        if (!read_tuple(b, &row->old))
            return false;
        if (kind == PGOUTPUT_DELETE)
            return true;
        if (!bytes_u8(b, &part))
            return false;
    }
    return kind != PGOUTPUT_DELETE && part == 'N' && read_tuple(b, &row->new);
}

static bool read_truncate(struct bytes *b, struct pgoutput_truncate *t)
{
    uint32_t n;
    uint8_t flags;

    if (!bytes_u32(b, &n) || !bytes_u8(b, &flags))
        return false;
    t->cascades = (flags & 1) != 0;
    t->restarts = (flags & 2) != 0;
    t->n = n;
    return n <= b->left / 4 && bytes_run(b, 4 * (size_t)n, &t->relations);
}

static bool read_logical(struct bytes *b, struct pgoutput_logical *l)
{
    uint32_t len;
    uint8_t flags;

    if (!bytes_u8(b, &flags) || !bytes_u64(b, &l->lsn) || !bytes_text(b, &l->prefix) ||
        !bytes_u32(b, &len))
        return false;
    l->is_transactional = (flags & 1) != 0;
    l->len = len;
    return bytes_run(b, len, &l->p);
}

static const struct {
    char letter;
    enum pgoutput_kind kind;
    const char *name;
} kinds[] = {
    { 'B', PGOUTPUT_BEGIN, "Begin" },       { 'C', PGOUTPUT_COMMIT, "Commit" },
    { 'O', PGOUTPUT_ORIGIN, "Origin" },     { 'R', PGOUTPUT_RELATION, "Relation" },
    { 'Y', PGOUTPUT_TYPE, "Type" },         { 'I', PGOUTPUT_INSERT, "Insert" },
    { 'U', PGOUTPUT_UPDATE, "Update" },     { 'D', PGOUTPUT_DELETE, "Delete" },
    { 'T', PGOUTPUT_TRUNCATE, "Truncate" }, { 'M', PGOUTPUT_MESSAGE, "Message" },
};

#define N_KINDS (sizeof kinds / sizeof *kinds)

static bool read_body(struct pgoutput_message *m, struct bytes *b)
{
    switch (m->kind) {
    case PGOUTPUT_BEGIN:
        return read_begin(b, &m->begin);
    case PGOUTPUT_COMMIT:
        return read_commit(b, &m->commit);
    case PGOUTPUT_ORIGIN:
        return read_origin(b);
    case PGOUTPUT_RELATION:
        return read_relation(b, &m->relation);
    case PGOUTPUT_TYPE:
        return read_type(b);
    case PGOUTPUT_INSERT:
    case PGOUTPUT_UPDATE:
    case PGOUTPUT_DELETE:
        return read_row(b, m->kind, &m->row);
    case PGOUTPUT_TRUNCATE:
        return read_truncate(b, &m->truncate);
    case PGOUTPUT_MESSAGE:
        return read_logical(b, &m->logical);
    }
    return false;
}

bool pgoutput_read(struct pgoutput_message *m, const char *p, size_t len, struct err *e)
{
    struct bytes b = { p, len };
    uint8_t letter = 0;
    size_t i = 0;

    *m = (struct pgoutput_message){ .kind = PGOUTPUT_TYPE };
    if (!bytes_u8(&b, &letter))
        return err_set(e, ERR_ANSWER, "a message of pgoutput is empty");
    while (i < N_KINDS && (uint8_t)kinds[i].letter != letter)
        i++;
    if (i == N_KINDS)
        return err_set(e, ERR_ANSWER, "a message of pgoutput is of the unknown kind 0x%02x",
                       letter);
    m->kind = kinds[i].kind;
    if (!read_body(m, &b))
        return err_set(e, ERR_ANSWER, "a message of pgoutput, %s of %zu bytes, cannot be read",
                       kinds[i].name, len);
    return b.left == 0 || err_set(e, ERR_ANSWER, "a message of pgoutput, %s of %zu bytes, has %zu "
                                  "too many", kinds[i].name, len, b.left);
}
