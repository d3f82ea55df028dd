/* change_plain.c -- the JSON of a change of which only the row data is there.
 * SPDX-License-Identifier: MIT */
#include "lua/change_plain.h"

#include "lua/change_id.h"
#include "lua/change_key.h"
#include "lua/json.h"

void change_plain_put_head(lua_State *L, const struct row_class *class, struct rowdata *d,
                           struct buf *b)
{
    row_class_put_text(b, class->heads[d->op]);
    change_key_put(L, class, d, b);
    buf_puts(b, ",\"row\":");
}

void change_plain_put_tail(lua_State *L, const struct row_class *class, struct rowdata *d,
                           struct buf *b)
{
    buf_puts(b, ",\"xid\":");
    rowdata_put_xid(class, d, b);
    buf_puts(b, ",\"seq\":");
    rowdata_put_seq(d, b);
    buf_puts(b, ",\"ts\":\"");
    buf_puts(b, d->ts);
    buf_puts(b, "\",\"id\":");
    change_id_put_json(L, class, d, b);
    buf_putc(b, '}');
}

void change_plain_put(lua_State *L, const struct row_class *class, struct rowdata *d,
                      struct buf *b)
{
    change_plain_put_head(L, class, d, b);
    buf_putc(b, '{');
    for (size_t i = 0; i < class->rowtype->n_row; i++) {
        if (i > 0)
            buf_putc(b, ',');
        row_class_put_text(b, class->labels[i]);
        rowdata_put_json(L, class, d, i, b);
    }
    buf_putc(b, '}');
    change_plain_put_tail(L, class, d, b);
    json_check(L, b);
}
