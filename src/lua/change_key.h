/* change_key.h -- change.key: a plain table whose pairs and JSON keep the order of the key.
 *
 * Everything here may throw.
 *
 * SPDX-License-Identifier: MIT */
#ifndef CHANGE_KEY_H
#define CHANGE_KEY_H

#include "lua/rowdata.h"

/* Pushes the metatable of keys of the class at <class_at>. */
void change_key_push_metatable(lua_State *L, int class_at);    /* [-0, +1] */

/* Pushes the key of the row <d> as a table without a metatable. */
void change_key_push(lua_State *L, const struct row_class *class, struct rowdata *d);

/* Appends the JSON of the key as the server sent it. */
void change_key_put(lua_State *L, const struct row_class *class, struct rowdata *d,
                    struct buf *b);

/* Appends the JSON of the key of the change at <index>, as it is now. */
void change_key_put_json(lua_State *L, int index, struct buf *b);

/* True if the value at <index> is the key of a change. */
bool change_key_is(lua_State *L, int index);

#endif
