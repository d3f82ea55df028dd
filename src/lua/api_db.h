/* api_db.h -- connections that scripts and sinks use.
 *
 * Exports to Lua (module pgcdc.raw) db_open(conninfo, at_once[, former]) -> connection. If
 * `at_once` is true, its calls end when the program is to stop. <former>: a closed connection that
 * it replaces; what that has left at the server is ended. What can fail returns nil, message,
 * sqlstate ("" if there is none) and "connection", "sql" or "usage". Methods:
 *
 *   run(sql, n, parameters)  -> {rows}, affected, odd
 *   send(sql, n, parameters) -> true; answer() must be the next call;
 *   answer()                 -> {rows}, affected, odd
 *   describe(sql)            -> {oids of its parameters}
 *   load(sql), finish()      -> true; the number of rows: COPY ... FROM STDIN
 *   alive()                  -> true unless the server has closed the connection
 *   transaction()            -> "idle", "open", "aborted" or "lost"
 *   version(), close()
 *
 * And session(use, version) -> SQL that sets what a session for "client", "target" or "verify" has
 * set on a server of that version; sqlstate_passes(state) -> true if a sink tries again.
 *
 * Parameters are nil, pgcdc.null, booleans, numbers and text. Rows are tables by column name;
 * columns of types that are not known here come as text and are listed in `odd`, {name =, type =
 * oid}. All methods but `send` block. lua/pgcdc/postgres/client.lua makes of it what users see.
 *
 * SPDX-License-Identifier: MIT */
#ifndef API_DB_H
#define API_DB_H

#include "pg/conn.h"

#include <lua.h>

/* Adds the functions to the module on top of the stack. */
void api_db_export(lua_State *L);

/* The connection at <index>; throws unless it is one that is open. */
struct conn *api_db_check(lua_State *L, int index);

/* Pushes nil and what <e> says. Returns 4. */
int api_db_fail(lua_State *L, const struct err *e);

#endif
