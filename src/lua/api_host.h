/* api_host.h -- what scripts may ask of the program.
 *
 * Exports to Lua (module pgcdc.raw): version, dsn, lua_dir, scripts_dir, script, is_sandboxed,
 * words, null, array_metatable, encode(value), decode(text), log(level, message, fields),
 * stop(status), usage(message), refuse(message): ends with status 3, fail(message, traceback),
 * try(catch, f, ...), where(level), place(function), traceback(level), nearest(word, names),
 * size(text), now(), sleep(seconds) -> false if asked to stop, clock_anew(), hook(name, function):
 * what the host calls, see hooks.c. Replaces the global print by one that leaves the flushing to
 * the host.
 *
 * SPDX-License-Identifier: MIT */
#ifndef API_HOST_H
#define API_HOST_H

#include <lua.h>

/* Adds the functions to the module on top of the stack. */
void api_host(lua_State *L);

#endif
