/* api_file.c -- files that sinks write: what Lua's io lacks.
 *
 * A file is a userdata; its first user value is the path, for messages.
 *
 * SPDX-License-Identifier: MIT */
#include "lua/api_file.h"

#include "base/file.h"
#include "lua/api_out.h"
#include "lua/script.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CLASS "pgcdc.file"
#define BUFFER_BYTES ((size_t)128 << 10) /* is written out before it would hold more */

struct file {
    int fd;           /* -1: closed */
    bool is_regular;
    bool is_broken;   /* an fsync failed: what was written before may be lost */
    struct buf out;   /* not written yet */
};

/* Throws "path: what the system says". */
static int fail(lua_State *L, const char *path, int error)
{
    return luaL_error(L, "%s: %s", path, strerror(error));
}

/* ---- open and close ---- */

static struct file *file_at(lua_State *L)
{
    struct file *f = luaL_checkudata(L, 1, CLASS);

    luaL_argcheck(L, f->fd >= 0, 1, "the file is closed");
    return f;
}

static const char *path_of(lua_State *L, int index)
{
    const char *path;

    lua_getiuservalue(L, index, 1);
    path = lua_tostring(L, -1);
    lua_pop(L, 1); /* the file keeps it alive */
    return path;
}

static bool is_fifo(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISFIFO(st.st_mode);
}

/* Waits for a reader if the path is a fifo's. Not inside open(): a request to stop that came just
 * before would not interrupt that. */
static int open_file(lua_State *L, const char *path)
{
    static const struct timespec nap = { .tv_nsec = 20000000 };
    struct script *s = script_of(L);
    int fd;

    do
        fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0666);
    while (fd < 0 && errno == ENXIO && is_fifo(path) && !script_should_stop(s) &&
           (nanosleep(&nap, NULL) == 0 || errno == EINTR));
    if (fd >= 0)
        fcntl(fd, F_SETFL, O_APPEND); /* writes block */
    else if (script_should_stop(s) && is_fifo(path))
        err_set(&s->cause, ERR_STOPPED, "stopping");
    return fd;
}

/* True if it is the file of our standard output or error. */
static bool is_standard(const struct stat *st)
{
    struct stat standard;

    for (int fd = STDOUT_FILENO; fd <= STDERR_FILENO; fd++)
        if (fstat(fd, &standard) == 0 && standard.st_dev == st->st_dev &&
            standard.st_ino == st->st_ino)
            return true;
    return false;
}

