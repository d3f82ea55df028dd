/* native_proc.c -- child processes with everything a test wants to decide about them.
 * SPDX-License-Identifier: MIT
 *
 * A child leads a process group of its own and is killed by the kernel when
 * this process dies, so that nothing is left behind whatever happens. All
 * descriptors here are close-on-exec and above 2; a child gets its three
 * standard ones and nothing else. It does not read for the child: a pipe
 * nobody reads fills up and blocks it, which tests use. */
#include "native.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

struct proc {
    pid_t pid;   /* 0: never started */
    int pidfd;   /* -1 where the kernel has none: wait() then looks every 2 ms */
    int fd[3];   /* our ends of its standard descriptors, -1 where there is no pipe */
    int child[3]; /* its ends, only while it is being started; -1: it has that descriptor closed */
    bool detached;
    bool reaped;
    int status;  /* of wait4(), once reaped */
    struct rusage usage;
};

/* What the child needs after fork(), when it may not allocate any more. */
struct plan {
    char **argv;
    char **envp;
    const char *cwd;
    const char *user;
    uid_t uid;
    gid_t gid;
    struct rlimit limits[RLIM_NLIMITS];
    bool limited[RLIM_NLIMITS];
    pid_t parent;
};

static const char *const stream_names[] = {"stdin", "stdout", "stderr", NULL};

static struct proc *check_proc(lua_State *L)
{
    return luaL_checkudata(L, 1, NATIVE_PROC);
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* The same descriptor at a number above the standard three. Takes <fd>. */
static int lift_fd(int fd)
{
    int lifted = fd;

    if (fd >= 0 && fd < 3) {
        lifted = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        close(fd);
    }
    return lifted;
}

/* Notes the end of the process if it has come. Does not block. */
static void proc_reap(struct proc *p)
{
    pid_t got;

    if (p->reaped || p->pid <= 0)
        return;
    do
        got = wait4(p->pid, &p->status, WNOHANG, &p->usage);
    while (got < 0 && errno == EINTR);
    if (got == p->pid) {
        p->reaped = true;
        close_fd(&p->pidfd);
    }
}

/* Opens what field <name> asks for; our end and the child's end go to <p>. Raises. */
static void open_stream(lua_State *L, struct proc *p, int which)
{
    const char *name = stream_names[which], *want;
    int ends[2];

    lua_getfield(L, 1, name);
    want = luaL_optstring(L, -1, which == 0 ? "null" : "pipe");
    if (strcmp(want, "pipe") == 0) {
        if (pipe2(ends, O_CLOEXEC) < 0)
            luaL_error(L, "%s: pipe: %s", name, strerror(errno));
        p->fd[which] = lift_fd(ends[which == 0]);
        p->child[which] = lift_fd(ends[which != 0]);
        fcntl(p->fd[which], F_SETFL, O_NONBLOCK);
    } else if (strcmp(want, "closed") != 0) {
        const char *path = strcmp(want, "null") == 0 ? "/dev/null" : want;
        int flags = which == 0 ? O_RDONLY : O_WRONLY | O_CREAT | O_APPEND;

        p->child[which] = lift_fd(open(path, flags | O_CLOEXEC, 0644));
        if (p->child[which] < 0)
            luaL_error(L, "%s: %s: %s", name, path, strerror(errno));
    }
    lua_pop(L, 1);
}

/* argv as an array in a userdata, which stays on the stack. Its strings are the caller's. */
static char **plan_argv(lua_State *L)                                                /* [-0, +1] */
{
    lua_Integer i, n;
    char **argv;

    luaL_argcheck(L, lua_getfield(L, 1, "argv") == LUA_TTABLE, 1, "argv must be a list");
    n = luaL_len(L, -1);
    luaL_argcheck(L, n > 0, 1, "argv is empty");
    argv = lua_newuserdatauv(L, (size_t)(n + 1) * sizeof *argv, 0);
    for (i = 0; i < n; i++) {
        luaL_argcheck(L, lua_rawgeti(L, -2, i + 1) == LUA_TSTRING, 1, "argv must hold strings");
        argv[i] = (char *)lua_tostring(L, -1);
        lua_pop(L, 1);
    }
    argv[n] = NULL;
    lua_remove(L, -2);
    return argv;
}

/* Our environment with the changes of env, in a userdata. Two values stay on the stack: it, and the
 * table that holds its new strings. */
static char **plan_envp(lua_State *L)                                                /* [-0, +2] */
{
    size_t n = 0, used = 0;
    char **envp, **e;
    int env, made;

    for (e = environ; e && *e; e++)
        n++;
    if (lua_getfield(L, 1, "env") == LUA_TNIL) {
        lua_pop(L, 1);
        lua_newtable(L);
    }
    luaL_argcheck(L, lua_istable(L, -1), 1, "env must be a table");
    env = lua_gettop(L);
    for (lua_pushnil(L); lua_next(L, env); lua_pop(L, 1))
        n++;
    lua_newtable(L);
    made = lua_gettop(L);
    envp = lua_newuserdatauv(L, (n + 1) * sizeof *envp, 0);
    for (e = environ; e && *e; e++) {
        lua_pushlstring(L, *e, strcspn(*e, "="));
        if (lua_rawget(L, env) == LUA_TNIL)
            envp[used++] = *e;
        lua_pop(L, 1);
    }
    for (lua_pushnil(L); lua_next(L, env); lua_pop(L, 1)) {
        luaL_argcheck(L, lua_type(L, -2) == LUA_TSTRING, 1, "env must have names as keys");
        if (lua_isboolean(L, -1) && !lua_toboolean(L, -1))
            continue;
        luaL_argcheck(L, lua_isstring(L, -1), 1, "env must hold strings, numbers or false");
        lua_pushvalue(L, -1); /* lua_tostring on a copy: the table is the caller's */
        envp[used] = (char *)lua_pushfstring(L, "%s=%s", lua_tostring(L, -3), lua_tostring(L, -1));
        lua_rawseti(L, made, (lua_Integer)++used);
        lua_pop(L, 1);
    }
    envp[used] = NULL;
    lua_remove(L, env);
    return envp;
}

static void plan_rlimits(lua_State *L, struct plan *plan)                            /* [-0, +0] */
{
    static const char *const names[] = {"as",    "core",   "cpu",   "data",
                                        "fsize", "nofile", "stack", NULL};
    static const int numbers[] = {RLIMIT_AS,    RLIMIT_CORE,   RLIMIT_CPU,  RLIMIT_DATA,
                                  RLIMIT_FSIZE, RLIMIT_NOFILE, RLIMIT_STACK};

    if (lua_getfield(L, 1, "rlimits") == LUA_TTABLE) {
        for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
            int limit;
            rlim_t value = (rlim_t)luaL_checkinteger(L, -1);

            luaL_argcheck(L, lua_type(L, -2) == LUA_TSTRING, 1, "rlimits must have names as keys");
            limit = numbers[luaL_checkoption(L, lua_gettop(L) - 1, NULL, names)];
            plan->limits[limit] = (struct rlimit){value, value};
            plan->limited[limit] = true;
        }
    }
    lua_pop(L, 1);
}

