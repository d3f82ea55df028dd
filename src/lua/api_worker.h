/* api_worker.h -- processes of the program, one for a partition of topics.
 *
 * Exports to Lua (module pgcdc.raw):
 *   partition: the partition that this process is for; nil: it is no worker;
 *   suffix: "/3", or "" where it is none: what it adds to names under which others know it;
 *   be_member(): this process runs no pipeline, but starts workers, by the hook `group`;
 *   set_ready(boolean): whether all of them are ready;
 *   worker_start(partition, is_first) -> pid and our end of a socket; throws. <is_first>: what the
 *     command line says of --reset is for it too;
 *   worker_take(fd) -> the next message; "" if there is none yet; nil if the other end is closed;
 *   worker_signal(pid, word): "stop" in good order, or "kill";
 *   worker_end(pid) -> nil while it runs; then its exit status, or nil and the signal that ended
 *     it;
 *   worker_close(fd);
 *   wants_report() -> whether a user has asked since to be told how things are.
 *
 * SPDX-License-Identifier: MIT */
#ifndef API_WORKER_H
#define API_WORKER_H

#include <lua.h>

/* Adds these to the module on top of the stack. */
void api_worker_export(lua_State *L);

#endif
