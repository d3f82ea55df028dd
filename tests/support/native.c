/* native.c -- the Lua module `native`: clocks, files, /proc, waiting on many objects.
 * SPDX-License-Identifier: MIT
 *
 * Functions return nil, message, errno where the system refuses, and raise
 * where they are called wrongly. None of them blocks but sleep and poll. */
#include "native.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ipc.h>
#include <sys/random.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

double native_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

int native_left_ms(double deadline)
{
    double left = (deadline - native_now()) * 1000.0;

    if (left <= 0)
        return 0;
    return left >= INT_MAX - 1 ? INT_MAX - 1 : (int)left + 1;
}

bool native_read_proc(long pid, const char *name, char *buf, size_t size)
{
    char path[64];
    ssize_t n;
    size_t used = 0;
    int fd;

    snprintf(path, sizeof path, "/proc/%ld/%s", pid, name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    while (used + 1 < size && (n = read(fd, buf + used, size - 1 - used)) > 0)
        used += (size_t)n;
    close(fd);
    buf[used] = '\0';
    return used > 0;
}

int native_push_errno(lua_State *L, const char *what)
{
    int e = errno;

    lua_pushnil(L);
    lua_pushfstring(L, "%s: %s", what, strerror(e));
    lua_pushinteger(L, e);
    return 3;
}

static const struct {
    const char *name;
    int number;
} signals[] = {
    {"HUP", SIGHUP},   {"INT", SIGINT},   {"QUIT", SIGQUIT}, {"ABRT", SIGABRT}, {"KILL", SIGKILL},
    {"USR1", SIGUSR1}, {"SEGV", SIGSEGV}, {"USR2", SIGUSR2}, {"PIPE", SIGPIPE}, {"ALRM", SIGALRM},
    {"TERM", SIGTERM}, {"CHLD", SIGCHLD}, {"CONT", SIGCONT}, {"STOP", SIGSTOP}, {"TSTP", SIGTSTP},
    {"XFSZ", SIGXFSZ}, {"XCPU", SIGXCPU},
};

int native_check_signal(lua_State *L, int arg)
{
    const char *name;
    size_t i;

    if (lua_type(L, arg) == LUA_TNUMBER)
        return (int)luaL_checkinteger(L, arg);
    name = luaL_checkstring(L, arg);
    if (strncmp(name, "SIG", 3) == 0)
        name += 3;
    for (i = 0; i < sizeof signals / sizeof *signals; i++)
        if (strcmp(name, signals[i].name) == 0)
            return signals[i].number;
    return luaL_argerror(L, arg, "unknown signal");
}

static int native_now_lua(lua_State *L)
{
    lua_pushnumber(L, native_now());
    return 1;
}

/* sleep(seconds): for loops that wait for a condition, nothing else. */
static int native_sleep(lua_State *L)
{
    double seconds = luaL_checknumber(L, 1);
    struct timespec ts;

    luaL_argcheck(L, seconds >= 0 && seconds < 1e6, 1, "out of range");
    ts.tv_sec = (time_t)seconds;
    ts.tv_nsec = (long)((seconds - (double)ts.tv_sec) * 1e9);
    while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
        ;
    return 0;
}

/* poll(list, seconds) -> those processes and connections of the list that can be read. */
static int native_poll(lua_State *L)
{
    struct pollfd *set;
    double deadline;
    lua_Integer i, n, used = 0, found = 0;
    int ready;

    luaL_checktype(L, 1, LUA_TTABLE);
    deadline = native_now() + luaL_checknumber(L, 2);
    n = luaL_len(L, 1);
    set = lua_newuserdatauv(L, (size_t)(n * NATIVE_MAX_FDS + 1) * sizeof *set, 0);
    lua_createtable(L, (int)n, 0); /* by slot of <set>: the index in the list */
    for (i = 1; i <= n; i++) {
        int fds[NATIVE_MAX_FDS], count, k;

        lua_rawgeti(L, 1, i);
        count = luaL_testudata(L, -1, NATIVE_PROC) ? native_proc_fds(L, -1, fds)
                                                   : native_conn_fds(L, -1, fds);
        lua_pop(L, 1);
        for (k = 0; k < count; k++) {
            set[used] = (struct pollfd){.fd = fds[k], .events = POLLIN};
            lua_pushinteger(L, i);
            lua_rawseti(L, -2, ++used);
        }
    }
    do
        ready = poll(set, (nfds_t)used, native_left_ms(deadline));
    while (ready < 0 && errno == EINTR);
    if (ready < 0)
        return native_push_errno(L, "poll");
    lua_newtable(L);
    for (i = 0, n = 0; i < used; i++) {
        lua_Integer index;

        if (!set[i].revents)
            continue;
        lua_rawgeti(L, -2, i + 1);
        index = lua_tointeger(L, -1);
        lua_pop(L, 1);
        if (index == n)
            continue; /* its other descriptor was ready already */
        n = index;
        lua_rawgeti(L, 1, index);
        lua_rawseti(L, -2, ++found);
    }
    return 1;
}

static int native_getuid(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)getuid());
    return 1;
}

