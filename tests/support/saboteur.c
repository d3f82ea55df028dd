/* saboteur.c -- counts what the program asks for, and breaks it at one of these steps.
 * SPDX-License-Identifier: MIT
 *
 * Linked into the program's own objects: the linker leads their calls here first (--wrap of each
 * name in a WRAP line below, and pool.o's malloc and realloc under the names lua_*); the calls of
 * the C library that change files are defined here, so that SQLite's come here as well.
 *
 *    SABOTAGE_CLASS  what counts as a step: words out of memory (of C), lua (memory for the Lua
 *                    state, which takes it in slabs), limit (what the Lua state asks for, which
 *                    --max-memory may refuse), postgres, sqlite, pages (SQLite's memory), files,
 *                    sends and answers (saboteur_net.c)
 *    SABOTAGE_HOW    kill (SIGKILL at the step; of a write the first half is done), once, on (this
 *                    step and every one after it fails), or nothing: count only
 *    SABOTAGE_STEP   which step, from 1
 *    SABOTAGE_ERROR  of files: ENOSPC (the default), EIO, short; of sqlite: NOMEM (the default),
 *                    FULL, IOERR, BUSY; of postgres: refuse (libpq says no; the default), cut (the
 *                    connection is gone)
 *    SABOTAGE_LOG    a file that gets a line "NUMBER CALL" when it strikes first, and a line
 *                    "NUMBER" with the number of steps at the end
 *    SABOTAGE_CLOCK  seconds by which the wall clock is wrong, or the path of a file that says
 *                    them, which may change (saboteur_clock.c)
 *    SABOTAGE_RECORD a file that gets all writes to files below the folder of that file, see
 *                    power_loss.lua */
#include "saboteur.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <lua.h>
#include <libpq-fe.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static struct {
    unsigned classes;
    enum { COUNT, KILL, ONCE, ON } how;
    long step;
    bool is_short, is_cut;
    int error, code; /* errno, SQLite's */
    int log, record;
    char folder[PATH_MAX]; /* what is recorded */
    pid_t pid;             /* children run as they are */
} plan = { .log = -1, .record = -1 };

static atomic_long steps;

/* ---- the plan ---- */

static bool has_word(const char *list, const char *word)
{
    const char *at = list != NULL ? strstr(list, word) : NULL;

    return at != NULL && (at == list || at[-1] == ' ') &&
           (at[strlen(word)] == ' ' || at[strlen(word)] == '\0');
}

static int open_log(const char *name)
{
    const char *path = getenv(name);

    return path == NULL ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path,
                                            O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
}

static void tell(long n, const char *name)
{
    char line[128];
    int len = snprintf(line, sizeof line, "%ld%s%s\n", n, name != NULL ? " " : "",
                       name != NULL ? name : "");

    if (plan.log >= 0)
        syscall(SYS_write, plan.log, line, (size_t)len);
}

static void tell_total(void)
{
    if (getpid() == plan.pid)
        tell(atomic_load(&steps), NULL);
}

bool saboteur_counts(enum sabotage class)
{
    return plan.classes & class;
}

void saboteur_kill(void)
{
    kill(plan.pid, SIGKILL);
}

bool saboteur_strikes(enum sabotage class, const char *name, bool *dies)
{
    long n;

    if (!(plan.classes & class) || getpid() != plan.pid)
        return false;
    n = atomic_fetch_add(&steps, 1) + 1;
    if (plan.how == COUNT || n < plan.step || (n > plan.step && plan.how != ON))
        return false;
    if (n == plan.step)
        tell(n, name);
    if (plan.how == KILL && dies == NULL)
        kill(plan.pid, SIGKILL);
    else if (plan.how == KILL)
        *dies = true;
    return true;
}

/* ---- memory ---- */

