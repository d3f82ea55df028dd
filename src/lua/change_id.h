/* change_id.h -- the id of a change: "schema.table/xid/key,key".
 *
 * It ends with "/deleted" where there is no row any more, only its key.
 *
 * Everything here may throw.
 *
 * SPDX-License-Identifier: MIT */
#ifndef CHANGE_ID_H
#define CHANGE_ID_H

#include "lua/rowdata.h"

/* Appends the id as text. */
void change_id_put(lua_State *L, const struct row_class *class, struct rowdata *d, struct buf *b);

/* Appends the id as JSON. */
void change_id_put_json(lua_State *L, const struct row_class *class, struct rowdata *d,
                        struct buf *b);

/* Appends the part that stands for the key, as text. */
void change_id_put_key(lua_State *L, const struct row_class *class, struct rowdata *d,
                       struct buf *b);

#endif
