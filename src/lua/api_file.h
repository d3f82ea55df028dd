/* api_file.h -- files that sinks write: what Lua's io lacks.
 *
 * Exports to Lua (module pgcdc.raw):
 *   file_open(path) -> file, to append to; it is made if it is not there; a regular one is locked
 *     against other sinks, also of other runs of the program. Methods: put(value) adds a line of
 *     JSON, add(text); flush(); sync(); length() of what was flushed; cut(length); is_regular();
 *     is_at(path); close();
 *   file_stat(path) -> "file", "folder" or "other", and its length; nil if it is not there;
 *   file_rename(from, to): never replaces a file;
 *   file_sync_folder(path); file_make_folder(path): does nothing if it is there;
 *   file_real_path(path) -> path or nil.
 *
 * What fails throws an error that names the path. `put` and `add` either take the whole
 * value or nothing of it, so that they can be called again.
 *
 * SPDX-License-Identifier: MIT */
#ifndef API_FILE_H
#define API_FILE_H

#include <lua.h>

/* Adds the functions to the module on top of the stack. */
void api_file_export(lua_State *L);

#endif