static void plan_user(lua_State *L, struct plan *plan)                               /* [-0, +1] */
{
    struct passwd *pw;

    lua_getfield(L, 1, "user");
    plan->user = luaL_optstring(L, -1, NULL);
    if (!plan->user)
        return;
    pw = getpwnam(plan->user);
    luaL_argcheck(L, pw, 1, "unknown user");
    plan->uid = pw->pw_uid;
    plan->gid = pw->pw_gid;
    if (plan->uid == geteuid())
        plan->user = NULL;
    else
        luaL_argcheck(L, geteuid() == 0, 1, "only root can become another user");
}

/* The child's half: becomes the program, or says which step failed and why. Never returns. */
static void be_child(const struct proc *p, const struct plan *plan, int report)
{
    static const int inherited[] = {SIGPIPE, SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGCHLD};
    const char *step = "group";
    char message[64] = {0};
    sigset_t none;
    size_t i;
    int error;

    for (i = 0; i < sizeof inherited / sizeof *inherited; i++)
        signal(inherited[i], SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if ((p->detached ? setsid() : setpgid(0, 0)) < 0)
        goto failed;
    step = "rlimits";
    for (i = 0; i < RLIM_NLIMITS; i++)
        if (plan->limited[i] && setrlimit((__rlimit_resource_t)i, &plan->limits[i]) < 0)
            goto failed;
    step = "user";
    if (plan->user && (initgroups(plan->user, plan->gid) < 0 || setgid(plan->gid) < 0
                       || setuid(plan->uid) < 0))
        goto failed;
    /* After setuid(), which clears it. If the parent has died by now, nobody would tell us. */
    if (!p->detached) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != plan->parent)
            _exit(127);
    }
    step = "cwd";
    if (plan->cwd && chdir(plan->cwd) < 0)
        goto failed;
    step = "descriptors";
    for (i = 0; i < 3; i++) {
        if (p->child[i] < 0)
            close((int)i);
        else if (dup2(p->child[i], (int)i) < 0)
            goto failed;
    }
    /* What this process was given by whoever started it without close-on-exec stays with it. */
    if (close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) < 0) {
        int fd;

        for (fd = 3; fd < 1024; fd++)
            fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
    step = "exec";
    execvpe(plan->argv[0], plan->argv, plan->envp);
failed:
    error = errno;
    memcpy(message, &error, sizeof error);
    memcpy(message + sizeof error, step, strlen(step));
    if (write(report, message, sizeof message) < 0)
        _exit(126);
    _exit(127);
}

