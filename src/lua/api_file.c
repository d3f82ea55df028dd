/* api_file.c -- files that sinks write: what Lua's io lacks.
 *
 * A file is a userdata; its first user value is the path, for messages.
 *
 * SPDX-License-Identifier: MIT */
#include "lua/api_file.h"

#include "base/hash.h"
#include "base/path.h"
#include "base/text.h"
#include "lua/api_out.h"
#include "lua/guard.h"
#include "lua/script.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CLASS "pgcdc.file"
#define PIECE 512    /* bytes of which one sum is made: a disk writes sectors as a whole */
#define MAX_WHOLE ((size_t)64 << 10) /* up to so many bytes the sums are the bytes themselves */
#define MAX_SYNCS 16 /* threads that sync files */

struct file {
    int fd;           /* -1: closed */
    bool is_regular;  /* known once it was opened */
    bool is_private;  /* it is made for the user alone */
    bool is_broken;   /* an fsync failed: what was written before may be lost */
    struct buf out;   /* not written yet */
};

/* Throws "path: why", without a line of our Lua, which would say nothing. */
static int fail(lua_State *L, const char *path, const char *why)
{
    lua_pushfstring(L, "%s: %s", path, why);
    return lua_error(L);
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
    struct path_why why;
    struct stat st;

    return path_stat(path, &st, &why) && S_ISFIFO(st.st_mode);
}

/* Waits for a reader if the path is a fifo's. Not inside open(): a request to stop that came just
 * before would not interrupt that. */
static int open_file(lua_State *L, const char *path, mode_t mode, struct path_why *why)
{
    static const struct timespec nap = { .tv_nsec = 20000000 };
    struct script *s = script_of(L);
    int fd;

    do
        fd = path_open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
                       mode, why);
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

static int file_new(lua_State *L)
{
    struct file *f;
    bool is_private = lua_toboolean(L, 2);

    luaL_checkstring(L, 1);
    lua_settop(L, 1);
    f = lua_newuserdatauv(L, sizeof *f, 1);                    /* path file */
    f->fd = -1;
    f->is_broken = f->is_regular = false;
    f->is_private = is_private;
    buf_init(&f->out, SIZE_MAX / 2);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    luaL_setmetatable(L, CLASS);
    return 1;
}

static void shut(struct file *f)
{
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
}

