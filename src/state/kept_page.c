/* kept_page.c -- some rows as the state file keeps them, in one run of bytes.
 *
 * A row is: the length of what follows, its id above the page's, hash, xid, digest, flags, change,
 * key, row, older. Numbers have seven bits a byte (kept_row.h) but for hash and digest, which are
 * random; texts have their length before them, and, where there may be none, 0 for that, and else
 * the length + 1.
 *
 * SPDX-License-Identifier: MIT */
#include "state/kept_page.h"

#include "base/hash.h"

#include <string.h>

void kept_page_init(struct kept_page *p)
{
    *p = (struct kept_page){ 0 };
    buf_init(&p->data, SIZE_MAX / 2);
    buf_init(&p->scratch, SIZE_MAX / 2);
}

void kept_page_fini(struct kept_page *p)
{
    buf_fini(&p->data);
    buf_fini(&p->scratch);
}

void kept_page_clear(struct kept_page *p, int64_t first)
{
    p->first = first;
    p->last = 0;
    p->n = 0;
    buf_clear(&p->data);
}

int64_t kept_page_sum(const struct kept_page *p)
{
    uint64_t h = hash_words(HASH_START, &p->first, sizeof p->first);

    return (int64_t)hash_words(h, p->data.data, p->data.len);
}

/* ---- numbers and texts ---- */

static struct store_slice rest_of(const struct kept_page *p, size_t at)
{
    return (struct store_slice){ p->data.data + at, p->data.len - at };
}

static void put_fixed(struct buf *b, uint64_t n)
{
    char bytes[8];

    for (int i = 0; i < 8; i++)
        bytes[i] = (char)(n >> 8 * i);
    buf_add(b, bytes, sizeof bytes);
}

static bool take_fixed(struct store_slice *s, uint64_t *n)
{
    *n = 0;
    if (s->len < 8)
        return false;
    for (int i = 0; i < 8; i++)
        *n |= (uint64_t)(unsigned char)s->p[i] << 8 * i;
    s->p += 8;
    s->len -= 8;
    return true;
}

static bool take_bytes(struct store_slice *s, uint64_t len, struct store_slice *bytes)
{
    if (len > s->len)
        return false;
    *bytes = (struct store_slice){ s->p, (size_t)len };
    s->p += len;
    s->len -= (size_t)len;
    return true;
}

static void put_text(struct buf *b, struct store_slice text)
{
    kept_row_put_number(b, text.p != NULL ? text.len + 1 : 0);
    if (text.p != NULL)
        buf_add(b, text.p, text.len);
}

static bool take_text(struct store_slice *s, struct store_slice *text)
{
    uint64_t len;

    *text = (struct store_slice){ NULL, 0 };
    return kept_row_take_number(s, &len) && (len == 0 || take_bytes(s, len - 1, text));
}

/* ---- rows ---- */

static void put_fields(struct buf *b, const struct kept_row *r, int64_t first)
{
    kept_row_put_number(b, (uint64_t)(r->id - first));
    put_fixed(b, r->hash);
    kept_row_put_number(b, r->now.xid);
    put_fixed(b, r->now.digest);
    kept_row_put_number(b, kept_row_flags(&r->now));
    kept_row_put_number(b, r->now.change);
    put_text(b, r->key);
    put_text(b, r->now.row);
    if (r->now.row.p != NULL)
        kept_row_put_number(b, r->now.columns);
    put_text(b, r->older);
}

/* Reads the length and the id of the row at <at>. *end: where it ends. */
static bool read_head(const struct kept_page *p, size_t at, struct store_slice *fields, int64_t *id,
                      size_t *end)
{
    struct store_slice rest = rest_of(p, at);
    uint64_t len, above;

    if (!kept_row_take_number(&rest, &len) || !take_bytes(&rest, len, fields))
        return false;
    *end = p->data.len - rest.len;
    if (!kept_row_take_number(fields, &above) || above > UINT32_MAX)
        return false;
    *id = p->first + (int64_t)above;
    return true;
}

