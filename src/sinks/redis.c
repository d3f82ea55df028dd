/* redis.c -- a client of Redis: RESP2 over TCP, TLS or a local socket, many commands at a time.
 *
 * Nothing blocks but the look-up of a host's name, and `step`, for as long as it is told. Module
 * pgcdc.native.redis:
 *   command(...) -> the bytes of a command with these arguments, texts or numbers;
 *   open{host=, port=, path=, tls={ca=, cert=, key=, name=}} -> client | nil, message. Path: of a
 *     local socket, in the place of host and port. Name: what the certificate must be for.
 * Methods of a client:
 *   step(seconds) -> true, or false if nothing has happened for so long; nil, message: it is
 *     broken. Connects, sends and receives;
 *   is_connected(); fd() -> its descriptor, or nil;
 *   call(...): a command to send; pending() -> bytes that are not sent;
 *   add(bytes, maxlen) -> how many commands: sends what is in a chunk of an outbox, see
 *     redis_entry.h;
 *   reply() -> kind, value of the next reply, if all of it is there. Kinds: "status", "error" and
 *     "text" with a text, "integer", "null", "list" with a table of {kind, value};
 *   skip(n) -> how many of the next n replies are there, and are passed over. What they were:
 *   skipped() -> values, in lists or not; nulls among the replies; errors among the values, the
 *     first one's text and its place among the values. begin_skip(): counts from 0 again;
 *   close().
 *
 * SPDX-License-Identifier: MIT */
#include "base/buf.h"
#include "sinks/module.h"
#include "sinks/redis_entry.h"
#include "sinks/redis_resp.h"
#include "sinks/redis_tls.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CLIENT "pgcdc.redis"
#define MOST ((size_t)2 << 30)
#define PIECE ((size_t)128 << 10) /* what is received at once */
#define DEEPEST 8                 /* lists in lists */

enum state { CLOSED, CONNECTING, SHAKING_HANDS, CONNECTED };

struct client {
    enum state state;
    int fd;
    struct addrinfo *addresses, *next; /* those that are still to be tried */
    struct redis_tls *tls; /* or NULL */
    bool wants_write; /* TLS must write before it goes on */
    struct buf out, in;
    size_t out_at, in_at; /* what of them is done */
    /* skip */
    lua_Integer need; /* values that are left of the reply that is being skipped */
    lua_Integer values, nulls, errors, error_at;
    char error[512]; /* the first one */
    char failure[1024]; /* why it is broken */
};

static struct client *client_at(lua_State *L)
{
    return luaL_checkudata(L, 1, CLIENT);
}

/* ---- the connection ---- */

static void end(struct client *c)
{
    redis_tls_free(c->tls);
    if (c->addresses != NULL)
        freeaddrinfo(c->addresses);
    if (c->fd >= 0)
        close(c->fd);
    buf_fini(&c->out);
    buf_fini(&c->in);
    c->out_at = c->in_at = 0;
    c->tls = NULL;
    c->addresses = c->next = NULL;
    c->fd = -1;
    c->state = CLOSED;
}

/* Sets why it is broken. Returns false. */
static bool WARN_PRINTF(2, 3) fail(struct client *c, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(c->failure, sizeof c->failure, fmt, args);
    va_end(args);
    return false;
}

/* Begins to connect to the next address. */
static bool connect_next(struct client *c)
{
    for (; c->next != NULL; c->next = c->next->ai_next) {
        const int one = 1;

        if (c->fd >= 0)
            close(c->fd);
        c->fd = socket(c->next->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (c->fd < 0) {
            fail(c, "cannot make a socket: %s", strerror(errno));
            continue;
        }
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        setsockopt(c->fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
        if (connect(c->fd, c->next->ai_addr, c->next->ai_addrlen) == 0 || errno == EINPROGRESS) {
            c->next = c->next->ai_next;
            c->state = CONNECTING;
            return true;
        }
        fail(c, "cannot connect: %s", strerror(errno));
    }
    return false;
}

static bool connect_local(struct client *c, const char *path)
{
    union {
        struct sockaddr_un local;
        struct sockaddr any;
    } to = { .local = { .sun_family = AF_UNIX } };

    if (strlen(path) >= sizeof to.local.sun_path)
        return fail(c, "the path of the socket is too long");
    memcpy(to.local.sun_path, path, strlen(path));
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, &to.any, sizeof to.local) != 0)
        return fail(c, "cannot connect: %s", strerror(errno));
    c->state = CONNECTING;
    return true;
}

