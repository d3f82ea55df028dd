/* api_transfer.h -- states in other homes than that of this run, for `pgcdc-lua state`.
 *
 * Exports to Lua (module pgcdc.raw); a home is what --state says, and the name of the pipeline in
 * it where it is a database:
 *   state_is_database(home) -> whether it is one;
 *   state_copy(home, name, home, name) -> false: it was copied before;
 *   state_read(home, name, f): calls f(kind, name, key, value) for each record, and
 *     f(table, id, change, xid, flags, key, row or nil) for each row;
 *   state_remove(home, name);
 *   state_look() -> whether the database of --state can keep this script's state, what a run would
 *     find or why not, and what the database is called; nil: the state is in a file;
 *   state_schema() -> list of statements, rights, tables: see state/schema.h.
 * They throw what is wrong. But for state_look not in the sandbox.
 *
 * SPDX-License-Identifier: MIT */
#ifndef API_TRANSFER_H
#define API_TRANSFER_H

#include <lua.h>

/* Adds the functions to the module on top of the stack. */
void api_transfer_export(lua_State *L);

#endif
