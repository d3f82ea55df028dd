/* change_plain.h -- the JSON of a change of which only the row data is there.
 *
 * It is that of the change while no script has touched it.
 *
 * Everything here may throw.
 *
 * SPDX-License-Identifier: MIT */
#ifndef CHANGE_PLAIN_H
#define CHANGE_PLAIN_H

#include "lua/rowdata.h"

/* Appends the JSON of a change that has a row whose values are all known, and no old one. */
void change_plain_put(lua_State *L, const struct row_class *class, struct rowdata *d,
                      struct buf *b);

/* Append what is before the row of any change, and what is after its rows. */
void change_plain_put_head(lua_State *L, const struct row_class *class, struct rowdata *d,
                           struct buf *b);
void change_plain_put_tail(lua_State *L, const struct row_class *class, struct rowdata *d,
                           struct buf *b);

#endif
