/* api_state.h -- the state file, for scripts and the host.
 *
 * It is opened when it is first needed: a script may read its state while it loads, and a script
 * that saves nothing makes no file.
 *
 * Exports to Lua (module pgcdc.raw):
 *   kept(kind, name) -> {key = value};
 *   save(list of {kind, name, key, value or false, number}): saves all or nothing; the number
 *     belongs to a position: that of the last change that it accounts for;
 *   pipeline() -> text that tells this state file from all others;
 *   hold_back(flag): says whether a checkpoint was captured that may not be saved yet;
 *   want_flush(): asks for a checkpoint at the next row where one may be.
 * Where there is no state file, as with --check, kept gives {} and save does nothing.
 *
 * SPDX-License-Identifier: MIT */
#ifndef API_STATE_H
#define API_STATE_H

#include "lua/script.h"

/* Adds the functions to the module on top of the stack. */
void api_state_export(lua_State *L);

/* Opens the state file, unless it is open already. With --reset forgets all that it holds. (For
 * --reset=SOURCE see host/reset.h.) */
bool api_state_open(struct script *s, struct err *e) WARN_UNUSED;

#endif
