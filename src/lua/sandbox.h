/* sandbox.h -- what --sandbox takes from scripts.
 *
 * Takes away what reads or writes files, runs commands, loads machine code or bytecode, or looks
 * into our own functions. Does not hide our modules (see load.c), and does not limit time or
 * memory (see script.h).
 *
 * SPDX-License-Identifier: MIT */
#ifndef SANDBOX_H
#define SANDBOX_H

#include "base/log.h"

#include <lua.h>

/* Call it once, after luaL_openlibs and before any Lua code runs. Borrows <log>, which is told what
 * a script may not know. Empties the stack. May throw. */
void sandbox_close(lua_State *L, struct log *log);

#endif
