/* api_id_counts.h -- how often each id has come, so that several messages of a change differ.
 *
 * Exports to Lua (module pgcdc.raw): id_counts() -> counts. Methods:
 *   add(id) -> how often this id has come, with this time;
 *   clear(): none has come.
 * Ids are told apart by a hash of 64 bits.
 *
 * Everything here may throw.
 *
 * SPDX-License-Identifier: MIT */
#ifndef API_ID_COUNTS_H
#define API_ID_COUNTS_H

#include <lua.h>
#include <stddef.h>
#include <stdint.h>

/* The method `add`, for the counts at <index>. */
uint64_t api_id_counts_add(lua_State *L, int index, const char *id, size_t len);

/* Adds the function to the module on top of the stack. */
void api_id_counts_export(lua_State *L);

#endif
