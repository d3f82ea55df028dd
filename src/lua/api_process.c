/* api_process.c -- a command whose standard input a sink writes.
 * SPDX-License-Identifier: MIT */
#include "lua/api_process.h"

#include "base/clock.h"
#include "lua/api_out.h"
#include "lua/guard.h"
#include "lua/script.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CLASS "pgcdc.child"
#define PIECE ((size_t)64 << 10) /* what is written at once */

extern char **environ;

struct child {
    pid_t pid;      /* 0: it was not started, or has ended */
    int fd;         /* our end of its standard input, or -1 */
    bool has_ended; /* <status> says how */
    int status;
    struct buf out; /* given since `forget` */
    size_t sent;    /* bytes of it that were written to this child */
};

static struct child *child_at(lua_State *L)
{
    return luaL_checkudata(L, 1, CLASS);
}

static void close_input(struct child *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}

/* ---- start ---- */

static int child_new(lua_State *L)
{
    struct child *c;

    luaL_checkstring(L, 1);
    c = lua_newuserdatauv(L, sizeof *c, 1);
    memset(c, 0, sizeof *c);
    c->fd = -1;
    buf_init(&c->out, SIZE_MAX / 2);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    luaL_setmetatable(L, CLASS);
    return 1;
}

/* True for a variable of libpq's that is a password or a key, or says where one is. */
static bool is_secret(const char *variable)
{
    static const char *const secrets[] = { "PGPASS", "PGSERVICE", "PGSSLKEY", "PGSSLCERT",
                                           "PGSSLPASS", "PGOAUTH" };

    for (size_t i = 0; i < sizeof secrets / sizeof *secrets; i++)
        if (strncmp(variable, secrets[i], strlen(secrets[i])) == 0)
            return true;
    return false;
}

/* The environment of the command: without secrets. Owned, its texts are borrowed; or NULL. */
static char **make_environment(void)
{
    size_t n = 0, kept = 0;
    char **list;

    while (environ != NULL && environ[n] != NULL)
        n++;
    list = calloc(n + 1, sizeof *list);
    for (size_t i = 0; list != NULL && i < n; i++)
        if (!is_secret(environ[i]))
            list[kept++] = environ[i];
    return list;
}

/* Runs between fork and exec, in a process that has no other threads: makes system calls only. */
static void become(const char *command, int input, char **environment)
{
    static const int ours[] = { SIGPIPE, SIGXFSZ, SIGTERM }, keyboard[] = { SIGINT, SIGQUIT };
    const char *const argv[] = { "/bin/sh", "-c", command, NULL };
    sigset_t none;

    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        signal(ours[i], SIG_DFL);
    for (size_t i = 0; i < sizeof keyboard / sizeof *keyboard; i++)
        signal(keyboard[i], SIG_IGN);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (dup2(input, STDIN_FILENO) < 0)
        _exit(126);
    if (close_range(STDERR_FILENO + 1, ~0U, 0) < 0)
        for (int fd = STDERR_FILENO + 1; fd < 1024; fd++) /* before Linux 5.9; ours are O_CLOEXEC */
            close(fd);
    execve(argv[0], (char *const *)argv, environment);
    _exit(127);
}

static int child_start(lua_State *L)
{
    struct child *c = child_at(L);
    const char *command;
    char **environment;
    int ends[2];

    luaL_argcheck(L, c->pid == 0, 1, "it runs already");
    lua_getiuservalue(L, 1, 1);                                /* child command */
    command = lua_tostring(L, -1);
    if (pipe2(ends, O_CLOEXEC) < 0)
        return luaL_error(L, "pipe: %s", strerror(errno));
    environment = make_environment();
    if (environment == NULL) {
        close(ends[0]);
        close(ends[1]);
        return luaL_error(L, "out of memory");
    }
    c->pid = fork();
    if (c->pid == 0)
        become(command, ends[0], environment);
    free(environment);
    close(ends[0]);
    if (c->pid < 0) {
        c->pid = 0;
        close(ends[1]);
        return luaL_error(L, "fork: %s", strerror(errno));
    }
    c->fd = ends[1];
    c->has_ended = false;
    c->sent = 0;
    return 0;
}

/* ---- writing ---- */

static struct buf *out_of(lua_State *L, size_t len)
{
    (void)len; /* what is given waits until it is sent */
    return &child_at(L)->out;
}

static int child_put(lua_State *L)
{
    return api_out_put(L, out_of);
}

static int child_add(lua_State *L)
{
    return api_out_add(L, out_of);
}

