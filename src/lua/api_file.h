/* api_file.h -- files that sinks write: what Lua's io lacks.
 *
 * Exports to Lua (module pgcdc.raw):
 *   file_open(path) -> file, to append to. It is made if it is not there. A regular one is locked
 *     against other sinks, also of other runs of the program; to open a fifo waits for its reader.
 *     Methods: put(value), a line of JSON, and add(text) go to a buffer; flush() writes that out;
 *     sync() also makes it durable: if that fails, all later writes fail; length() of what was
 *     written out; cut(length); is_regular(); is_at(path) -> true if the path still leads to this
 *     file; close() drops what was not written out;
 *   file_stat(path) -> "file", "folder" or "other", and its length; nil if it is not there;
 *   file_rename(from, to): fails if there is a file <to>;
 *   file_sync_folder(path); file_make_folder(path): does nothing if the folder is there;
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
