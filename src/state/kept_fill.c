/* kept_fill.c -- gives a row what its update left as it was.
 * SPDX-License-Identifier: MIT */
#include "state/kept_fill.h"

#include "pg/copytext.h"

#include <string.h>

bool kept_fill_row(struct chunk *c, size_t i, struct store_slice before, struct buf *scratch)
{
    struct chunk_row *row = &c->rows[i];
    const char *p = c->bytes + row->start, *end = p + row->len;
    const char *q = before.p, *stop = before.p + before.len;
    uint64_t hash = chunk_hash(c, row);

    buf_clear(scratch);
    buf_add(scratch, &hash, sizeof hash);
    row->has_unknown = false;
    for (size_t k = 0; k < c->rowtype->n_columns; k++) {
        const char *tab = memchr(p, '\t', (size_t)(end - p));
        const char *other = memchr(q, '\t', (size_t)(stop - q));
        struct copytext_field f = { p, (size_t)((tab != NULL ? tab : end) - p) };
        struct copytext_field old = { q, (size_t)((other != NULL ? other : stop) - q) };

        if (copytext_is_unknown(f) && c->rowtype->columns[k].expression == NULL &&
            !copytext_is_null(old)) /* such a value is never NULL */
            f = old;
        row->has_unknown = row->has_unknown || copytext_is_unknown(f);
        if (k > 0)
            buf_putc(scratch, '\t');
        buf_add(scratch, f.p, f.len);
        p = tab != NULL ? tab + 1 : end;
        q = other != NULL ? other + 1 : stop;
    }
    if (!buf_ok(scratch) || scratch->len > UINT32_MAX ||
        !chunk_add_bytes(c, scratch->data, scratch->len, &row->start))
        return false;
    row->start += sizeof hash;
    row->len = (uint32_t)(scratch->len - sizeof hash);
    return true;
}