static int file_open(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    struct file *f = lua_newuserdatauv(L, sizeof *f, 1);       /* path file */
    struct stat st;

    f->fd = -1;
    f->is_broken = f->is_regular = false;
    buf_init(&f->out, SIZE_MAX / 2);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    luaL_setmetatable(L, CLASS);
    f->fd = open_file(L, path);
    if (f->fd < 0 || fstat(f->fd, &st) < 0)
        return fail(L, path, errno);
    f->is_regular = S_ISREG(st.st_mode) && !is_standard(&st);
    if (f->is_regular && flock(f->fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
        return luaL_error(L, "%s: another sink or program is writing to this file", path);
    return 1;
}

static int file_close(lua_State *L)
{
    struct file *f = luaL_checkudata(L, 1, CLASS);

    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
    buf_fini(&f->out);
    return 0;
}

/* Writes out what was not written yet: after a failure of the script that may show why it failed.
 * No position relies on it, so an error does not matter. */
static int file_gc(lua_State *L)
{
    struct file *f = luaL_checkudata(L, 1, CLASS);

    if (f->fd >= 0 && f->is_regular && !f->is_broken && f->out.len > 0 &&
        write(f->fd, f->out.data, f->out.len) < 0) {
        /* the next run writes it again */
    }
    return file_close(L);
}

/* ---- writing ---- */

/* Waits until a descriptor that does not block can be written. */
static bool wait_writable(int fd)
{
    struct pollfd p = { .fd = fd, .events = POLLOUT };

    return poll(&p, 1, -1) >= 0 || errno == EINTR;
}

/* Writes what is in the buffer; what could not be written stays there. */
static void write_out(lua_State *L, struct file *f)
{
    size_t done = 0;
    int error = 0;

    if (f->is_broken)
        fail(L, path_of(L, 1), EIO);
    while (done < f->out.len && error == 0) {
        ssize_t n = write(f->fd, f->out.data + done, f->out.len - done);

        if (n >= 0)
            done += (size_t)n;
        else if (errno != EINTR && (errno != EAGAIN || !wait_writable(f->fd)))
            error = errno;
    }
    if (done > 0 && done < f->out.len)
        memmove(f->out.data, f->out.data + done, f->out.len - done);
    f->out.len -= done;
    if (error != 0)
        fail(L, path_of(L, 1), error);
}

/* The file's buffer, which is written out first if <len> more bytes would make it too full. */
static struct buf *make_room(lua_State *L, size_t len)
{
    struct file *f = file_at(L);

    if (f->out.len > 0 && f->out.len + len > BUFFER_BYTES)
        write_out(L, f);
    return &f->out;
}

static int file_put(lua_State *L)
{
    return api_out_put(L, make_room);
}

static int file_add(lua_State *L)
{
    return api_out_add(L, make_room);
}

static int file_flush(lua_State *L)
{
    write_out(L, file_at(L));
    return 0;
}

/* A failure is final: the kernel reports it once, and drops what it could not write. */
static int file_sync(lua_State *L)
{
    struct file *f = file_at(L);

    write_out(L, f);
    if (fsync(f->fd) < 0 && errno != EINVAL && errno != EROFS) {
        f->is_broken = true;
        return fail(L, path_of(L, 1), errno);
    }
    return 0;
}

static int file_length(lua_State *L)
{
    struct file *f = file_at(L);
    struct stat st;

    if (fstat(f->fd, &st) < 0)
        return fail(L, path_of(L, 1), errno);
    lua_pushinteger(L, (lua_Integer)st.st_size);
    return 1;
}

static int file_cut(lua_State *L)
{
    struct file *f = file_at(L);
    lua_Integer length = luaL_checkinteger(L, 2);

    luaL_argcheck(L, length >= 0, 2, "a length is not negative");
    if (ftruncate(f->fd, (off_t)length) < 0 || fsync(f->fd) < 0)
        return fail(L, path_of(L, 1), errno);
    return 0;
}

static int file_is_regular(lua_State *L)
{
    lua_pushboolean(L, file_at(L)->is_regular);
    return 1;
}

static int file_is_at(lua_State *L)
{
    struct file *f = file_at(L);
    struct stat mine, there;

    if (fstat(f->fd, &mine) < 0)
        return fail(L, path_of(L, 1), errno);
    lua_pushboolean(L, stat(luaL_checkstring(L, 2), &there) == 0 && mine.st_dev == there.st_dev &&
                    mine.st_ino == there.st_ino);
    return 1;
}

/* ---- paths ---- */

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

    return file_make_folder(path, 0777) ? 0 : fail(L, path, errno);
}

static int file_real_path(lua_State *L)
{
    char real[PATH_MAX];

    lua_pushstring(L, realpath(luaL_checkstring(L, 1), real));
    return 1;
}

void api_file_export(lua_State *L)
{
    static const luaL_Reg methods[] = {
        { "put", file_put }, { "add", file_add }, { "flush", file_flush }, { "sync", file_sync },
        { "length", file_length }, { "cut", file_cut }, { "is_regular", file_is_regular },
        { "is_at", file_is_at }, { "close", file_close }, { "__gc", file_gc },
        { "__close", file_close }, { NULL, NULL },
    };
    static const luaL_Reg functions[] = {
        { "file_open", file_open }, { "file_stat", file_stat }, { "file_rename", file_rename },
        { "file_sync_folder", sync_folder }, { "file_make_folder", make_folder },
        { "file_real_path", file_real_path }, { NULL, NULL },
    };

    luaL_newmetatable(L, CLASS);
    luaL_setfuncs(L, methods, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    luaL_setfuncs(L, functions, 0);
}