#define WRAP(type, name, params, class, broken, args) \
    type __real_##name params; \
    type __wrap_##name params; \
    type __wrap_##name params \
    { \
        return saboteur_strikes(class, #name, NULL) ? (broken) : __real_##name args; \
    }

WRAP(void *, malloc, (size_t n), MEMORY, NULL, (n))
WRAP(void *, calloc, (size_t n, size_t size), MEMORY, NULL, (n, size))
WRAP(void *, realloc, (void *p, size_t n), MEMORY, NULL, (p, n))
WRAP(char *, strdup, (const char *s), MEMORY, NULL, (s))
WRAP(char *, strndup, (const char *s, size_t n), MEMORY, NULL, (s, n))

void *lua_malloc(size_t n);
void *lua_realloc(void *p, size_t n);

void *lua_malloc(size_t n)
{
    return saboteur_strikes(LUA, "malloc for Lua", NULL) ? NULL : __real_malloc(n);
}

void *lua_realloc(void *p, size_t n)
{
    return saboteur_strikes(LUA, "realloc for Lua", NULL) ? NULL : __real_realloc(p, n);
}

#undef WRAP
#define WRAP(type, name, params) \
    type __real_##name params; \
    type __wrap_##name params; \
    type __wrap_##name params

static lua_Alloc give;

static void *give_or_not(void *ud, void *p, size_t old, size_t new)
{
    /* Lua takes it for granted that a block can shrink */
    return new > (p != NULL ? old : 0) && saboteur_strikes(LIMIT, "what Lua asks for", NULL)
               ? NULL : give(ud, p, old, new);
}

WRAP(lua_State *, lua_newstate, (lua_Alloc f, void *ud))
{
    give = f;
    return __real_lua_newstate(give_or_not, ud);
}

/* ---- Postgres ---- */

/* True: the call is refused. A connection that is cut lets libpq find that out by itself. */
static bool refuses(PGconn *conn, const char *name)
{
    if (!saboteur_strikes(POSTGRES, name, NULL))
        return false;
    if (plan.is_cut && PQsocket(conn) >= 0)
        shutdown(PQsocket(conn), SHUT_RDWR);
    return !plan.is_cut;
}

#undef WRAP
#define WRAP(type, name, params, broken, args) \
    type __real_##name params; \
    type __wrap_##name params; \
    type __wrap_##name params { return refuses(conn, #name) ? (broken) : __real_##name args; }

WRAP(PostgresPollingStatusType, PQconnectPoll, (PGconn *conn), PGRES_POLLING_FAILED, (conn))
WRAP(int, PQconsumeInput, (PGconn *conn), 0, (conn))
WRAP(int, PQflush, (PGconn *conn), -1, (conn))
WRAP(int, PQsetnonblocking, (PGconn *conn, int is_on), -1, (conn, is_on))
WRAP(int, PQsendQuery, (PGconn *conn, const char *sql), 0, (conn, sql))
WRAP(int, PQsendQueryParams, (PGconn *conn, const char *sql, int n, const Oid *types, const char
     *const *values, const int *lengths, const int *formats, int format), 0, (conn, sql, n, types,
     values, lengths, formats, format))
WRAP(int, PQsendPrepare, (PGconn *conn, const char *name, const char *sql, int n, const Oid *types),
     0, (conn, name, sql, n, types))
WRAP(int, PQsendDescribePrepared, (PGconn *conn, const char *name), 0, (conn, name))
WRAP(int, PQputCopyData, (PGconn *conn, const char *data, int n), -1, (conn, data, n))
WRAP(int, PQputCopyEnd, (PGconn *conn, const char *why), -1, (conn, why))
WRAP(int, PQgetCopyData, (PGconn *conn, char **row, int async), -2, (conn, row, async))
WRAP(PQconninfoOption *, PQconninfo, (PGconn *conn), NULL, (conn))

#undef WRAP
#define WRAP(type, name, params) \
    type __real_##name params; \
    type __wrap_##name params; \
    type __wrap_##name params

WRAP(PGconn *, PQconnectStartParams, (const char *const *keywords, const char *const *values, int
     expand))
{
    if (saboteur_strikes(POSTGRES, "PQconnectStartParams", NULL) && !plan.is_cut)
        return NULL;
    return __real_PQconnectStartParams(keywords, values, expand);
}

WRAP(PQconninfoOption *, PQconninfoParse, (const char *conninfo, char **message))
{
    if (!saboteur_strikes(POSTGRES, "PQconninfoParse", NULL) || plan.is_cut)
        return __real_PQconninfoParse(conninfo, message);
    if (message != NULL)
        *message = NULL; /* it says so where memory is out */
    return NULL;
}

/* What libpq gives where it has no memory for the true answer. (In a COPY it has an answer, for
 * ever, until the COPY is over: that one is left alone.) */
WRAP(PGresult *, PQgetResult, (PGconn *conn))
{
    bool is_refused = refuses(conn, "PQgetResult");
    PGresult *res = __real_PQgetResult(conn);
    ExecStatusType status = PQresultStatus(res);

    if (!is_refused || res == NULL || status == PGRES_COPY_OUT || status == PGRES_COPY_IN)
        return res;
    PQclear(res);
    return PQmakeEmptyPGresult(conn, PGRES_FATAL_ERROR);
}

/* ---- SQLite ---- */

static _Thread_local int last_code; /* what errcode says of a call that was broken */

static bool spoils(const char *name)
{
    /* to die before one of them is to die before what is done with them */
    if (plan.how == KILL && strstr(name, "bind") != NULL)
        return false;
    last_code = saboteur_strikes(SQLITE, name, NULL) ? plan.code : SQLITE_OK;
    return last_code != SQLITE_OK;
}

#undef WRAP
#define WRAP(name, params, args) \
    int __real_##name params; \
    int __wrap_##name params; \
    int __wrap_##name params { return spoils(#name) ? plan.code : __real_##name args; }

WRAP(sqlite3_step, (sqlite3_stmt *st), (st))
WRAP(sqlite3_prepare_v2, (sqlite3 *db, const char *sql, int n, sqlite3_stmt **st, const char
     **tail), (db, sql, n, st, tail))
WRAP(sqlite3_prepare_v3, (sqlite3 *db, const char *sql, int n, unsigned flags, sqlite3_stmt **st,
     const char **tail), (db, sql, n, flags, st, tail))
WRAP(sqlite3_exec, (sqlite3 *db, const char *sql, int (*f)(void *, int, char **, char **), void
     *arg, char **message), (db, sql, f, arg, message))
WRAP(sqlite3_bind_int, (sqlite3_stmt *st, int i, int n), (st, i, n))
WRAP(sqlite3_bind_int64, (sqlite3_stmt *st, int i, sqlite3_int64 n), (st, i, n))
WRAP(sqlite3_bind_text, (sqlite3_stmt *st, int i, const char *text, int n, void (*f)(void *)), (st,
     i, text, n, f))
WRAP(sqlite3_bind_text64, (sqlite3_stmt *st, int i, const char *text, sqlite3_uint64 n, void
     (*f)(void *), unsigned char encoding), (st, i, text, n, f, encoding))
WRAP(sqlite3_bind_blob64, (sqlite3_stmt *st, int i, const void *p, sqlite3_uint64 n, void (*f)(void
     *)), (st, i, p, n, f))

#undef WRAP
#define WRAP(type, name, params) \
    type __real_##name params; \
    type __wrap_##name params; \
    type __wrap_##name params

WRAP(int, sqlite3_open_v2, (const char *path, sqlite3 **db, int flags, const char *vfs))
{
    if (!spoils("sqlite3_open_v2"))
        return __real_sqlite3_open_v2(path, db, flags, vfs);
    *db = NULL;
    last_code = 0;
    return SQLITE_NOMEM;
}

WRAP(int, sqlite3_errcode, (sqlite3 *db))
{
    return last_code != SQLITE_OK ? last_code : __real_sqlite3_errcode(db);
}

WRAP(const char *, sqlite3_errmsg, (sqlite3 *db))
{
    return last_code != SQLITE_OK ? sqlite3_errstr(last_code) : __real_sqlite3_errmsg(db);
}

static sqlite3_mem_methods pages;

static void *page_malloc(int n)
{
    return saboteur_strikes(PAGES, "memory of SQLite", NULL) ? NULL : pages.xMalloc(n);
}

static void *page_realloc(void *p, int n)
{
    return saboteur_strikes(PAGES, "memory of SQLite", NULL) ? NULL : pages.xRealloc(p, n);
}

/* ---- files ---- */

/* Pipes, sockets, eventfds and the log are no files. */
static bool is_file(int fd)
{
    struct stat st;

    return fd != STDERR_FILENO && syscall(SYS_fstat, fd, &st) == 0 &&
           (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode));
}

