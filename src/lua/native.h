/* native.h -- modules in C, in the program's own folder: pgcdc.native.NAME.
 *
 * They are not found by package.cpath, since a script could change that, and so put another module
 * in the place of ours. See sinks/module.h for what a module is.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NATIVE_H
#define NATIVE_H

#include "base/buf.h"

#include <lua.h>

/* The part of a searcher of Lua that knows pgcdc.native.<name>: pushes the function that makes the
 * module, and its path. Throws why it cannot be had, in words for the user. */
int native_search(lua_State *L, const char *name);

/* Appends a line for each module of a folder: its name, and its library's version or why it cannot
 * be loaded. */
void native_list(const char *folder, struct buf *to);

#endif
