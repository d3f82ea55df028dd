/* api_path.c -- what sinks do with paths.
 * SPDX-License-Identifier: MIT */
#include "lua/api_path.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Throws "path: what the system says". */
static int fail(lua_State *L, const char *path, int error)
{
    return luaL_error(L, "%s: %s", path, strerror(error));
}

static int file_stat(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    struct stat st;

    if (stat(path, &st) < 0) {
        if (errno != ENOENT && errno != ENOTDIR)
            return fail(L, path, errno);
        lua_pushnil(L);
        return 1;
    }
    lua_pushstring(L, S_ISREG(st.st_mode) ? "file" : S_ISDIR(st.st_mode) ? "folder" : "other");
    lua_pushinteger(L, (lua_Integer)st.st_size);
    return 2;
}

static int file_written(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    struct stat st;

    if (stat(path, &st) < 0)
        return fail(L, path, errno);
    lua_pushinteger(L, (lua_Integer)st.st_mtime);
    return 1;
}

static int file_rename(lua_State *L)
{
    const char *from = luaL_checkstring(L, 1), *to = luaL_checkstring(L, 2);
    struct stat st;

    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return luaL_error(L, "%s: cannot be renamed to %s: %s", from, to, strerror(errno));
    if (lstat(to, &st) == 0) /* a file system that cannot check and rename in one step */
        return luaL_error(L, "%s: cannot be renamed to %s: it is there already", from, to);
    if (rename(from, to) < 0)
        return luaL_error(L, "%s: cannot be renamed to %s: %s", from, to, strerror(errno));
    return 0;
}

static int sync_folder(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);

    return file_sync_folder(path) ? 0 : fail(L, path, errno);
}

static int make_folder(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    bool is_made;

    if (!lua_toboolean(L, 2))
        return file_make_folder(path, 0777) ? 0 : fail(L, path, errno);
    is_made = mkdir(path, 0777) == 0;
    if (!is_made && errno != EEXIST)
        return fail(L, path, errno);
    lua_pushboolean(L, is_made);
    return 1;
}

static int file_real_path(lua_State *L)
{
    char real[PATH_MAX];

    lua_pushstring(L, realpath(luaL_checkstring(L, 1), real));
    return 1;
}

void api_path_export(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "file_stat", file_stat }, { "file_written", file_written },
        { "file_rename", file_rename }, { "file_sync_folder", sync_folder },
        { "file_make_folder", make_folder }, { "file_real_path", file_real_path }, { NULL, NULL },
    };

    luaL_setfuncs(L, functions, 0);
}
