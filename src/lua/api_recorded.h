/* api_recorded.h -- changes of a recording, as the script got them.
 *
 * Exports to Lua (module pgcdc.raw); what a recording says is described in capture/recording.h:
 *   recorded_class(table) -> class of the changes of a source, of what a line with "class" says;
 *   recorded_change(class, table) -> a change, of what a line with "op" says;
 *   recorded_text(change) -> both lines of a change; nil if its values are not those of the server:
 *     a script has made it, or changed its row;
 *   recorded_example(class) -> a change of op "read" whose columns are all NULL.
 * They throw what is wrong with the line.
 *
 * SPDX-License-Identifier: MIT */
#ifndef API_RECORDED_H
#define API_RECORDED_H

#include <lua.h>

/* Adds these to the module on top of the stack. */
void api_recorded_export(lua_State *L);

#endif