static bool connect_host(struct client *c, const char *host, const char *port)
{
    const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG };
    int status = getaddrinfo(host, port, &hints, &c->addresses);

    if (status != 0)
        return fail(c, "the host is not known: %s", gai_strerror(status));
    c->next = c->addresses;
    return connect_next(c);
}

/* The text in a field of the table at <index>, or NULL. The table keeps it. */
static const char *field(lua_State *L, int index, const char *name)
{
    const char *text;

    lua_getfield(L, index, name);
    text = lua_isstring(L, -1) ? lua_tostring(L, -1) : NULL;
    lua_pop(L, 1);
    return text;
}

/* Prepares TLS as the table on top of the stack says. */
static bool prepare_tls(lua_State *L, struct client *c)
{
    const struct redis_tls_options o = {
        .ca = field(L, -1, "ca"), .cert = field(L, -1, "cert"), .key = field(L, -1, "key"),
        .name = field(L, -1, "name"),
    };

    c->tls = redis_tls_new(&o, c->failure, sizeof c->failure);
    return c->tls != NULL;
}

static int open_client(lua_State *L)
{
    const char *host, *port, *path;
    struct client *c;
    bool ok = true;

    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    c = lua_newuserdatauv(L, sizeof *c, 0);
    *c = (struct client){ .fd = -1 };
    buf_init(&c->out, MOST);
    buf_init(&c->in, MOST);
    luaL_setmetatable(L, CLIENT);
    host = field(L, 1, "host");
    port = field(L, 1, "port");
    path = field(L, 1, "path");
    if (lua_getfield(L, 1, "tls") == LUA_TTABLE)
        ok = prepare_tls(L, c);
    lua_pop(L, 1);
    luaL_argcheck(L, path != NULL || (host != NULL && port != NULL), 1, "host and port, or path");
    ok = ok && (path != NULL ? connect_local(c, path) : connect_host(c, host, port));
    if (ok)
        return 1;
    lua_pushnil(L);
    lua_pushstring(L, c->failure);
    return 2;
}

/* ---- a step ---- */

/* What a call for TLS returned: true unless it is broken. */
static bool tls_passes(struct client *c, ssize_t result)
{
    if (result == REDIS_TLS_BROKEN)
        return fail(c, "TLS: %s", redis_tls_failure(c->tls));
    c->wants_write = result == REDIS_TLS_WRITE;
    return true;
}

/* Goes on with connecting. Sets *moved if it has come further. */
static bool go_on_connecting(struct client *c, bool *moved)
{
    if (c->state == CONNECTING) {
        struct pollfd p = { .fd = c->fd, .events = POLLOUT };
        int error = 0;
        socklen_t len = sizeof error;

        if (poll(&p, 1, 0) <= 0)
            return true;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len);
        *moved = true;
        if (error != 0) {
            fail(c, "cannot connect: %s", strerror(error));
            return connect_next(c);
        }
        c->state = c->tls != NULL ? SHAKING_HANDS : CONNECTED;
    }
    if (c->state == SHAKING_HANDS) {
        ssize_t result = redis_tls_connect(c->tls, c->fd);

        if (result <= 0)
            return tls_passes(c, result);
        c->state = CONNECTED;
        *moved = true;
    }
    return true;
}

/* Gives back the room before *at, which is done, once it is half of all. (Where the server is slow
 * something is always left to be sent.) */
static void drop_done(struct buf *b, size_t *at)
{
    if (*at < b->len / 2)
        return;
    b->len -= *at;
    if (b->len > 0)
        memmove(b->data, b->data + *at, b->len);
    *at = 0;
}

/* Sends as much of what waits as the socket takes now. Sets *moved if that was anything. */
static bool send_some(struct client *c, bool *moved)
{
    drop_done(&c->out, &c->out_at);
    while (c->out_at < c->out.len) {
        size_t len = c->out.len - c->out_at;
        ssize_t n;

        if (c->tls != NULL) {
            n = redis_tls_write(c->tls, c->out.data + c->out_at, len < PIECE ? len : PIECE);
            if (n <= 0)
                return tls_passes(c, n);
        } else {
            n = send(c->fd, c->out.data + c->out_at, len, MSG_NOSIGNAL);
            if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return true;
            if (n < 0)
                return fail(c, "cannot send: %s", strerror(errno));
        }
        c->out_at += (size_t)n;
        *moved = true;
    }
    buf_clear(&c->out);
    c->out_at = 0;
    return true;
}