/* One line: what, offset or size, length of the data, name in the folder; then the data. */
static void record(const char *what, int fd, const char *path, long long at, const void *data,
                   size_t len)
{
    char name[PATH_MAX], link[64], line[PATH_MAX + 128];
    size_t folder = strlen(plan.folder);
    ssize_t n;

    if (plan.record < 0 || getpid() != plan.pid)
        return;
    if (path == NULL) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        n = readlink(link, name, sizeof name - 1);
        if (n <= 0)
            return;
        name[n] = '\0';
        path = name;
    }
    if (strncmp(path, plan.folder, folder) != 0 || (path[folder] != '/' && path[folder] != '\0'))
        return;
    n = snprintf(line, sizeof line, "%s %lld %zu %s\n", what, at, len,
                 path[folder] == '/' ? path + folder + 1 : ".");
    syscall(SYS_write, plan.record, line, (size_t)n);
    if (len > 0)
        syscall(SYS_write, plan.record, data, len);
}

/* How much of <n> bytes is to be written. False: it fails, errno says why. */
static bool allows(int fd, const char *name, size_t *n, bool *dies)
{
    if (!is_file(fd) || !saboteur_strikes(FILES, name, dies))
        return true;
    if (*dies || (plan.is_short && *n > 1)) {
        *n /= 2;
        return true;
    }
    errno = plan.is_short ? ENOSPC : plan.error;
    return false;
}

