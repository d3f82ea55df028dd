/* api_db.h -- connections that scripts and sinks use.
 *
 * Exports to Lua (module pgcdc.raw) db_open(conninfo, at_once[, former]) -> connection. If
 * `at_once` is true, a call that waits fails as soon as the program is asked to stop. <former>: a
 * closed connection that this one replaces; its backend is ended if it is still at work. What can
 * fail returns nil, message, sqlstate ("" if there is none) and "connection", "sql" or "usage".
 * Methods:
 *
 *   run(sql, n, parameters)  -> {rows}, affected, odd
 *   send(sql, n, parameters) -> true; answer() must be the next call, or has_answer()
 *   answer()                 -> {rows}, affected, odd
 *   has_answer()             -> true if something has come since send(), as a rule the answer
 *   describe(sql)            -> {oids of its parameters}, the first 1024
 *   load(sql), finish()      -> true; the number of rows: COPY ... FROM STDIN
 *   alive()                  -> true unless the server has closed the connection
 *   transaction()            -> "idle", "open", "aborted" or "lost"
 *   place()                  -> the database and the role
 *   version(), close()
 *
 * And db_check(conninfo) -> nil, or why a sandboxed script may not use it, as db_open says, too;
 * db_user(conninfo) -> the role that it connects as, or nil where that is not known;
 * session(use, version) -> SQL with the settings of a session for "client", "target" or "verify" on
 * a server of that version; sqlstate_passes(state) -> true if a sink tries again what failed with
 * that SQLSTATE; parts_sql(first) -> what sql_parts_of (capture/sql_parts.h) makes of it.
 *
 * Parameters are nil, pgcdc.null, booleans, numbers and text. Rows are tables by column name;
 * columns of types that are not known here come as text and are listed in `odd`, {name =, type =
 * oid}. db_open blocks, and so do run, answer, describe, load, finish and close. Users see all this
 * through lua/pgcdc/postgres/client.lua.
 *
 * SPDX-License-Identifier: MIT */
#ifndef API_DB_H
#define API_DB_H

#include "pg/conn.h"

#include <lua.h>

/* Adds the functions to the module on top of the stack. */
void api_db_export(lua_State *L);

/* The connection at <index>, borrowed; throws unless it is one that is open. */
struct conn *api_db_check(lua_State *L, int index);

/* Pushes what a method returns after the failure <e>: nil, message, sqlstate, kind. Returns 4. */
int api_db_fail(lua_State *L, const struct err *e);

#endif
