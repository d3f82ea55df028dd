/* api_copy_lines.h -- the lines of a COPY, kept until they are no longer needed.
 *
 * Exports to Lua (module pgcdc.raw): copy_lines() -> lines. They are kept in memory up to a limit,
 * then in a file without a name, and can be sent again and again. Methods:
 *   count() -> how many there are, and how many of them were not just read from a table;
 *   clear();
 *   send(connection): in a COPY that it has begun; returns what the methods of a connection do.
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
    struct buf mem;      /* the newest lines, the last one perhaps in the making */
    size_t whole;        /* bytes of <mem> that are whole lines */
    int fd;              /* of the file with the older lines; -1: everything is in memory */
    off_t in_file;
    lua_Integer count;
    lua_Integer changed; /* how many of them were not just read from a table */
};

/* Adds the function to the module on top of the stack. */
void api_copy_lines_export(lua_State *L);

/* The lines at <index>; throws if there are none. */
struct api_copy_lines *api_copy_lines_at(lua_State *L, int index);

/* Where to put the next line; it counts once api_copy_lines_end has added its newline, and is
 * forgotten by the next api_copy_lines_begin if that is not called. */
struct buf *api_copy_lines_begin(lua_State *L, struct api_copy_lines *s);
void api_copy_lines_end(lua_State *L, struct api_copy_lines *s, bool is_read);

#endif