/* user(name) -> uid, gid, or nil. */
static int native_user(lua_State *L)
{
    struct passwd *pw = getpwnam(luaL_checkstring(L, 1));

    if (!pw)
        return 0;
    lua_pushinteger(L, (lua_Integer)pw->pw_uid);
    lua_pushinteger(L, (lua_Integer)pw->pw_gid);
    return 2;
}

/* mkdtemp(prefix[, mode = 0700]) -> path. */
static int native_mkdtemp(lua_State *L)
{
    mode_t mode = (mode_t)luaL_optinteger(L, 2, 0700);
    size_t size;
    const char *made;
    char *path;

    made = lua_pushfstring(L, "%sXXXXXX", luaL_checkstring(L, 1));
    size = strlen(made) + 1;
    path = lua_newuserdatauv(L, size, 0);
    memcpy(path, made, size);
    if (!mkdtemp(path) || chmod(path, mode) < 0)
        return native_push_errno(L, path);
    lua_pushstring(L, path);
    return 1;
}

static int native_mkdir(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    mode_t mode = (mode_t)luaL_optinteger(L, 2, 0755);

    if (mkdir(path, mode) < 0 || chmod(path, mode) < 0)
        return native_push_errno(L, path);
    lua_pushboolean(L, 1);
    return 1;
}

static int native_chmod(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);

    if (chmod(path, (mode_t)luaL_checkinteger(L, 2)) < 0)
        return native_push_errno(L, path);
    lua_pushboolean(L, 1);
    return 1;
}

/* chown(path, user): the file and its group become the user's. */
static int native_chown(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    struct passwd *pw = getpwnam(luaL_checkstring(L, 2));

    luaL_argcheck(L, pw, 2, "unknown user");
    if (chown(path, pw->pw_uid, pw->pw_gid) < 0)
        return native_push_errno(L, path);
    lua_pushboolean(L, 1);
    return 1;
}

static int native_realpath(lua_State *L)
{
    char path[PATH_MAX];

    if (!realpath(luaL_checkstring(L, 1), path))
        return native_push_errno(L, lua_tostring(L, 1));
    lua_pushstring(L, path);
    return 1;
}

/* listdir(path) -> names without "." and "..", in no order. */
static int native_listdir(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    DIR *dir = opendir(path);
    struct dirent *entry;
    lua_Integer n = 0;

    if (!dir)
        return native_push_errno(L, path);
    lua_newtable(L);
    while ((entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        lua_pushstring(L, entry->d_name);
        lua_rawseti(L, -2, ++n);
    }
    closedir(dir);
    return 1;
}

/* kill(pid, signal) -> true. Signal 0 asks whether the process is there. */
static int native_kill(lua_State *L)
{
    lua_Integer pid = luaL_checkinteger(L, 1);

    luaL_argcheck(L, pid > 1, 1, "not the id of one process");
    if (kill((pid_t)pid, native_check_signal(L, 2)) < 0)
        return native_push_errno(L, "kill");
    lua_pushboolean(L, 1);
    return 1;
}

/* What follows the name in /proc/PID/stat, so that a name with blanks or brackets does no harm. */
static const char *stat_fields(long pid, char *buf, size_t size)
{
    const char *end;

    if (!native_read_proc(pid, "stat", buf, size) || !(end = strrchr(buf, ')')))
        return NULL;
    return end + 1;
}

/* children(pid) -> ids of its direct children that are still running (zombies do not count). */
static int native_children(lua_State *L)
{
    long parent = (long)luaL_checkinteger(L, 1);
    DIR *dir = opendir("/proc");
    struct dirent *entry;
    lua_Integer n = 0;

    if (!dir)
        return native_push_errno(L, "/proc");
    lua_newtable(L);
    while ((entry = readdir(dir))) {
        char buf[1024], state, *rest;
        const char *fields;
        long pid = strtol(entry->d_name, &rest, 10), ppid;

        if (*rest || pid <= 0 || !(fields = stat_fields(pid, buf, sizeof buf)))
            continue;
        if (sscanf(fields, " %c %ld", &state, &ppid) != 2 || ppid != parent || state == 'Z')
            continue;
        lua_pushinteger(L, pid);
        lua_rawseti(L, -2, ++n);
    }
    closedir(dir);
    return 1;
}

/* running(pid) -> whether there is such a process and it is no zombie. */
static int native_running(lua_State *L)
{
    char buf[1024], state;
    const char *fields = stat_fields((long)luaL_checkinteger(L, 1), buf, sizeof buf);

    lua_pushboolean(L, fields && sscanf(fields, " %c", &state) == 1 && !strchr("ZX", state));
    return 1;
}

/* proc_cpu(pid) -> seconds of user and system time so far, or nil. */
static int native_proc_cpu(lua_State *L)
{
    char buf[1024];
    unsigned long user, sys;
    const char *fields = stat_fields((long)luaL_checkinteger(L, 1), buf, sizeof buf);

    if (!fields)
        return 0;
    if (sscanf(fields, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &sys) != 2)
        return 0;
    lua_pushnumber(L, (double)(user + sys) / (double)sysconf(_SC_CLK_TCK));
    return 1;
}

/* proc_rss(pid) -> peak and present resident size in kB, or nil. */
static int native_proc_rss(lua_State *L)
{
    char buf[8192];
    const char *peak, *now;

    if (!native_read_proc((long)luaL_checkinteger(L, 1), "status", buf, sizeof buf))
        return 0;
    peak = strstr(buf, "\nVmHWM:");
    now = strstr(buf, "\nVmRSS:");
    if (!peak || !now)
        return 0;
    lua_pushinteger(L, strtol(peak + 7, NULL, 10));
    lua_pushinteger(L, strtol(now + 7, NULL, 10));
    return 2;
}

/* cpu_count() -> how many processors this process may use. */
static int native_cpu_count(lua_State *L)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    lua_pushinteger(L, sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1);
    return 1;
}