/* Receives what has come, up to a limit. Sets *moved if that was anything. */
static bool receive_some(struct client *c, bool *moved)
{
    char *to;
    ssize_t n;

    drop_done(&c->in, &c->in_at);
    to = buf_reserve(&c->in, PIECE);
    if (to == NULL)
        return fail(c, "not enough memory");
    if (c->tls != NULL) {
        n = redis_tls_read(c->tls, to, PIECE);
        if (n <= 0)
            return tls_passes(c, n);
    } else {
        n = recv(c->fd, to, PIECE, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return true;
        if (n < 0)
            return fail(c, "cannot receive: %s", strerror(errno));
        if (n == 0)
            return fail(c, "the server has closed the connection");
    }
    c->in.len += (size_t)n;
    *moved = true;
    return true;
}

static bool step_once(struct client *c, bool *moved)
{
    if (c->state != CONNECTED)
        return go_on_connecting(c, moved);
    c->wants_write = false;
    return send_some(c, moved) && receive_some(c, moved);
}

/* Waits until the socket is ready, <ms> at most. Returns false if a signal came. */
static bool wait_for_it(const struct client *c, int ms)
{
    struct pollfd p = { .fd = c->fd, .events = POLLIN };

    if (c->state == CONNECTING)
        p.events = POLLOUT;
    else if (c->wants_write || (c->tls == NULL && c->out_at < c->out.len))
        p.events |= POLLOUT;
    return poll(&p, 1, ms) >= 0;
}

static int step(lua_State *L)
{
    struct client *c = client_at(L);
    int ms = (int)(luaL_checknumber(L, 2) * 1000);
    bool moved = false, ok = c->state != CLOSED || fail(c, "the connection is closed");

    ok = ok && step_once(c, &moved);
    if (ok && !moved && wait_for_it(c, ms < 100 ? ms : 100))
        ok = step_once(c, &moved);
    if (ok) {
        lua_pushboolean(L, moved);
        return 1;
    }
    end(c);
    lua_pushnil(L);
    lua_pushstring(L, c->failure);
    return 2;
}

/* ---- commands ---- */

static int command(lua_State *L)
{
    luaL_Buffer to;
    int n = lua_gettop(L);

    for (int i = 1; i <= n; i++)
        luaL_checkstring(L, i);
    luaL_buffinit(L, &to);
    lua_pushfstring(L, "*%d\r\n", n);
    luaL_addvalue(&to);
    for (int i = 1; i <= n; i++) {
        size_t len;
        const char *text = lua_tolstring(L, i, &len);
        char head[32];

        snprintf(head, sizeof head, "$%zu\r\n", len);
        luaL_addstring(&to, head);
        luaL_addlstring(&to, text, len);
        luaL_addlstring(&to, "\r\n", 2);
    }
    luaL_pushresult(&to);
    return 1;
}

static int check_out(lua_State *L, struct client *c, size_t before)
{
    if (buf_ok(&c->out))
        return 0;
    c->out.failed = false;
    c->out.len = before;
    return luaL_error(L, "not enough memory");
}

static int add(lua_State *L)
{
    struct client *c = client_at(L);
    size_t len, before = c->out.len;
    const char *at = luaL_checklstring(L, 2, &len), *end = at + len;
    const char *maxlen = luaL_optstring(L, 3, NULL);
    struct packed_head head;
    uint64_t commands = 0;

    for (; packed_read(at, end, &head); at += head.len) {
        uint64_t n;

        if (head.parts & PACKED_LEFT_OUT)
            continue;
        n = redis_entry_put(&c->out, at, &head, maxlen);
        check_out(L, c, before);
        if (n == 0)
            return luaL_error(L, "a record is no command");
        commands += n;
    }
    lua_pushinteger(L, (lua_Integer)commands);
    return 1;
}

static int call(lua_State *L)
{
    struct client *c = client_at(L);
    size_t before = c->out.len;

    for (int i = 2; i <= lua_gettop(L); i++)
        luaL_checkstring(L, i);
    buf_printf(&c->out, "*%d\r\n", lua_gettop(L) - 1);
    for (int i = 2; i <= lua_gettop(L); i++) {
        size_t len;
        const char *text = lua_tolstring(L, i, &len);

        buf_printf(&c->out, "$%zu\r\n", len);
        buf_add(&c->out, text, len);
        buf_puts(&c->out, "\r\n");
    }
    return check_out(L, c, before);
}

static int pending(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)(client_at(L)->out.len - client_at(L)->out_at));
    return 1;
}

/* ---- replies ---- */

/* Takes the value at <at> apart, see redis_resp_parse. Of nonsense sets the failure. */
static size_t parse(struct client *c, size_t at, struct redis_resp *v)
{
    size_t after = redis_resp_parse(&c->in, at, v);

    if (after == REDIS_RESP_NONSENSE)
        fail(c, "the server does not speak the protocol of Redis");
    return after;
}