static int file_open(lua_State *L)
{
    struct file *f = luaL_checkudata(L, 1, CLASS);
    const char *path = path_of(L, 1);
    struct path_why why;
    struct stat st;

    luaL_argcheck(L, f->fd < 0, 1, "the file is open");
    f->fd = open_file(L, path, f->is_private ? 0600 : 0666, &why);
    if (f->fd < 0)
        return fail(L, path, !why.is_refused && errno == ENOENT ? "its folder is not there: make it"
                                                                : why.text);
    if (fstat(f->fd, &st) < 0)
        return fail(L, path, strerror(errno));
    f->is_regular = S_ISREG(st.st_mode) && !is_standard(&st);
    if (f->is_regular && flock(f->fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK) {
        shut(f);
        return fail(L, path, "another sink or program is writing to this file");
    }
    return 0;
}

static int file_shut(lua_State *L)
{
    shut(luaL_checkudata(L, 1, CLASS));
    return 0;
}

static int file_close(lua_State *L)
{
    struct file *f = luaL_checkudata(L, 1, CLASS);

    shut(f);
    buf_fini(&f->out);
    return 0;
}

/* ---- writing ---- */

/* Waits until a descriptor that does not block can be written. */
static bool wait_writable(lua_State *L, int fd)
{
    struct pollfd p = { .fd = fd, .events = POLLOUT };
    bool ok;

    beat_serve(script_of(L)->beat, true);
    ok = poll(&p, 1, -1) >= 0 || errno == EINTR;
    beat_serve(script_of(L)->beat, false);
    return ok;
}

/* Cuts off the <done> bytes of a write that failed in the middle, so that the file has all of what
 * was announced in the journal, or nothing of it. */
static bool take_back(struct file *f, size_t done)
{
    struct stat st;

    return f->is_regular && fstat(f->fd, &st) == 0 && (size_t)st.st_size >= done &&
           ftruncate(f->fd, st.st_size - (off_t)done) == 0;
}

/* Writes what is in the buffer; what could not be written stays there. */
static void write_out(lua_State *L, struct file *f)
{
    size_t done = 0;
    int error = 0;

    if (f->is_broken)
        fail(L, path_of(L, 1), strerror(EIO));
    while (done < f->out.len && error == 0) {
        ssize_t n = write(f->fd, f->out.data + done, f->out.len - done);

        if (n >= 0)
            done += (size_t)n;
        else if (errno != EINTR && (errno != EAGAIN || !wait_writable(L, f->fd)))
            error = errno;
    }
    if (done > 0 && done < f->out.len && take_back(f, done))
        done = 0;
    if (done > 0 && done < f->out.len)
        memmove(f->out.data, f->out.data + done, f->out.len - done);
    f->out.len -= done;
    if (error != 0)
        fail(L, path_of(L, 1), strerror(error));
}

static struct buf *out_of(lua_State *L, size_t len)
{
    struct file *f = luaL_checkudata(L, 1, CLASS);

    (void)len;
    return &f->out;
}

static int push_buffered(lua_State *L)
{
    struct file *f = luaL_checkudata(L, 1, CLASS);

    lua_pushinteger(L, (lua_Integer)f->out.len);
    return 1;
}

static int file_put(lua_State *L)
{
    api_out_put(L, out_of);
    return push_buffered(L);
}

static int file_add(lua_State *L)
{
    api_out_add(L, out_of);
    return push_buffered(L);
}

static int file_flush(lua_State *L)
{
    struct file *f = file_at(L);

    write_out(L, f);
    if (f->out.cap > (size_t)256 << 10)
        buf_fini(&f->out); /* one of many files that had much to write */
    return 0;
}

/* Syncs a descriptor. Returns 0 or an errno. */
static int sync_fd(int fd)
{
    return fsync(fd) == 0 || errno == EINVAL || errno == EROFS ? 0 : errno;
}

/* A failure is final: the kernel reports it once, and drops what it could not write. */
static int file_sync(lua_State *L)
{
    struct file *f = file_at(L);
    int error;

    write_out(L, f);
    error = sync_fd(f->fd);
    if (error != 0) {
        f->is_broken = true;
        return fail(L, path_of(L, 1), strerror(error));
    }
    return 0;
}

struct sync_job {
    const int *fds;
    int *errors;
    size_t n;
    size_t next; /* atomic */
};

static void *sync_some(void *arg)
{
    struct sync_job *job = arg;
    size_t i;

    while ((i = __atomic_fetch_add(&job->next, 1, __ATOMIC_RELAXED)) < job->n)
        job->errors[i] = sync_fd(job->fds[i]);
    return NULL;
}

/* Syncs many descriptors. The disk takes several at once in about the time of one. */
static void sync_fds(struct sync_job *job)
{
    pthread_t threads[MAX_SYNCS];
    sigset_t all, before;
    size_t n = 0, want = job->n < 8 ? 0 : MAX_SYNCS;

    for (size_t i = 0; i < job->n && want > 0; i++) /* the disk begins with all of them */
        sync_file_range(job->fds[i], 0, 0, SYNC_FILE_RANGE_WRITE);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the main thread */
    while (n < want && pthread_create(&threads[n], NULL, sync_some, job) == 0)
        n++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    sync_some(job);
    while (n > 0)
        pthread_join(threads[--n], NULL);
}

static int sync_all(lua_State *L)
{
    size_t n = lua_rawlen(L, 1);
    int *fds = lua_newuserdatauv(L, (2 * n + 1) * sizeof *fds, 0);
    struct sync_job job = { .fds = fds, .errors = fds + n, .n = n };
    size_t failed = n;

    for (size_t i = 0; i < n; i++) {
        struct file *f;

        lua_rawgeti(L, 1, (lua_Integer)i + 1);
        f = luaL_checkudata(L, -1, CLASS);
        luaL_argcheck(L, f->fd >= 0, 1, "a file is closed");
        fds[i] = f->fd;
        lua_pop(L, 1); /* the list keeps it */
    }
    sync_fds(&job);
    for (size_t i = 0; i < n; i++) {
        if (job.errors[i] == 0)
            continue;
        failed = failed == n ? i : failed;
        lua_rawgeti(L, 1, (lua_Integer)i + 1);
        ((struct file *)lua_touserdata(L, -1))->is_broken = true;
        lua_pop(L, 1);
    }
    if (failed < n) {
        lua_rawgeti(L, 1, (lua_Integer)failed + 1);
        return fail(L, path_of(L, -1), strerror(job.errors[failed]));
    }
    return 0;
}

/* ---- what is going to be written ---- */

static uint32_t sum_of(const char *p, size_t len)
{
    return (uint32_t)hash_bytes(HASH_START, p, len);
}

/* The length of the piece at offset <at>, of <left> bytes. */
static size_t piece_at(size_t at, size_t left)
{
    size_t len = PIECE - at % PIECE;

    return len < left ? len : left;
}

/* For up to MAX_WHOLE bytes: "=" and the bytes as hex digits; for more: eight hex digits for each
 * piece. */
static int file_sums(lua_State *L)
{
    struct file *f = luaL_checkudata(L, 1, CLASS);
    size_t at = (size_t)luaL_checkinteger(L, 2), done = 0, len;
    bool is_whole = f->out.len <= MAX_WHOLE;
    char text[9];
    luaL_Buffer sums;

    if (is_whole) {
        size_t n = f->out.len;
        char *hex = luaL_buffinitsize(L, &sums, 1 + 2 * n);

        if (f->out.len < n) /* a finalizer has flushed it */
            n = f->out.len;
        hex[0] = '=';
        text_put_hex(hex + 1, f->out.data, n);
        luaL_pushresultsize(&sums, 1 + 2 * n);
        lua_pushinteger(L, (lua_Integer)n);
        return 2;
    }
    luaL_buffinit(L, &sums);
    for (; done < f->out.len; done += len) {
        len = piece_at(at + done, f->out.len - done);
        snprintf(text, sizeof text, "%08x", (unsigned)sum_of(f->out.data + done, len));
        luaL_addstring(&sums, text);
    }
    luaL_pushresult(&sums);
    lua_pushinteger(L, (lua_Integer)done);
    return 2;
}

static bool is_zero(const char *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (p[i] != '\0')
            return false;
    return true;
}

static bool matches_bytes(const char *p, size_t len, const char *hex)
{
    for (size_t i = 0; i < len; i++) {
        char text[3];

        snprintf(text, sizeof text, "%02x", (unsigned char)p[i]);
        if (strncmp(text, hex + 2 * i, 2) != 0)
            return false;
    }
    return true;
}

static bool matches_sum(const char *p, size_t len, const char *sum)
{
    char text[9];

    snprintf(text, sizeof text, "%08x", (unsigned)sum_of(p, len));
    return strncmp(text, sum, 8) == 0;
}

/* A piece that has only zeros counts as a match: the disk had not written it when the power failed.
 * If a write ended within a piece of which there is only a sum, that piece cannot be checked; then
 * it counts as ours if the piece before it matches. */
static int file_matches(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    size_t at = (size_t)luaL_checkinteger(L, 2), left = (size_t)luaL_checkinteger(L, 3), n_sums;
    const char *sums = luaL_checklstring(L, 4, &n_sums);
    bool is_whole = *sums == '=', is_first = true;
    struct path_why why;
    int fd = path_open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0, &why);

    if (fd < 0)
        return fail(L, path, why.text);
    if ((is_whole ? 1 + 2 * left : 8) > n_sums)
        left = 0; /* it is damaged */
    sums += is_whole;
    while (left > 0 && *sums != '\0') {
        char piece[PIECE];
        size_t len = piece_at(at, left);
        ssize_t n = pread(fd, piece, len, (off_t)at);

        if (n <= 0 || !(is_zero(piece, (size_t)n) ||
                        (is_whole ? matches_bytes(piece, (size_t)n, sums)
                         : (size_t)n < len ? !is_first : matches_sum(piece, len, sums))))
            break;
        at += (size_t)n;
        left -= (size_t)n;
        sums += is_whole ? 2 * (size_t)n : 8;
        is_first = false;
        if ((size_t)n < len)
            break;
    }
    close(fd);
    lua_pushinteger(L, (lua_Integer)at);
    return 1;
}