static int child_pending(lua_State *L)
{
    const struct child *c = child_at(L);

    lua_pushinteger(L, (lua_Integer)c->out.len);
    lua_pushinteger(L, (lua_Integer)(c->out.len - c->sent));
    return 2;
}

/* Returns the number of bytes, or -1. A command that does not read yet is waited for. */
static ssize_t send_piece(lua_State *L, const struct child *c)
{
    size_t left = c->out.len - c->sent;
    ssize_t n;

    beat_serve(script_of(L)->beat, true);
    n = write(c->fd, c->out.data + c->sent, left < PIECE ? left : PIECE);
    beat_serve(script_of(L)->beat, false);
    return n;
}

static int child_send(lua_State *L)
{
    struct child *c = child_at(L);

    while (c->fd >= 0 && c->sent < c->out.len) {
        ssize_t n = send_piece(L, c);

        if (n >= 0) {
            c->sent += (size_t)n;
        } else if (errno != EINTR) {
            lua_pushboolean(L, false);
            lua_pushstring(L, strerror(errno));
            return 2;
        }
    }
    lua_pushboolean(L, c->fd >= 0);
    return 1;
}

static int child_unread(lua_State *L)
{
    struct child *c = child_at(L);
    struct pollfd p = { .fd = c->fd, .events = 0 };
    int n = 0;

    if (c->fd < 0 || (poll(&p, 1, 0) == 1 && (p.revents & POLLERR) != 0)) {
        lua_pushnil(L);
        return 1;
    }
    if (ioctl(c->fd, FIONREAD, &n) < 0)
        return luaL_error(L, "FIONREAD: %s", strerror(errno));
    lua_pushinteger(L, n);
    return 1;
}

static int child_forget(lua_State *L)
{
    struct child *c = child_at(L);

    buf_clear(&c->out);
    c->sent = 0;
    return 0;
}

static int child_close_input(lua_State *L)
{
    close_input(child_at(L));
    return 0;
}

/* ---- end ---- */

/* True if it has ended, or was not started. */
static bool reap(struct child *c)
{
    pid_t pid;

    if (c->pid == 0)
        return true;
    do
        pid = waitpid(c->pid, &c->status, WNOHANG);
    while (pid < 0 && errno == EINTR);
    if (pid == 0)
        return false;
    if (pid < 0)
        c->status = 0; /* other code has waited for it */
    c->has_ended = true;
    c->pid = 0;
    close_input(c);
    return true;
}

static int child_is_running(lua_State *L)
{
    lua_pushboolean(L, !reap(child_at(L)));
    return 1;
}

/* Sleeps a little longer each time, up to 20 ms: a signal of ours ends a nap early. */
static int child_wait(lua_State *L)
{
    struct child *c = child_at(L);
    int64_t until = clock_mono_ns() + (int64_t)(luaL_checknumber(L, 2) * 1e9), nap = 50000;

    while (!reap(c)) {
        struct timespec t = { .tv_nsec = (long)nap };

        if (clock_mono_ns() >= until)
            return 0;
        nanosleep(&t, NULL);
        nap = nap < 10000000 ? nap * 2 : 20000000;
    }
    if (!c->has_ended)
        return 0;
    lua_pushstring(L, WIFSIGNALED(c->status) ? "signal" : "exit");
    lua_pushinteger(L, WIFSIGNALED(c->status) ? WTERMSIG(c->status) : WEXITSTATUS(c->status));
    return 2;
}

static int child_kill(lua_State *L)
{
    struct child *c = child_at(L);

    if (c->pid > 0)
        kill(c->pid, (int)luaL_checkinteger(L, 2));
    return 0;
}

/* The child sees the end of its input. Does not wait for its end. */
static int child_gc(lua_State *L)
{
    struct child *c = child_at(L);

    close_input(c);
    reap(c);
    buf_fini(&c->out);
    return 0;
}

void api_process_export(lua_State *L)
{
    static const luaL_Reg methods[] = {
        { "start", child_start }, { "put", child_put }, { "add", child_add },
        { "pending", child_pending }, { "send", child_send }, { "unread", child_unread },
        { "forget", child_forget }, { "close_input", child_close_input },
        { "is_running", child_is_running }, { "wait", child_wait }, { "kill", child_kill },
        { "__gc", child_gc }, { "__close", child_gc }, { NULL, NULL },
    };

    luaL_newmetatable(L, CLASS);
    guard_set(L, -1, CLASS);
    luaL_setfuncs(L, methods, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lua_pushcfunction(L, child_new);
    lua_setfield(L, -2, "child_new");
}