static int fail_reply(lua_State *L, struct client *c)
{
    end(c);
    return luaL_error(L, "%s", c->failure);
}

/* Pushes kind and value of the reply at *at, and moves it. Returns false if it is not all there. */
static bool push_reply(lua_State *L, struct client *c, size_t *at, int depth)
{
    struct redis_resp v;
    size_t after = parse(c, *at, &v);
    long long n;

    if (after == 0)
        return false;
    if (depth > DEEPEST && after != REDIS_RESP_NONSENSE) {
        fail(c, "the server's answer has too many lists in lists");
        after = REDIS_RESP_NONSENSE;
    }
    if (after == REDIS_RESP_NONSENSE)
        fail_reply(L, c);
    *at = after;
    luaL_checkstack(L, 8, NULL);
    switch (v.kind) {
    case '+': case '-': case '$':
        lua_pushstring(L, v.kind == '+' ? "status" : v.kind == '-' ? "error" : "text");
        lua_pushlstring(L, c->in.data + (v.text - c->in.data), v.len);
        return true;
    case ':':
        lua_pushliteral(L, "integer");
        lua_pushinteger(L, v.number);
        return true;
    case 0:
        lua_pushliteral(L, "null");
        lua_pushnil(L);
        return true;
    default:
        break;
    }
    lua_pushliteral(L, "list");
    lua_newtable(L);
    for (n = 1; n <= v.number; n++) {
        lua_createtable(L, 2, 0);
        if (!push_reply(L, c, at, depth + 1))
            return false;
        lua_rawseti(L, -3, 2);
        lua_rawseti(L, -2, 1);
        lua_rawseti(L, -2, n);
    }
    return true;
}

static int reply(lua_State *L)
{
    struct client *c = client_at(L);
    size_t at = c->in_at;

    lua_settop(L, 1);
    if (!push_reply(L, c, &at, 1))
        return 0;
    c->in_at = at;
    return 2;
}

static int begin_skip(lua_State *L)
{
    struct client *c = client_at(L);

    c->values = c->nulls = c->errors = c->error_at = 0;
    return 0;
}

static int skip(lua_State *L)
{
    struct client *c = client_at(L);
    lua_Integer n = luaL_checkinteger(L, 2), done = 0;

    while (done < n) {
        struct redis_resp v;
        size_t after = parse(c, c->in_at, &v);

        if (after == 0)
            break;
        if (after == REDIS_RESP_NONSENSE)
            return fail_reply(L, c);
        c->in_at = after;
        c->nulls += v.kind == 0 && c->need == 0;
        c->need += c->need == 0; /* a reply begins */
        c->need += v.kind == '*' ? v.number - 1 : -1;
        c->values += v.kind != '*';
        if (v.kind == '-' && c->errors++ == 0) {
            snprintf(c->error, sizeof c->error, "%.*s", (int)v.len, v.text);
            c->error_at = c->values;
        }
        done += c->need == 0;
    }
    lua_pushinteger(L, done);
    return 1;
}

static int skipped(lua_State *L)
{
    const struct client *c = client_at(L);

    lua_pushinteger(L, c->values);
    lua_pushinteger(L, c->nulls);
    lua_pushinteger(L, c->errors);
    if (c->errors == 0)
        return 3;
    lua_pushstring(L, c->error);
    lua_pushinteger(L, c->error_at);
    return 5;
}

/* ---- the module ---- */

static int is_connected(lua_State *L)
{
    lua_pushboolean(L, client_at(L)->state == CONNECTED);
    return 1;
}

static int fd(lua_State *L)
{
    const struct client *c = client_at(L);

    if (c->fd < 0)
        return 0;
    lua_pushinteger(L, c->fd);
    return 1;
}

static int close_client(lua_State *L)
{
    end(client_at(L));
    return 0;
}

static int open_redis(lua_State *L)
{
    static const luaL_Reg methods[] = {
        { "step", step }, { "is_connected", is_connected }, { "fd", fd }, { "add", add },
        { "call", call }, { "pending", pending }, { "reply", reply }, { "skip", skip },
        { "begin_skip", begin_skip }, { "skipped", skipped }, { "close", close_client },
        { NULL, NULL },
    };
    static const luaL_Reg functions[] = {
        { "command", command }, { "open", open_client }, { NULL, NULL },
    };

    pgcdc_module_class(L, CLIENT, methods, close_client);
    luaL_newlib(L, functions);
    return 1;
}

PGCDC_MODULE("redis", redis_tls_library, open_redis);
