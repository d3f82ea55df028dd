/* api_path.h -- what sinks do with paths.
 *
 * Exports to Lua (module pgcdc.raw):
 *   file_stat(path) -> "file", "folder" or "other", and its length; nil if it is not there;
 *   file_written(path) -> when it was written last, in seconds since 1970;
 *   file_check_write(path): fails if we may not write to the file, or make files in the folder;
 *   file_rename(from, to): fails if there is a file <to>;
 *   file_sync_folder(path); file_make_folder(path): does nothing if the folder is there, else makes
 *     and syncs it; file_make_folder(path, true) -> true if it made it, which it did not sync;
 *   file_real_path(path) -> path or nil.
 *
 * What fails throws an error that names the path.
 *
 * SPDX-License-Identifier: MIT */
#ifndef API_PATH_H
#define API_PATH_H

#include <lua.h>

/* Adds the functions to the module on top of the stack. */
void api_path_export(lua_State *L);

#endif
