/* api_terminal.h -- what scripts write on standard output.
 *
 * Exports to Lua (module pgcdc.raw):
 *   answer(text): the program prints it and ends with status 0; does not return;
 *   wants_colours(fd) -> true for a terminal whose user did not say no.
 * Replaces the global print by one that leaves the flushing to the host.
 *
 * SPDX-License-Identifier: MIT */
#ifndef API_TERMINAL_H
#define API_TERMINAL_H

#include <lua.h>

/* Adds the functions to the module on top of the stack. */
void api_terminal_export(lua_State *L);

#endif