/* The ports from which the system takes none by itself, neither for a connection's own end nor for
 * who asks for any port: <first> up to <end>. */
static void ports_to_choose_from(unsigned *first, unsigned *end)
{
    FILE *f = fopen("/proc/sys/net/ipv4/ip_local_port_range", "r");
    unsigned low = 32768, high = 60999;

    if (f && fscanf(f, "%u %u", &low, &high) != 2)
        low = 32768;
    if (f)
        fclose(f);
    *first = low >= 12000 || high > 60000 ? 10000 : high + 1;
    *end = low >= 12000 ? low : 65536;
}

/* True if nobody has this port of 127.0.0.1. From now on no other test is given it: as long as this
 * process lives it holds a local socket of the port's name, which has no file. */
static bool reserve_port(unsigned port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int n = snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "pgcdc test port %u", port);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int holder = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0 && holder >= 0 && bind(holder, (struct sockaddr *)&name, size) == 0
              && bind(fd, (struct sockaddr *)&addr, sizeof addr) == 0;

    if (fd >= 0)
        close(fd);
    if (!ok && holder >= 0)
        close(holder);
    return ok;
}

/* free_port() -> a TCP port of 127.0.0.1 that nobody listens on, nor will by chance: no other test
 * is given it, and no connection begins there. A server can be started on it, later too and again;
 * and who connects to it while there is none is refused. (A connection that begins at a port of the
 * system's choice can be one to itself.) */
static int native_free_port(lua_State *L)
{
    unsigned first, end;

    ports_to_choose_from(&first, &end);
    for (int i = 0; i < 1000; i++) {
        uint32_t n;

        if (getrandom(&n, sizeof n, 0) != sizeof n)
            return native_push_errno(L, "getrandom");
        n = first + n % (end - first);
        if (reserve_port(n)) {
            lua_pushinteger(L, n);
            return 1;
        }
    }
    return native_push_errno(L, "no port is free");
}

/* shm_remove(id): a System V segment goes with its last user; nothing if it is gone already. */
static int native_shm_remove(lua_State *L)
{
    shmctl((int)luaL_checkinteger(L, 1), IPC_RMID, NULL);
    return 0;
}

/* setenv(name, value | nil): in the environment of this process and of the children it starts. */
static int native_setenv(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1), *value = luaL_optstring(L, 2, NULL);

    if ((value ? setenv(name, value, 1) : unsetenv(name)) < 0)
        return native_push_errno(L, name);
    lua_pushboolean(L, 1);
    return 1;
}

/* default_signals(): SIGINT and SIGTERM end this process at once, as if lua5.4 did not mind. */
static int native_default_signals(lua_State *L)
{
    (void)L;
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    return 0;
}

static const luaL_Reg functions[] = {
    {"now", native_now_lua},
    {"sleep", native_sleep},
    {"poll", native_poll},
    {"getuid", native_getuid},
    {"user", native_user},
    {"mkdtemp", native_mkdtemp},
    {"mkdir", native_mkdir},
    {"chmod", native_chmod},
    {"chown", native_chown},
    {"realpath", native_realpath},
    {"listdir", native_listdir},
    {"kill", native_kill},
    {"children", native_children},
    {"running", native_running},
    {"proc_cpu", native_proc_cpu},
    {"proc_rss", native_proc_rss},
    {"cpu_count", native_cpu_count},
    {"free_port", native_free_port},
    {"shm_remove", native_shm_remove},
    {"setenv", native_setenv},
    {"default_signals", native_default_signals},
    {NULL, NULL},
};

int luaopen_native(lua_State *L)
{
    signal(SIGPIPE, SIG_IGN); /* writing to a child that is gone is an answer, not our end */
    luaL_newlib(L, functions);
    native_open_proc(L);
    native_open_pg(L);
    native_open_proxy(L);
    native_open_liar(L);
    return 1;
}
