/* explain.h -- what the error of a script means.
 *
 * SPDX-License-Identifier: MIT */
#ifndef EXPLAIN_H
#define EXPLAIN_H

#include <lua.h>

/* A function of Lua for a message handler: explain(thrown) -> text. What was thrown may be any
 * value: a table becomes its JSON. To errors that a change can cause, such as a numeric that is
 * compared with a number, the text adds why that is and what to do: the values that the functions
 * under way hold tell which column it was. */
int explain(lua_State *L);

#endif
