/* change_id.c -- the id of a change: "schema.table/xid/key,key".
 * SPDX-License-Identifier: MIT */
#include "lua/change_id.h"

#include "lua/id_part.h"
#include "lua/json.h"
#include "pg/lsn.h"

#include <inttypes.h>
#include <string.h>

/* the end of an id of which only the key is known */
static const char deleted[] = "/deleted";

/* True if <f> ends with "/deleted", or looks as if that slash was escaped: from *at on. */
static bool ends_as_deleted(struct copytext_field f, size_t *at)
{
    size_t rest = strlen(deleted) - 1, n;

    if (f.len <= rest || memcmp(f.p + f.len - rest, &deleted[1], rest) != 0)
        return false;
    *at = f.len - rest - 1;
    while (*at > 0 && f.p[*at] != '/' && f.p[*at] != '%')
        --*at;
    return id_part_is(f.p + *at, f.len - *at, '/', &n) && *at + n + rest == f.len;
}

/* True if <f> is "null", or looks as if that n was escaped: *n bytes stand for it. */
static bool is_null_text(struct copytext_field f, size_t *n)
{
    return id_part_is(f.p, f.len, 'n', n) && f.len == *n + 3 && memcmp(f.p + *n, "ull", 3) == 0;
}

static bool may_hold_comma(const struct rowtype_column *c)
{
    return c->is_text || !c->is_total;
}

/* The characters that could end a part of the key: a comma, if several columns can hold one. */
static const char *separators_of(const struct rowtype *s)
{
    size_t n = 0;

    for (size_t k = 0; k < s->n_key && !s->hides_key; k++)
        n += may_hold_comma(&s->columns[s->key[k]]);
    return n > 1 ? "," : "";
}

/* Writes the field of the <k>th column of the key, still COPY text, with what must be escaped, into
 * <to>, which has room for 3 * f.len. Returns the number of bytes written. */
static size_t write_escaped(const struct rowtype *s, size_t k, struct copytext_field f, char *to)
{
    size_t n, at, written = 0;

    if (s->columns[rowtype_id(s, k)].is_nullable && is_null_text(f, &n)) {
        written = id_part_escape(to, f.p, n);
        memcpy(to + written, f.p + n, f.len - n);
        return written + f.len - n;
    }
    if (k + 1 < rowtype_n_id(s) || !ends_as_deleted(f, &at))
        return id_part_write(to, f.p, f.len, separators_of(s));
    written = id_part_write(to, f.p, at, separators_of(s));
    written += id_part_escape(to + written, f.p + at, 1);
    memcpy(to + written, f.p + at + 1, f.len - at - 1);
    return written + f.len - at - 1;
}

/* The field of the <k>th column of the key as ids show it, COPY text. Pushes what it borrows from:
 * a copy where something had to be escaped, else nil. */
static struct copytext_field push_part(lua_State *L, const struct row_class *class,
                                       struct rowdata *d, size_t k) /* [-0, +1] */
{
    const struct rowtype *s = class->rowtype;
    struct copytext_field f = rowdata_field(L, class, d, rowtype_id(s, k));
    char *to;
    size_t n;

    /* nearly all keys: nothing in them could be taken for something else */
    if (!may_hold_comma(&s->columns[rowtype_id(s, k)]) || copytext_is_null(f) ||
        (memchr(f.p, ',', f.len) == NULL && memchr(f.p, '%', f.len) == NULL &&
         !ends_as_deleted(f, &n) && !is_null_text(f, &n))) {
        lua_pushnil(L);
        return f;
    }
    to = lua_newuserdatauv(L, 3 * f.len, 0);
    n = write_escaped(s, k, f, to);
    return (struct copytext_field){ to, n };
}

void change_id_put_key(lua_State *L, const struct row_class *class, struct rowdata *d,
                       struct buf *b)
{
    const struct rowtype *s = class->rowtype;

    for (size_t k = 0; k < rowtype_n_id(s); k++) {
        struct copytext_field field = push_part(L, class, d, k);
        char *to;

        if (k > 0)
            buf_putc(b, ',');
        if (copytext_is_null(field)) {
            buf_puts(b, "null");
        } else {
            to = buf_reserve(b, field.len + 3);
            json_check(L, b);
            b->len += s->columns[rowtype_id(s, k)].kind == TYPES_TIMESTAMP && field.len < 64
                          ? types_timestamp(field, to) : copytext_unescape(field, to);
        }
        lua_pop(L, 1);
    }
}

/* Appends what comes after the key. */
static void put_end(const struct row_class *class, const struct rowdata *d, struct buf *b)
{
    char lsn[LSN_TEXT];

    if (d->log.lsn != 0) /* a transaction may write a key several times */
        buf_printf(b, "/%s.%" PRIu32, lsn_write(d->log.lsn, lsn), d->log.nth);
    if (d->is_key_only)
        buf_puts(b, deleted);
    else if (class->rowtype->has_place && d->log.lsn == 0)
        buf_printf(b, "/%" PRIu32 ".%" PRIu32 ".%" PRIu32, d->place.filenode, d->place.block,
                   d->place.line);
}

void change_id_put(lua_State *L, const struct row_class *class, struct rowdata *d, struct buf *b)
{
    row_class_put_text(b, class->id_head);
    buf_put_u64(b, d->xid);
    buf_putc(b, '/');
    change_id_put_key(L, class, d, b);
    put_end(class, d, b);
}

void change_id_put_json(lua_State *L, const struct row_class *class, struct rowdata *d,
                        struct buf *b)
{
    const struct rowtype *s = class->rowtype;

    row_class_put_text(b, class->id_head_json);
    buf_put_u64(b, d->xid);
    buf_putc(b, '/');
    for (size_t k = 0; k < rowtype_n_id(s); k++) {
        size_t i = rowtype_id(s, k);
        struct copytext_field field = push_part(L, class, d, k);

        if (k > 0)
            buf_putc(b, ',');
        if (copytext_is_null(field))
            buf_puts(b, "null");
        else if (!types_put_text(b, s->columns[i].kind, field))
            row_class_throw_text(L, class, i);
        lua_pop(L, 1);
    }
    put_end(class, d, b);
    buf_putc(b, '"');
}