/* spawn{argv=, env=, cwd=, user=, stdin=, stdout=, stderr=, rlimits=, detached=} -> process,
 * or nil, message if it cannot be started. detached: a session of its own, and it outlives us. */
static int proc_spawn(lua_State *L)
{
    struct plan plan = {.parent = getpid()};
    char message[64];
    struct proc *p;
    ssize_t got;
    int report[2], i;

    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    p = lua_newuserdatauv(L, sizeof *p, 0);
    memset(p, 0, sizeof *p);
    p->pidfd = -1;
    for (i = 0; i < 3; i++)
        p->fd[i] = p->child[i] = -1;
    luaL_setmetatable(L, NATIVE_PROC);

    lua_getfield(L, 1, "detached");
    p->detached = lua_toboolean(L, -1);
    lua_getfield(L, 1, "cwd");
    plan.cwd = luaL_optstring(L, -1, NULL);
    plan_user(L, &plan);
    plan_rlimits(L, &plan);
    plan.argv = plan_argv(L);
    plan.envp = plan_envp(L);
    for (i = 0; i < 3; i++)
        open_stream(L, p, i);
    if (pipe2(report, O_CLOEXEC) < 0)
        return luaL_error(L, "pipe: %s", strerror(errno));
    report[1] = lift_fd(report[1]);

    p->pid = fork();
    if (p->pid == 0)
        be_child(p, &plan, report[1]);
    close(report[1]);
    for (i = 0; i < 3; i++)
        close_fd(&p->child[i]);
    if (p->pid < 0) {
        p->pid = 0;
        close(report[0]);
        return native_push_errno(L, "fork");
    }
    /* The end of file comes when exec has closed the child's end, so success is known here. */
    do
        got = read(report[0], message, sizeof message);
    while (got < 0 && errno == EINTR);
    close(report[0]);
    if (got > 0) {
        while (waitpid(p->pid, NULL, 0) < 0 && errno == EINTR)
            ;
        p->reaped = true;
        memcpy(&errno, message, sizeof errno);
        lua_pushfstring(L, "%s: %s", plan.argv[0], message + sizeof errno);
        return native_push_errno(L, lua_tostring(L, -1));
    }
    p->pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
    lua_pushvalue(L, 2);
    return 1;
}

static int proc_pid(lua_State *L)
{
    lua_pushinteger(L, check_proc(L)->pid);
    return 1;
}

/* read("stdout" | "stderr"[, seconds = 0]) -> what is there, or nil and "timeout" or "eof". */
static int proc_read(lua_State *L)
{
    struct proc *p = check_proc(L);
    int which = luaL_checkoption(L, 2, NULL, stream_names);
    double deadline = native_now() + luaL_optnumber(L, 3, 0);
    char buf[65536];
    ssize_t n;

    luaL_argcheck(L, which > 0, 2, "stdin is not read");
    while (p->fd[which] >= 0) {
        struct pollfd set = {.fd = p->fd[which], .events = POLLIN};

        n = read(p->fd[which], buf, sizeof buf);
        if (n > 0) {
            lua_pushlstring(L, buf, (size_t)n);
            return 1;
        }
        if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
            close_fd(&p->fd[which]);
        } else if (native_left_ms(deadline) == 0) {
            lua_pushnil(L);
            lua_pushliteral(L, "timeout");
            return 2;
        } else {
            poll(&set, 1, native_left_ms(deadline));
        }
    }
    lua_pushnil(L);
    lua_pushliteral(L, "eof");
    return 2;
}

/* write(string[, seconds = 10]) -> true, or nil and "timeout" or the error. */
static int proc_write(lua_State *L)
{
    struct proc *p = check_proc(L);
    size_t left;
    const char *s = luaL_checklstring(L, 2, &left);
    double deadline = native_now() + luaL_optnumber(L, 3, 10);

    while (left > 0) {
        struct pollfd set = {.fd = p->fd[0], .events = POLLOUT};
        ssize_t n = write(p->fd[0], s, left);

        if (n >= 0) {
            s += n;
            left -= (size_t)n;
        } else if (errno != EAGAIN && errno != EINTR) {
            return native_push_errno(L, "write");
        } else if (native_left_ms(deadline) == 0) {
            lua_pushnil(L);
            lua_pushliteral(L, "timeout");
            return 2;
        } else {
            poll(&set, 1, native_left_ms(deadline));
        }
    }
    lua_pushboolean(L, 1);
    return 1;
}

