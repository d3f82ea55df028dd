/* guard.h -- metatables that scripts cannot change.
 *
 * What a script could write into a metatable that others share would be called by all who use its
 * values, our own Lua half first of all. So getmetatable() gives of ours something that has only a
 * name. C and our Lua half (see load.c) see the metatable itself.
 *
 * SPDX-License-Identifier: MIT */
#ifndef GUARD_H
#define GUARD_H

#include <lua.h>
#include <stdbool.h>

/* The metatable at <index> becomes guarded; getmetatable() gives a value whose field __name is
 * <name>. */
void guard_set(lua_State *L, int index, const char *name);

/* Sets the functions getmetatable and setmetatable of the table on top of the stack, the globals of
 * our Lua half: they pass guards, and, with <guards>, setmetatable guards what it sets. */
void guard_put_functions(lua_State *L, bool guards);

#endif
