/* api_feed.h -- sources whose changes the Lua half brings.
 *
 * Exports to Lua (module pgcdc.raw), for sources that are declared with capture = "feed":
 *   feed_type(shape, database) -> the type of rows of a shape, a table as lua/api_shape.h has it;
 *   feed(source, type, json, begins, time) -> true; nil and a message, if <json> is no change of
 *     such rows. The change is delivered after those that were fed before. <begins>: it is the
 *     first one of a batch. <time>: since when it waits, in milliseconds since 1970, or nil;
 *   feed_position(source, at, is_alone): the batch is over, and <at>, a text, is the position once
 *     it is delivered. <is_alone>: no change was in it;
 *   feed_ready(source): what was there at the start was fed;
 *   feed_done(source, text or nil, is_wrong): nothing more will come. For --check <text> is what
 *     was found; <is_wrong>: why it cannot be read.
 *
 * SPDX-License-Identifier: MIT */
#ifndef API_FEED_H
#define API_FEED_H

#include <lua.h>

/* Adds these to the module on top of the stack. */
void api_feed_export(lua_State *L);

#endif
