/* api_out.h -- what a script gives a file or a process: the methods put(value) and add(text).
 *
 * What is given is appended to a buffer as a whole or, if something is thrown, not at all: so the
 * method can be called again.
 *
 * Everything here may throw.
 *
 * SPDX-License-Identifier: MIT */
#ifndef API_OUT_H
#define API_OUT_H

#include "base/buf.h"

#include <lua.h>

/* Returns the buffer of the object at index 1, borrowed, after what must happen before <len> more
 * bytes are appended: a file writes out a full buffer. */
typedef struct buf *(*api_out_room)(lua_State *L, size_t len);

/* The body of put(value): appends a line of JSON. Returns 0. */
int api_out_put(lua_State *L, api_out_room room);

/* The body of add(text). Returns 0. */
int api_out_add(lua_State *L, api_out_room room);

#endif
