/* guard.h -- metatables that sandboxed scripts cannot change.
 *
 * What a script could write into a metatable that others share would be called by all who use its
 * values, our own Lua half first of all. So getmetatable() gives of ours something that has only a
 * name. C and our Lua half (see load.c) see the metatable itself. Outside of the sandbox nothing is
 * guarded: scripts have the debug library there.
 *
 * SPDX-License-Identifier: MIT */
#ifndef GUARD_H
#define GUARD_H

#include <lua.h>

/* The metatable at <index> becomes guarded; getmetatable() gives a value whose field __name is
 * <name>. */
void guard_set(lua_State *L, int index, const char *name);

/* Sets the functions getmetatable and setmetatable of the table on top of the stack, the globals of
 * our Lua half: they pass guards, and setmetatable guards what it sets. */
void guard_put_functions(lua_State *L);

/* Methods of text, ("x"):format(...), become those that the table `string` has now, whatever the
 * script makes of it: our Lua half calls them. What the script adds to `string` is a method too. */
void guard_keep_methods(lua_State *L);

#endif