static int proc_close(lua_State *L)
{
    struct proc *p = check_proc(L);

    close_fd(&p->fd[luaL_checkoption(L, 2, NULL, stream_names)]);
    return 0;
}

/* kill(signal[, "group"]) -> true, or nil and "gone", which it is once wait() or alive() saw it. */
static int proc_kill(lua_State *L)
{
    static const char *const whom[] = {"process", "group", NULL};
    struct proc *p = check_proc(L);
    int number = native_check_signal(L, 2);
    bool group = luaL_checkoption(L, 3, "process", whom) == 1;

    if (p->pid <= 0 || p->reaped) {
        lua_pushnil(L);
        lua_pushliteral(L, "gone");
        return 2;
    }
    if (kill(group ? -p->pid : p->pid, number) < 0)
        return native_push_errno(L, "kill");
    lua_pushboolean(L, 1);
    return 1;
}

static double seconds_of(struct timeval tv)
{
    return (double)tv.tv_sec + (double)tv.tv_usec / 1e6;
}

/* wait([seconds = 0]) -> {exit = | signal =, user =, sys =, maxrss_kb =}, or nil, "timeout". */
static int proc_wait(lua_State *L)
{
    struct proc *p = check_proc(L);
    double deadline = native_now() + luaL_optnumber(L, 2, 0);

    for (proc_reap(p); !p->reaped && native_left_ms(deadline) > 0; proc_reap(p)) {
        struct pollfd set = {.fd = p->pidfd, .events = POLLIN};
        int left = native_left_ms(deadline);

        poll(&set, p->pidfd >= 0, p->pidfd >= 0 ? left : 2);
    }
    if (!p->reaped) {
        lua_pushnil(L);
        lua_pushliteral(L, "timeout");
        return 2;
    }
    lua_createtable(L, 0, 4);
    lua_pushinteger(L, WIFSIGNALED(p->status) ? WTERMSIG(p->status) : WEXITSTATUS(p->status));
    lua_setfield(L, -2, WIFSIGNALED(p->status) ? "signal" : "exit");
    lua_pushnumber(L, seconds_of(p->usage.ru_utime));
    lua_setfield(L, -2, "user");
    lua_pushnumber(L, seconds_of(p->usage.ru_stime));
    lua_setfield(L, -2, "sys");
    /* Never below what this process had resident at the fork: the kernel counts from there. */
    lua_pushinteger(L, p->usage.ru_maxrss);
    lua_setfield(L, -2, "maxrss_kb");
    return 1;
}

static int proc_alive(lua_State *L)
{
    struct proc *p = check_proc(L);

    proc_reap(p);
    lua_pushboolean(L, p->pid > 0 && !p->reaped);
    return 1;
}

static int proc_gc(lua_State *L)
{
    struct proc *p = check_proc(L);
    int i;

    for (i = 0; i < 3; i++) {
        close_fd(&p->fd[i]);
        close_fd(&p->child[i]);
    }
    if (p->pid > 0 && !p->reaped && !p->detached) {
        kill(-p->pid, SIGKILL); /* its own children with it; the id is not reused before the wait */
        kill(p->pid, SIGKILL);
        while (waitpid(p->pid, &p->status, 0) < 0 && errno == EINTR)
            ;
        p->reaped = true;
    }
    close_fd(&p->pidfd);
    return 0;
}

int native_proc_fds(lua_State *L, int index, int fds[NATIVE_MAX_FDS])
{
    struct proc *p = luaL_checkudata(L, index, NATIVE_PROC);
    int i, n = 0;

    for (i = 1; i < 3; i++)
        if (p->fd[i] >= 0)
            fds[n++] = p->fd[i];
    return n;
}

static const luaL_Reg methods[] = {
    {"pid", proc_pid},   {"read", proc_read}, {"write", proc_write}, {"close", proc_close},
    {"kill", proc_kill}, {"wait", proc_wait}, {"alive", proc_alive}, {NULL, NULL},
};

void native_open_proc(lua_State *L)
{
    luaL_newmetatable(L, NATIVE_PROC);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, proc_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    lua_pushcfunction(L, proc_spawn);
    lua_setfield(L, -2, "spawn");
}
