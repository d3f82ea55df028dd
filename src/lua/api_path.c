/* api_path.c -- what sinks do with paths.
 * SPDX-License-Identifier: MIT */
#include "lua/api_path.h"

#include "base/file.h"
#include "base/path.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Throws "path: why", without a line of our Lua, which would say nothing. */
static int fail(lua_State *L, const char *path, const char *why)
{
    lua_pushfstring(L, "%s: %s", path, why);
    return lua_error(L);
}

static int file_stat(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    struct path_why why;
    struct stat st;

    if (!path_stat(path, &st, &why)) {
        if (why.is_refused || (errno != ENOENT && errno != ENOTDIR))
            return fail(L, path, why.text);
        lua_pushnil(L);
        return 1;
    }
    lua_pushstring(L, S_ISREG(st.st_mode) ? "file" : S_ISDIR(st.st_mode) ? "folder" : "other");
    lua_pushinteger(L, (lua_Integer)st.st_size);
    lua_pushinteger(L, (lua_Integer)(st.st_mode & 0777));
    return 3;
}

static int file_written(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    struct path_why why;
    struct stat st;

    if (!path_stat(path, &st, &why))
        return fail(L, path, why.text);
    lua_pushinteger(L, (lua_Integer)st.st_mtime);
    return 1;
}

static int file_check_write(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);

    return faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) == 0 ? 0 : fail(L, path, strerror(errno));
}

static int file_rename(lua_State *L)
{
    const char *from = luaL_checkstring(L, 1), *to = luaL_checkstring(L, 2);
    struct path_why why;

    if (!path_rename(from, to, &why))
        return luaL_error(L, "%s: cannot be renamed to %s: %s", from, to, why.text);
    return 0;
}

static int sync_folder(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);

    return file_sync_folder(path) ? 0 : fail(L, path, strerror(errno));
}

static int make_folder(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    struct path_why why;
    bool is_made;

    if (!lua_toboolean(L, 2))
        return file_make_folder(path, 0777, &why) ? 0 : fail(L, path, why.text);
    is_made = path_make_folder(path, 0777, &why);
    if (!is_made && errno != EEXIST)
        return fail(L, path, why.text);
    lua_pushboolean(L, is_made);
    return 1;
}

/* The absolute path without symbolic links; nil if there is nothing, or it has none. */
static int file_real_path(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    struct path_place place;
    struct path_why why;

    if (!path_find(path, &place, &why))
        return why.is_refused ? fail(L, path, why.text) : 0;
    path_fini(&place);
    if (!place.is_there || place.real[0] == '\0')
        return 0;
    lua_pushstring(L, place.real);
    return 1;
}

void api_path_export(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "file_stat", file_stat }, { "file_written", file_written },
        { "file_check_write", file_check_write },
        { "file_rename", file_rename }, { "file_sync_folder", sync_folder },
        { "file_make_folder", make_folder }, { "file_real_path", file_real_path }, { NULL, NULL },
    };

    luaL_setfuncs(L, functions, 0);
}
