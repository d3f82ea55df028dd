/* api_process.h -- a command whose standard input a sink writes.
 *
 * Exports to Lua (module pgcdc.raw) child_new(command) -> child, not started. Methods:
 *   start(): runs `/bin/sh -c command`, once at a time. What was given since `forget` is to be sent
 *     again;
 *   put(value), add(text): gives it a line of JSON, or a text, which waits in a buffer;
 *   pending() -> bytes that were given since `forget`, bytes of these that were not sent;
 *   send() -> true: writes the latter; blocks while the pipe is full. False, message if the child
 *     does not read any more; false alone if its input is closed;
 *   unread() -> bytes that are in the pipe; nil if no process can read them any more;
 *   forget(): drops what was given: nobody needs it again;
 *   close_input(); is_running(); kill(signal);
 *   wait(seconds) -> "exit" or "signal", and the number; nothing if it still runs then, or was
 *     never started.
 *
 * The child has our standard output and error and no other descriptor of ours. Signals are
 * as a program expects them, except that those of the keyboard, SIGINT and SIGQUIT, are ignored, as
 * for a shell's job in the background: Ctrl-C is for us, and we let the child read to the end.
 *
 * SPDX-License-Identifier: MIT */
#ifndef API_PROCESS_H
#define API_PROCESS_H

#include <lua.h>

/* Adds the function to the module on top of the stack. */
void api_process_export(lua_State *L);

#endif