bool kept_page_next(const struct kept_page *p, size_t *at, struct kept_row *r)
{
    struct store_slice s;
    uint64_t flags, columns = 0;
    size_t end;

    *r = (struct kept_row){ 0 };
    if (*at >= p->data.len || !read_head(p, *at, &s, &r->id, &end) || !take_fixed(&s, &r->hash) ||
        !kept_row_take_number(&s, &r->now.xid) || !take_fixed(&s, &r->now.digest) ||
        !kept_row_take_number(&s, &flags) || !kept_row_take_number(&s, &r->now.change) ||
        !take_text(&s, &r->key) || r->key.p == NULL || !take_text(&s, &r->now.row) ||
        (r->now.row.p != NULL && !kept_row_take_number(&s, &columns)) ||
        !take_text(&s, &r->older) || s.len > 0)
        return false;
    kept_row_set_flags(&r->now, flags);
    r->now.columns = (uint32_t)columns;
    *at = end;
    return true;
}

size_t kept_page_find(const struct kept_page *p, int64_t id, size_t *at)
{
    struct store_slice fields;
    int64_t found;
    size_t end;

    *at = id > p->last ? p->data.len : 0;
    for (; *at < p->data.len && read_head(p, *at, &fields, &found, &end); *at = end)
        if (found >= id)
            return found == id ? end - *at : 0;
    return 0;
}

/* ---- pages ---- */

/* Counts the rows, whose ids must rise. */
static bool count(struct kept_page *p)
{
    struct store_slice fields;
    int64_t id;
    size_t end;

    p->n = 0;
    p->last = 0;
    for (size_t at = 0; at < p->data.len; at = end, p->n++) {
        if (!read_head(p, at, &fields, &id, &end) || id <= p->last)
            return false;
        p->last = id;
    }
    return true;
}

bool kept_page_read(struct kept_page *p, int64_t first, struct store_slice bytes)
{
    kept_page_clear(p, first);
    buf_add(&p->data, bytes.p, bytes.len);
    return buf_ok(&p->data) && count(p);
}

/* Puts <len> bytes in the place of <was> bytes at <at>. */
static bool replace(struct kept_page *p, size_t at, size_t was, const char *bytes, size_t len)
{
    struct buf *b = &p->data;
    char *place;

    if (len > was && buf_reserve(b, len - was) == NULL) {
        b->failed = false; /* all is there that was */
        return false;
    }
    if (b->data == NULL)
        return true; /* nothing is put into nothing */
    place = b->data + at;
    memmove(place + len, place + was, b->len - at - was);
    if (len > 0)
        memcpy(place, bytes, len);
    b->len = b->len - was + len;
    return true;
}

bool kept_page_put(struct kept_page *p, const struct kept_row *r)
{
    struct buf *b = &p->scratch;
    size_t at, was = kept_page_find(p, r->id, &at), len, n_length;

    buf_clear(b);
    put_fields(b, r, p->first);
    len = b->len;
    kept_row_put_number(b, len); /* it is to stand before the fields */
    if (!buf_ok(b))
        return false;
    n_length = b->len - len;
    if (buf_reserve(&p->data, n_length + len) == NULL) {
        p->data.failed = false; /* all is there that was */
        return false;
    }
    if (!replace(p, at, was, b->data + len, n_length) ||
        !replace(p, at + n_length, 0, b->data, len))
        return false; /* there is room, so both are done */
    p->n += was == 0;
    if (r->id > p->last)
        p->last = r->id;
    return true;
}

void kept_page_drop(struct kept_page *p, int64_t id)
{
    size_t at, was = kept_page_find(p, id, &at);

    if (was > 0 && replace(p, at, was, NULL, 0))
        (void)count(p);
}

bool kept_page_split(struct kept_page *p, struct kept_page *upper)
{
    struct kept_row r;
    size_t at = 0, middle = 0;
    bool is_first = true;

    while (kept_page_next(p, &at, &r) && (is_first || at <= p->data.len / 2)) {
        middle = at;
        is_first = false;
    }
    at = middle;
    if (!kept_page_next(p, &at, &r))
        return false;
    kept_page_clear(upper, r.id);
    for (at = middle; kept_page_next(p, &at, &r);)
        if (!kept_page_put(upper, &r))
            return false;
    p->data.len = middle;
    return count(p);
}
