/* frame.h -- where in a script something happens.
 *
 * A frame is a level of Lua's stack. Frames of our own Lua code, which is below the folder <ours>,
 * and those of C are not the script's.
 *
 * Everything here may throw.
 *
 * SPDX-License-Identifier: MIT */
#ifndef FRAME_H
#define FRAME_H

#include <lua.h>
#include <stdbool.h>

/* True if the function of a level, of which lua_getinfo "S" was asked, is the script's. */
bool frame_is_of_script(const lua_Debug *ar, const char *ours);

/* Pushes "script.lua:3: " for the first frame of the script; the empty text if there is none. */
void frame_push_place(lua_State *L, const char *ours);         /* [-0, +1] */

/* Pushes the traceback from <level> on, as luaL_traceback does. <ours>: frames of ours are left
 * out; NULL: no frame is. */
void frame_push_traceback(lua_State *L, int level, const char *ours); /* [-0, +1] */

#endif