static int file_length(lua_State *L)
{
    struct file *f = file_at(L);
    struct stat st;

    if (fstat(f->fd, &st) < 0)
        return fail(L, path_of(L, 1), strerror(errno));
    lua_pushinteger(L, (lua_Integer)st.st_size);
    return 1;
}

static int file_cut(lua_State *L)
{
    struct file *f = file_at(L);
    lua_Integer length = luaL_checkinteger(L, 2);

    luaL_argcheck(L, length >= 0, 2, "a length is not negative");
    if (ftruncate(f->fd, (off_t)length) < 0 || fsync(f->fd) < 0)
        return fail(L, path_of(L, 1), strerror(errno));
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
        return fail(L, path_of(L, 1), strerror(errno));
    /* Whoever leads stat() elsewhere gains nothing: what is written goes to the descriptor. */
    lua_pushboolean(L, stat(luaL_checkstring(L, 2), &there) == 0 &&
                    mine.st_dev == there.st_dev && mine.st_ino == there.st_ino);
    return 1;
}

/* How many files may be open. The limit is raised as far as the system allows. */
static int file_limit(lua_State *L)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        limit.rlim_cur = limit.rlim_max = 256;
    if (limit.rlim_cur < limit.rlim_max && limit.rlim_cur < 65536) {
        rlim_t before = limit.rlim_cur;

        limit.rlim_cur = limit.rlim_max < 65536 ? limit.rlim_max : 65536;
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
            limit.rlim_cur = before;
    }
    lua_pushinteger(L, limit.rlim_cur > 65536 ? 65536 : (lua_Integer)limit.rlim_cur);
    return 1;
}

void api_file_export(lua_State *L)
{
    static const luaL_Reg methods[] = {
        { "open", file_open }, { "shut", file_shut }, { "put", file_put }, { "add", file_add },
        { "sums", file_sums }, { "flush", file_flush }, { "sync", file_sync },
        { "length", file_length }, { "cut", file_cut }, { "is_regular", file_is_regular },
        { "is_at", file_is_at }, { "close", file_close }, { "__gc", file_close },
        { "__close", file_close }, { NULL, NULL },
    };
    static const luaL_Reg functions[] = {
        { "file_new", file_new }, { "file_sync_all", sync_all }, { "file_limit", file_limit },
        { "file_matches", file_matches }, { NULL, NULL },
    };

    luaL_newmetatable(L, CLASS);
    guard_set(L, -1, CLASS);
    luaL_setfuncs(L, methods, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    luaL_setfuncs(L, functions, 0);
}
