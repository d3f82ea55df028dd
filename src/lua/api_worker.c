/* api_worker.c -- processes of the program, one for a partition of topics.
 * SPDX-License-Identifier: MIT */
#include "lua/api_worker.h"

#include "lua/script.h"

#include <errno.h>
#include <lauxlib.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define LONGEST 65536 /* bytes of a message */

static int be_member(lua_State *L)
{
    script_of(L)->is_member = true;
    return 0;
}

static int set_ready(lua_State *L)
{
    script_of(L)->is_ready = lua_toboolean(L, 1);
    return 0;
}

static int worker_start(lua_State *L)
{
    struct script *s = script_of(L);
    pid_t pid;
    int fd;
    struct err e;

    if (s->start_worker == NULL)
        return luaL_error(L, "nothing is started now");
    if (!s->start_worker(s->worker_arg, (int)luaL_checkinteger(L, 1), lua_toboolean(L, 2), &pid,
                         &fd, &e))
        return luaL_error(L, "%s", e.msg);
    lua_pushinteger(L, (lua_Integer)pid);
    lua_pushinteger(L, fd);
    return 2;
}

static int worker_take(lua_State *L)
{
    int fd = (int)luaL_checkinteger(L, 1);
    char *bytes = lua_newuserdatauv(L, LONGEST, 0);
    ssize_t n = recv(fd, bytes, LONGEST, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        lua_pushliteral(L, "");
    else if (n > 0)
        lua_pushlstring(L, bytes, (size_t)n);
    else
        lua_pushnil(L);
    return 1;
}

static int worker_signal(lua_State *L)
{
    static const char *const words[] = { "stop", "kill", NULL };
    static const int signals[] = { SIGUSR2, SIGKILL };
    pid_t pid = (pid_t)luaL_checkinteger(L, 1);

    luaL_argcheck(L, pid > 0, 1, "no process");
    kill(pid, signals[luaL_checkoption(L, 2, NULL, words)]);
    return 0;
}

static int worker_end(lua_State *L)
{
    pid_t pid = (pid_t)luaL_checkinteger(L, 1);
    int status;

    luaL_argcheck(L, pid > 0, 1, "no process");
    if (waitpid(pid, &status, WNOHANG) == 0)
        return 0;
    if (WIFEXITED(status)) {
        lua_pushinteger(L, WEXITSTATUS(status));
        return 1;
    }
    lua_pushnil(L);
    lua_pushinteger(L, WTERMSIG(status));
    return 2;
}

static int worker_close(lua_State *L)
{
    close((int)luaL_checkinteger(L, 1));
    return 0;
}

static int wants_report(lua_State *L)
{
    struct script *s = script_of(L);

    lua_pushboolean(L, s->wants_report);
    s->wants_report = false;
    return 1;
}

void api_worker_export(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "be_member", be_member }, { "set_ready", set_ready },
        { "worker_start", worker_start },
        { "worker_take", worker_take }, { "worker_signal", worker_signal },
        { "worker_end", worker_end }, { "worker_close", worker_close },
        { "wants_report", wants_report }, { NULL, NULL },
    };
    const struct script_options *o = &script_of(L)->o;

    luaL_setfuncs(L, functions, 0);
    if (o->is_worker) {
        lua_pushinteger(L, o->partition);
        lua_setfield(L, -2, "partition");
        lua_pushfstring(L, "/%d", o->partition);
    } else {
        lua_pushliteral(L, "");
    }
    lua_setfield(L, -2, "suffix");
}
