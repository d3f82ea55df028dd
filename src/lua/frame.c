/* frame.c -- where in a script something happens.
 * SPDX-License-Identifier: MIT */
#include "lua/frame.h"

#include <lauxlib.h>
#include <string.h>

#define FIRST 60 /* of a deep stack a traceback shows so many levels at either end */
#define LAST 60
#define MOST_SHOWN 22

bool frame_is_of_script(const lua_Debug *ar, const char *ours)
{
    size_t n = strlen(ours);

    return *ar->what != 'C' && (ar->source[0] != '@' || strncmp(ar->source + 1, ours, n) != 0 ||
                                ar->source[n + 1] != '/');
}

void frame_push_place(lua_State *L, const char *ours)
{
    lua_Debug ar;

    for (int level = 1; lua_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "Sl", &ar);
        if (!frame_is_of_script(&ar, ours))
            continue;
        if (ar.currentline > 0)
            lua_pushfstring(L, "%s:%d: ", ar.short_src, ar.currentline);
        else
            lua_pushliteral(L, "");
        return;
    }
    lua_pushliteral(L, "");
}

/* True if it is a function of Lua's library that was called by its global name, such as error. */
static bool is_library(const lua_Debug *ar)
{
    return *ar->what == 'C' && strcmp(ar->namewhat, "global") == 0;
}

/* The last level of the stack. Many levels make lua_getstack slow, so it is not asked for each. */
static int last_level(lua_State *L)
{
    lua_Debug ar;
    int low = 1, high = 1;

    while (lua_getstack(L, high, &ar)) {
        low = high;
        high *= 2;
    }
    while (low < high - 1) {
        int middle = low + (high - low) / 2;

        if (lua_getstack(L, middle, &ar))
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* True if the function of a level was called by code of ours, whose name for it tells nothing. */
static bool is_called_by_us(lua_State *L, int level, const char *ours)
{
    lua_Debug ar;

    if (!lua_getstack(L, level + 1, &ar))
        return false;
    lua_getinfo(L, "S", &ar);
    return *ar.what != 'C' && !frame_is_of_script(&ar, ours);
}

static void add_line(lua_State *L, luaL_Buffer *b, const lua_Debug *ar, bool has_name)
{
    if (ar->currentline > 0)
        lua_pushfstring(L, "\n\t%s:%d: in ", ar->short_src, ar->currentline);
    else
        lua_pushfstring(L, "\n\t%s: in ", ar->short_src);
    luaL_addvalue(b);
    if (strcmp(ar->namewhat, "global") == 0)
        lua_pushfstring(L, "function '%s'", ar->name);
    else if (*ar->namewhat != '\0' && has_name)
        lua_pushfstring(L, "%s '%s'", ar->namewhat, ar->name);
    else if (*ar->what == 'm')
        lua_pushliteral(L, "main chunk");
    else
        lua_pushfstring(L, "function <%s:%d>", ar->short_src, ar->linedefined);
    luaL_addvalue(b);
}

void frame_push_traceback(lua_State *L, int level, const char *ours)
{
    int last = last_level(L), shown = 0;
    lua_Debug ar;
    luaL_Buffer b;

    if (ours == NULL) {
        luaL_traceback(L, L, NULL, level);
        return;
    }
    luaL_buffinit(L, &b);
    luaL_addstring(&b, "stack traceback:");
    for (int i = level; i <= last && shown < MOST_SHOWN; i++) {
        bool by_us = is_called_by_us(L, i, ours);

        if (i == level + FIRST && i < last - LAST) { /* lua_getstack is slow for deep levels */
            luaL_addstring(&b, "\n\t...");
            i = last - LAST;
            continue;
        }
        if (lua_getstack(L, i, &ar) && lua_getinfo(L, "Snl", &ar) &&
            (frame_is_of_script(&ar, ours) || (!by_us && is_library(&ar)))) {
            add_line(L, &b, &ar, !by_us);
            shown++;
        }
    }
    luaL_pushresult(&b);
}