static ssize_t write_at(int fd, const void *data, size_t n, off_t at, bool has_at, const char *name)
{
    bool dies = false;
    ssize_t done;

    if (!allows(fd, name, &n, &dies))
        return -1;
    done = has_at ? syscall(SYS_pwrite64, fd, data, n, at) : syscall(SYS_write, fd, data, n);
    if (dies)
        kill(plan.pid, SIGKILL);
    if (done > 0 && plan.record >= 0 && is_file(fd))
        record("write", fd, NULL, has_at ? at : lseek(fd, 0, SEEK_CUR) - done, data, (size_t)done);
    return done;
}

/* A call that does all or nothing. In a sweep of short writes it is no step. */
static bool bars(const char *name)
{
    if (plan.is_short || !saboteur_strikes(FILES, name, NULL))
        return false;
    errno = plan.error;
    return true;
}

ssize_t write(int fd, const void *data, size_t n)
{
    return write_at(fd, data, n, 0, false, "write");
}

ssize_t pwrite(int fd, const void *data, size_t n, off_t at)
{
    return write_at(fd, data, n, at, true, "pwrite");
}

ssize_t pwrite64(int fd, const void *data, size_t n, off_t at)
{
    return write_at(fd, data, n, at, true, "pwrite");
}

static int sync_file(int fd, long number, const char *name)
{
    int got = is_file(fd) && bars(name) ? -1 : (int)syscall(number, fd);

    if (got == 0)
        record("sync", fd, NULL, 0, NULL, 0);
    return got;
}

int fsync(int fd)
{
    return sync_file(fd, SYS_fsync, "fsync");
}

int fdatasync(int fd)
{
    return sync_file(fd, SYS_fdatasync, "fdatasync");
}

int ftruncate(int fd, off_t n)
{
    int got = bars("ftruncate") ? -1 : (int)syscall(SYS_ftruncate, fd, n);

    if (got == 0)
        record("cut", fd, NULL, n, NULL, 0);
    return got;
}

int ftruncate64(int fd, off_t n)
{
    return ftruncate(fd, n);
}

static int open_any(int folder, const char *path, int flags, mode_t mode)
{
    int fd;

    /* one that only reads is refused by nobody but a fault of the disk */
    if ((flags & O_ACCMODE) != O_RDONLY && strcmp(path, "/dev/null") != 0 && bars("open"))
        return -1;
    fd = (int)syscall(SYS_openat, folder, path, flags, mode);
    if (fd >= 0 && (flags & O_CREAT))
        record("open", fd, NULL, 0, NULL, 0);
    return fd;
}

#define MODE(flags, mode) \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list list; \
        va_start(list, flags); \
        mode = va_arg(list, mode_t); \
        va_end(list); \
    }

