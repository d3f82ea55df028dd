/* native.h -- what the tests need of the system and Lua does not offer.
 * SPDX-License-Identifier: MIT
 *
 * A Lua module for tests only, in five rooms: native (files, clocks, /proc,
 * poll), native_proc (child processes), native_pg (Postgres connections),
 * native_proxy (a network that fails), native_liar (a server that says anything).
 * The program under test does not use it, and it uses nothing of the program,
 * so that neither can hide a mistake of the other. Linux only. */
#ifndef NATIVE_H
#define NATIVE_H

#include <lauxlib.h>
#include <lua.h>
#include <poll.h>
#include <stdbool.h>

#define NATIVE_PROC "native.proc"
#define NATIVE_CONN "native.conn"

/* Every object has few descriptors to wait for; no more than this. */
#define NATIVE_MAX_FDS 2

/* Seconds of the monotonic clock. */
double native_now(void);

/* What is left until <deadline> in whole milliseconds, rounded up, never below 0. */
int native_left_ms(double deadline);

/* Reads /proc/<pid>/<name> into <buf>, NUL terminated; false if it is not there. */
bool native_read_proc(long pid, const char *name, char *buf, size_t size);

/* Pushes nil, "<what>: <strerror>" and errno; returns 3. */
int native_push_errno(lua_State *L, const char *what);

/* Signal number at stack index <arg>: an integer, or a name with or without "SIG". Raises. */
int native_check_signal(lua_State *L, int arg);

/* Write the descriptors of the object at <index> that are worth a POLLIN to <fds>, return how many.
 * Raise on a value of another type. */
int native_proc_fds(lua_State *L, int index, int fds[NATIVE_MAX_FDS]);
int native_conn_fds(lua_State *L, int index, int fds[NATIVE_MAX_FDS]);

/* <message>, of <len> bytes, comes from a server, whole. Makes it what the lie of this name wants,
 * and returns its new length, which is not greater; 0: it does not come at all. */
size_t native_liar_change(const char *lie, char *message, size_t len);

/* Register the functions of a room into the module table on the top of the stack. */
void native_open_proc(lua_State *L);                                                /* [-0, +0] */
void native_open_pg(lua_State *L);                                                  /* [-0, +0] */
void native_open_proxy(lua_State *L);                                               /* [-0, +0] */
void native_open_liar(lua_State *L);                                                 /* [-0, +0] */

int luaopen_native(lua_State *L);                                                   /* [-0, +1] */

#endif
