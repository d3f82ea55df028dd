/* api_copy_value.h -- Lua values as fields of COPY text.
 *
 * Everything here may throw.
 *
 * SPDX-License-Identifier: MIT */
#ifndef API_COPY_VALUE_H
#define API_COPY_VALUE_H

#include "base/buf.h"
#include "capture/rowtype.h"

#include <lua.h>

/* Appends the value on top of the stack, which stays there, for <column>; NULL: for a column that a
 * script added. <b> must not be script_scratch, which is used meanwhile. */
void api_copy_value_put(lua_State *L, const struct rowtype_column *column, struct buf *b);

#endif
