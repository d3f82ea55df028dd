/* change_id.h -- the id of a change: "schema.table/xid/key,key".
 *
 * No two row versions have the same id. Where several rows of one xid may have the
 * same key, the place of the row follows: "schema.table/xid/key/file.block.line".
 * It ends with "/deleted" where there is no row any more, only its key. What could
 * be mistaken for something else is escaped, see id_part.h: a comma in a key of
 * which several columns can have one, the slash where a key ends with "/deleted",
 * the text "null" in a column that can be NULL. Where sources connect to several
 * databases, the name of the source and a colon come first, unless it is
 * "schema.table".
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