int open(const char *path, int flags, ...)
{
    mode_t mode = 0;

    MODE(flags, mode)
    return open_any(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    mode_t mode = 0;

    MODE(flags, mode)
    return open_any(AT_FDCWD, path, flags, mode);
}

int openat(int folder, const char *path, int flags, ...)
{
    mode_t mode = 0;

    MODE(flags, mode)
    return open_any(folder, path, flags, mode);
}

int unlink(const char *path)
{
    int got = bars("unlink") ? -1 : (int)syscall(SYS_unlink, path);

    if (got == 0)
        record("unlink", -1, path, 0, NULL, 0);
    return got;
}

int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags)
{
    const char *name = strrchr(to, '/') != NULL ? strrchr(to, '/') + 1 : to;
    char path[PATH_MAX];
    int got;

    if (bars("rename"))
        return -1;
    got = (int)syscall(SYS_renameat2, from_folder, from, to_folder, to, flags);
    if (got == 0 && plan.record >= 0) {
        snprintf(path, sizeof path, "%s/%s", plan.folder,
                 strrchr(from, '/') != NULL ? strrchr(from, '/') + 1 : from);
        record("rename", -1, path, 0, name, strlen(name));
    }
    return got;
}

int rename(const char *from, const char *to)
{
    return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int renameat(int from_folder, const char *from, int to_folder, const char *to)
{
    return renameat2(from_folder, from, to_folder, to, 0);
}

int mkdirat(int folder, const char *path, mode_t mode)
{
    int got = bars("mkdir") ? -1 : (int)syscall(SYS_mkdirat, folder, path, mode);
    int fd = got == 0 && plan.record >= 0
                 ? (int)syscall(SYS_openat, folder, path, O_PATH | O_CLOEXEC) : -1;

    if (fd >= 0) {
        record("mkdir", fd, NULL, 0, NULL, 0);
        close(fd);
    }
    return got;
}

int mkdir(const char *path, mode_t mode)
{
    return mkdirat(AT_FDCWD, path, mode);
}

#undef WRAP
#define WRAP(type, name, params, args) \
    type __real_##name params; \
    type __wrap_##name params; \
    type __wrap_##name params { return bars(#name) ? -1 : __real_##name args; }

WRAP(int, mkostemp, (char *path, int flags), (path, flags))
WRAP(int, fflush, (FILE *f), (f))

/* ---- the beginning ---- */

static void read_plan(void)
{
    static const char *const classes[] = { "memory", "lua", "postgres", "sqlite", "pages",
                                           "files", "limit", "sends", "answers" };
    const char *list = getenv("SABOTAGE_CLASS"), *how = getenv("SABOTAGE_HOW");
    const char *step = getenv("SABOTAGE_STEP"), *error = getenv("SABOTAGE_ERROR");
    const char *folder = getenv("SABOTAGE_RECORD");

    for (unsigned i = 0; i < sizeof classes / sizeof *classes; i++)
        if (has_word(list, classes[i]))
            plan.classes |= 1u << i;
    plan.how = has_word(how, "kill") ? KILL : has_word(how, "once") ? ONCE
               : has_word(how, "on") ? ON : COUNT;
    plan.step = step != NULL ? strtol(step, NULL, 10) : 0;
    plan.is_short = has_word(error, "short");
    plan.is_cut = has_word(error, "cut");
    plan.error = has_word(error, "EIO") ? EIO : ENOSPC;
    plan.code = has_word(error, "FULL") ? SQLITE_FULL : has_word(error, "IOERR") ? SQLITE_IOERR
                : has_word(error, "BUSY") ? SQLITE_BUSY : SQLITE_NOMEM;
    if (folder != NULL && strrchr(folder, '/') != NULL)
        snprintf(plan.folder, sizeof plan.folder, "%.*s", (int)(strrchr(folder, '/') - folder),
                 folder);
}

static void __attribute__((constructor)) begin(void)
{
    read_plan();
    plan.log = open_log("SABOTAGE_LOG");
    plan.record = open_log("SABOTAGE_RECORD");
    plan.pid = getpid();
    atexit(tell_total);
    if (plan.classes & PAGES) {
        sqlite3_mem_methods broken;

        sqlite3_config(SQLITE_CONFIG_GETMALLOC, &pages);
        broken = pages;
        broken.xMalloc = page_malloc;
        broken.xRealloc = page_realloc;
        sqlite3_config(SQLITE_CONFIG_MALLOC, &broken);
    }
}
