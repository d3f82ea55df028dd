/* field.h -- text of the server as a Lua value, for the kinds that have the same text everywhere.
 *
 * COPY writes the text of a boolean, of a number and of a timestamp as a result of a query does.
 * Other kinds differ: COPY puts backslashes into their text.
 *
 * SPDX-License-Identifier: MIT */
#ifndef FIELD_H
#define FIELD_H

#include "pg/types.h"

#include <lua.h>

/* Pushes the value of a field that is not NULL, of kind TYPES_BOOL, TYPES_INT, TYPES_FLOAT or
 * TYPES_TIMESTAMP. Returns false, and pushes nothing, for other kinds and for text that is no such
 * value. May throw. */
bool field_push(lua_State *L, enum types_kind kind, struct copytext_field f) WARN_UNUSED;

#endif
