/* change_id.c -- the id of a change: "schema.table/xid/key,key".
 * SPDX-License-Identifier: MIT */
#include "lua/change_id.h"

#include "lua/json.h"

#include <inttypes.h>

#define DELETED "/deleted"

void change_id_put_key(lua_State *L, const struct row_class *class, struct rowdata *d,
                       struct buf *b)
{
    const struct rowtype *s = class->rowtype;

    for (size_t k = 0; k < rowtype_n_id(s); k++) {
        struct copytext_field field = rowdata_field(L, class, d, rowtype_id(s, k));
        char *to;

        if (k > 0)
            buf_putc(b, ',');
        if (copytext_is_null(field)) {
            buf_puts(b, "null");
            continue;
        }
        to = buf_reserve(b, field.len + 3);
        json_check(L, b);
        b->len += s->columns[rowtype_id(s, k)].kind == TYPES_TIMESTAMP && field.len < 64
                      ? types_timestamp(field, to) : copytext_unescape(field, to);
    }
}

void change_id_put(lua_State *L, const struct row_class *class, struct rowdata *d, struct buf *b)
{
    buf_printf(b, "%s.%s/%" PRIu64 "/", class->rowtype->schema, class->rowtype->table, d->xid);
    change_id_put_key(L, class, d, b);
    if (d->is_key_only)
        buf_puts(b, DELETED);
}

void change_id_put_json(lua_State *L, const struct row_class *class, struct rowdata *d,
                        struct buf *b)
{
    const struct rowtype *s = class->rowtype;

    row_class_put_text(b, class->id_head);
    buf_put_u64(b, d->xid);
    buf_putc(b, '/');
    for (size_t k = 0; k < rowtype_n_id(s); k++) {
        size_t i = rowtype_id(s, k);
        struct copytext_field field = rowdata_field(L, class, d, i);

        if (k > 0)
            buf_putc(b, ',');
        if (copytext_is_null(field))
            buf_puts(b, "null");
        else if (!types_put_text(b, s->columns[i].kind, field))
            row_class_throw_utf8(L, class, i);
    }
    if (d->is_key_only)
        buf_puts(b, DELETED);
    buf_putc(b, '"');
}
