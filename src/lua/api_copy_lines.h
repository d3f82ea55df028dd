/* api_copy_lines.h -- the lines of a COPY, kept until they are no longer needed.
 *
 * Exports to Lua (module pgcdc.raw): copy_lines() -> lines. They are kept in memory up to a limit,
 * then in a file without a name, and can be sent again and again. Methods:
 *   count() -> how many lines there are, and how many of them are of changes other than `read`;
 *   clear(): drops all lines;
 *   part(first, last) -> new lines, these of them;
 *   fields(number) -> a list of the fields of that line, as text, false for NULL;
 *   leave_out(numbers): drops these lines; the list is sorted;
 *   recount(numbers): the last field of each line counts lines of others, of which these were left
 *     out: makes it less;
 *   bytes() -> how many bytes they have;
 *   send(connection [, from]) -> true: sends all lines, or those behind so many bytes of them, in
 *     the COPY that load() of the connection has begun. Blocks; fails as the methods of a
 *     connection do, see api_db.h.
 *
 * Everything here may throw.
 *
 * SPDX-License-Identifier: MIT */
#ifndef API_COPY_LINES_H
#define API_COPY_LINES_H

#include "base/buf.h"

#include <lua.h>
#include <sys/types.h>

struct api_copy_lines {
    struct buf mem;      /* the newest lines */
    int fd;              /* of the file with the older lines; -1: everything is in memory */
    off_t in_file;       /* bytes of that file */
    lua_Integer count;
    lua_Integer changed; /* how many of them are of changes other than `read` */
};

/* Adds the function to the module on top of the stack. */
void api_copy_lines_export(lua_State *L);

/* The lines at <index>; throws if there are none. */
struct api_copy_lines *api_copy_lines_at(lua_State *L, int index);

/* Adds the line of <len> bytes at <line>, and a newline, or throws. No Lua code runs meanwhile.
 * <is_read>: the op of its change is `read`. */
void api_copy_lines_add(lua_State *L, struct api_copy_lines *s, const char *line, size_t len,
                        bool is_read);

#endif
