/* api_file.h -- files that sinks write: what Lua's io lacks.
 *
 * Exports to Lua (module pgcdc.raw):
 *   file_open(path) -> file: appends to it; made if it is not there; a regular one is locked
 *     against other writers of our kind. Methods: put(value) a line of JSON, add(text), flush(),
 *     sync(), length() of what was flushed, cut(length), is_regular(), is_at(path), close().
 *   file_stat(path) -> "file", "folder" or "other", and its length; nil if it is not
 *     there; file_rename(from, to) never replaces; sync_folder(path);
 *     make_folder(path), fine if it is there; file_real_path(path) -> path or nil.
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
