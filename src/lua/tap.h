/* tap.h -- shows changes that were delivered to a user who wants to see them.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TAP_H
#define TAP_H

#include "lua/api_source.h"

struct chunk;
struct chunk_row;

/* The row of a chunk was delivered: gives it as JSON to s->tell_tap. <metatable>: as of
 * change_push. What fails is not shown; nothing is thrown. */
void tap_show(lua_State *L, size_t source, int metatable, const struct chunk *chunk,
              const struct chunk_row *row);                    /* [-0, +0] */

#endif
