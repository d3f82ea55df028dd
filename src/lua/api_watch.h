/* api_watch.h -- descriptors that scripts wait for.
 *
 * Exports to Lua (module pgcdc.raw):
 *   watch(fd, f, events): while the program waits, f(is_readable, is_writable) is called whenever
 *     the descriptor is ready; events: "r" (the default), "w", "rw". f nil: not any more, which
 *     must come before the descriptor is closed.
 *
 * SPDX-License-Identifier: MIT */
#ifndef API_WATCH_H
#define API_WATCH_H

#include "lua/script.h"

#include <poll.h>

/* Adds these to the module on top of the stack. */
void api_watch_export(lua_State *L);

/* Fills in one of <fds> for each of s->n_watches. */
void api_watch_put(const struct script *s, struct pollfd *fds);

#endif
