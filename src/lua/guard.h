/* guard.h -- metatables that sandboxed scripts cannot change.
 *
 * A function that a script writes into a shared metatable is called by all code that uses values
 * with that metatable, our own Lua half too. So getmetatable(), as scripts have it, does not return
 * a metatable of ours, but a value that has only its name. C and our Lua half (see load.c) get the
 * metatable itself. Outside of the sandbox nothing is guarded, since scripts have the debug library
 * there.
 *
 * SPDX-License-Identifier: MIT */
#ifndef GUARD_H
#define GUARD_H

#include <lua.h>

/* The metatable at <index> becomes guarded; getmetatable() gives a value whose field __name is
 * <name>. */
void guard_set(lua_State *L, int index, const char *name);

/* Sets getmetatable and setmetatable in the table on top of the stack, the globals of our Lua half:
 * the former returns guarded metatables too, the latter guards the metatables that it sets. */
void guard_put_functions(lua_State *L);

/* The methods of text, as in ("x"):format(...), stay what the table `string` has now, whatever the
 * script does to it later, since our Lua half calls them. A function that the script adds to
 * `string` under a new name becomes a method too. */
void guard_keep_methods(lua_State *L);

#endif
