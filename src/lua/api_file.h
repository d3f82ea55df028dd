/* api_file.h -- files that sinks write: what Lua's io lacks.
 *
 * Exports to Lua (module pgcdc.raw):
 *   file_new(path, is_private) -> file, which is closed (true: only the user may read it). It
 *     has a buffer, also while it is closed. Methods:
 *     open(), to append: the file is made if it is not there; a regular one is locked against other
 *     sinks, also of other runs of the program; to open a fifo waits for its reader; shut(): the
 *     buffer stays; put(value), a line of JSON, and add(text) go to the buffer, return its length;
 *     flush() writes that out: a regular file gets all of it or, if that fails, nothing;
 *     sync() also makes it durable: if that fails, all later writes fail; length() of what was
 *     written out; cut(length); is_regular(); is_at(path) -> true if the path still leads to this
 *     file; close() drops what was not written out;
 *     sums(at) -> text that tells what is in the buffer, if it is written at that offset; and its
 *     length;
 *   file_matches(path, at, length, sums) -> the offset up to which a file is what `sums` say;
 *   file_sync_all(files): syncs many, several at a time;
 *   file_limit() -> how many files the process may have open.
 * What they do with paths alone is in api_path.h.
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
