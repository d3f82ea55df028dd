/* native_proxy.c -- a network that fails: stands between the program and a server.
 * SPDX-License-Identifier: MIT
 *
 * A thread that passes bytes on between two unix sockets, or two ports of the
 * loopback, slowly if asked, until a fault is due: at a number of bytes, counted
 * over all connections from the moment it was asked for, in one direction
 * ("up" goes to the server); or at a text, whose last byte does not pass; or at
 * the answer to it. What a fault does to the connection that it meets:
 *    fin      ends it, as a peer that closes does
 *    rst      breaks it
 *    stall    holds its bytes, in both directions, and the kernel answers for us
 *    swallow  a half-open connection: what comes is dropped, nobody is told of anything
 * With "for all" the connections that are made later meet it at their first byte.
 * Or each connection meets one, a byte later than the one before: see proxy_sweep. */
#include "native.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define NATIVE_PROXY "native.proxy"
#define LINKS 32
#define BUFFER 16384
#define TEXT 64 /* bytes, of a text to wait for */

enum how { PASS, FIN, RST, STALL, SWALLOW };
static const char *const hows[] = {"pass", "fin", "rst", "stall", "swallow", NULL};
static const char *const directions[] = {"up", "down", "answer", NULL};
enum { UP, DOWN, ANSWER };

struct pipe {
    char data[BUFFER];
    size_t used, sent;
    bool is_over; /* nothing more comes */
    double next;  /* when the next piece may go */
    unsigned long long total;
    char last[TEXT]; /* bytes that passed */
    size_t n_last;
};

struct link {
    int fd[2]; /* the client's, the server's; -1 */
    struct pipe pipe[2];
    enum how how; /* what it has met */
    bool is_used;
    bool is_behind; /* the text that it is to be behind has passed, */
    bool is_asked;  /* and that whose answer is to come */
    unsigned long long at; /* where it is swept off */
};

struct proxy {
    pthread_t thread;
    pthread_mutex_t mutex; /* for all below */
    int listener, wake;
    bool is_running, is_closing;
    struct sockaddr_storage target;
    socklen_t target_size;
    char path[108]; /* of the listener, to be removed */
    struct link links[LINKS];
    size_t chunk;
    double delay;
    enum how how; /* the fault that is to come; PASS: none */
    int direction;
    unsigned long long at; /* a value of <total> */
    char text[TEXT], behind[TEXT];
    size_t text_size, behind_size; /* 0: at a byte; behind none */
    bool is_for_all, has_come;
    bool is_sweep;
    unsigned long long sweep_settled, sweep_first, sweep_stride, n_to_sweep, n_swept;
    unsigned long long total[2], n_accepted, n_faults;
};

/* ---- the thread ---- */

static void drop_link(struct link *l, bool rudely)
{
    struct linger linger = {.l_onoff = 1};

    for (int i = 0; i < 2; i++) {
        if (l->fd[i] >= 0 && rudely)
            setsockopt(l->fd[i], SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
        if (l->fd[i] >= 0)
            close(l->fd[i]);
        l->fd[i] = -1;
    }
    l->is_used = false;
}

/* The link meets the fault. */
static void meet(struct proxy *p, struct link *l)
{
    l->how = p->how;
    p->n_faults++;
    if (l->how == FIN || l->how == RST)
        drop_link(l, l->how == RST);
}

static void accept_link(struct proxy *p)
{
    int fd = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), server;
    struct link *l = NULL;

    if (fd < 0)
        return;
    for (size_t i = 0; i < LINKS && l == NULL; i++)
        if (!p->links[i].is_used)
            l = &p->links[i];
    server = socket(p->target.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (l == NULL || server < 0 ||
        connect(server, (struct sockaddr *)&p->target, p->target_size) < 0) {
        close(fd); /* the server is away */
        if (server >= 0)
            close(server);
        return;
    }
    memset(l, 0, sizeof *l);
    l->fd[0] = fd;
    l->fd[1] = server;
    l->is_used = true;
    p->n_accepted++;
    l->is_behind = p->behind_size == 0;
    l->at = ULLONG_MAX;
    if (p->is_sweep && p->n_swept < p->n_to_sweep) {
        l->at = p->sweep_first + p->n_swept / 2 * p->sweep_stride +
                (p->n_swept % 2 == 1 ? p->sweep_settled : 0);
        p->n_swept++;
    }
    if (p->is_for_all && p->has_come)
        meet(p, l);
}

/* The fault is due, and the link the first to meet it. */
static void strike(struct proxy *p, struct link *l)
{
    meet(p, l);
    p->has_come = true;
    if (!p->is_for_all)
        p->how = PASS;
}

/* How many of the next <n> bytes come before the last one of a text. */
static size_t before_text(const struct pipe *from, size_t n, const char *text, size_t size)
{
    size_t last = from->n_last < size ? from->n_last : size - 1;
    char all[TEXT + BUFFER];
    const char *found;

    memcpy(all, from->last + from->n_last - last, last);
    memcpy(all + last, from->data + from->sent, n);
    found = memmem(all, last + n, text, size);
    return found == NULL ? n : (size_t)(found - all) + size - 1 - last;
}

/* How many of the next <n> bytes, more than none, come before the fault. */
static size_t before_fault(const struct proxy *p, const struct link *l, int d, size_t n)
{
    const struct pipe *from = &l->pipe[d];
    unsigned long long left = n;

    if (p->how == PASS || p->has_come)
        return n;
    if (p->direction == ANSWER)
        return d == DOWN && l->is_asked ? 0 : n;
    if (p->direction != d)
        return n;
    if (p->text_size > 0)
        return l->is_behind ? before_text(from, n, p->text, p->text_size) : n;
    if (p->is_sweep)
        left = l->at > from->total ? l->at - from->total : 0;
    else
        left = p->at > p->total[d] ? p->at - p->total[d] : 0;
    return n < left ? n : (size_t)left;
}

/* How much of what is there may go now; strikes when the fault is due. */
static size_t allowed(struct proxy *p, struct link *l, int d)
{
    size_t n = l->pipe[d].used - l->pipe[d].sent, before;

    if (p->chunk > 0 && n > p->chunk)
        n = p->chunk;
    before = before_fault(p, l, d, n);
    if (before == 0 && p->is_sweep)
        meet(p, l);
    else if (before == 0)
        strike(p, l);
    return before;
}

/* <n> bytes have passed. */
static void note(struct proxy *p, struct link *l, int d, size_t n)
{
    struct pipe *from = &l->pipe[d];
    const char *data = from->data + from->sent;

    if (p->text_size > 0 && d == UP && l->is_behind &&
        before_text(from, n, p->text, p->text_size) < n)
        l->is_asked = true;
    if (p->text_size > 0 && !l->is_behind &&
        before_text(from, n, p->behind, p->behind_size) < n)
        l->is_behind = true;
    if (n < TEXT) {
        size_t old = from->n_last + n > TEXT ? TEXT - n : from->n_last;

        memmove(from->last, from->last + from->n_last - old, old);
        memcpy(from->last + old, data, n);
        from->n_last = old + n;
    } else {
        memcpy(from->last, data + n - TEXT, TEXT);
        from->n_last = TEXT;
    }
    from->sent += n;
    from->total += n;
    p->total[d] += n;
}

static void receive(struct link *l, int d)
{
    struct pipe *from = &l->pipe[d];
    ssize_t n = recv(l->fd[d], from->data, sizeof from->data, MSG_DONTWAIT);

    if (n > 0) {
        from->used = (size_t)n;
        from->sent = 0;
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        from->is_over = true;
    }
}

static void forward(struct proxy *p, struct link *l, int d)
{
    struct pipe *from = &l->pipe[d];
    size_t n = allowed(p, l, d);
    ssize_t sent;

    if (n == 0)
        return;
    sent = send(l->fd[!d], from->data + from->sent, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0) {
        note(p, l, d, (size_t)sent);
        from->next = p->delay > 0 ? native_now() + p->delay : 0;
    } else if (errno != EAGAIN && errno != EINTR) {
        from->used = from->sent = 0;
        from->is_over = true;
    }
}

/* What to wait for; *timeout is made less where a piece is delayed. */
static void prepare(struct link *l, struct pollfd fds[2], double now, double *timeout)
{
    fds[0] = (struct pollfd){.fd = -1};
    fds[1] = fds[0];
    if (!l->is_used || l->how == STALL)
        return;
    for (int d = 0; d < 2; d++) {
        struct pipe *from = &l->pipe[d];

        if (l->how == SWALLOW || from->sent == from->used) {
            if (from->is_over)
                continue;
            fds[d].fd = l->fd[d];
            fds[d].events |= POLLIN;
        } else if (from->next <= now) {
            fds[!d].fd = l->fd[!d];
            fds[!d].events |= POLLOUT;
        } else if (from->next - now < *timeout) {
            *timeout = from->next - now;
        }
    }
}

static void work(struct proxy *p, struct link *l, const struct pollfd fds[2], double now)
{
    for (int d = 0; d < 2 && l->is_used; d++) {
        struct pipe *from = &l->pipe[d];

        if (fds[d].fd >= 0 && (fds[d].revents & ~POLLOUT) && (fds[d].events & POLLIN)) {
            receive(l, d);
            if (l->how == SWALLOW)
                from->used = from->sent = 0;
        }
        if (l->is_used && l->how == PASS && from->sent < from->used && from->next <= now)
            forward(p, l, d);
        if (l->is_used && l->how == PASS && from->sent == from->used && from->is_over)
            shutdown(l->fd[!d], SHUT_WR);
    }
    if (l->is_used && l->how == PASS && l->pipe[0].is_over && l->pipe[1].is_over &&
        l->pipe[0].sent == l->pipe[0].used && l->pipe[1].sent == l->pipe[1].used)
        drop_link(l, false);
}

static void *run_proxy(void *arg)
{
    struct proxy *p = arg;
    static _Thread_local struct pollfd fds[2 * LINKS + 2];
    unsigned long long count;

    pthread_mutex_lock(&p->mutex);
    while (!p->is_closing) {
        double now = native_now(), timeout = 60;

        fds[2 * LINKS] = (struct pollfd){.fd = p->listener, .events = POLLIN};
        fds[2 * LINKS + 1] = (struct pollfd){.fd = p->wake, .events = POLLIN};
        for (size_t i = 0; i < LINKS; i++)
            prepare(&p->links[i], fds + 2 * i, now, &timeout);
        pthread_mutex_unlock(&p->mutex);
        poll(fds, 2 * LINKS + 2, (int)(timeout * 1000) + 1);
        pthread_mutex_lock(&p->mutex);
        if (fds[2 * LINKS + 1].revents && read(p->wake, &count, sizeof count) < 0)
            continue;
        now = native_now();
        for (size_t i = 0; i < LINKS; i++)
            work(p, &p->links[i], fds + 2 * i, now);
        if (fds[2 * LINKS].revents)
            accept_link(p);
    }
    pthread_mutex_unlock(&p->mutex);
    return NULL;
}

/* ---- Lua ---- */

static struct proxy *check_proxy(lua_State *L)
{
    struct proxy *p = luaL_checkudata(L, 1, NATIVE_PROXY);

    luaL_argcheck(L, p->is_running, 1, "the proxy is closed");
    return p;
}

static void wake(struct proxy *p)
{
    unsigned long long one = 1;

    if (write(p->wake, &one, sizeof one) < 0) {
        /* a full counter is readable as well */
    }
}

/* A path of a unix socket, or a port of 127.0.0.1. */
static socklen_t read_address(lua_State *L, const char *field, struct sockaddr_storage *to)
{
    struct sockaddr_un *un = (struct sockaddr_un *)to;
    struct sockaddr_in *in = (struct sockaddr_in *)to;
    const char *path;

    memset(to, 0, sizeof *to);
    if (lua_getfield(L, 1, field) == LUA_TNUMBER) {
        in->sin_family = AF_INET;
        in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        in->sin_port = htons((unsigned short)lua_tointeger(L, -1));
        lua_pop(L, 1);
        return sizeof *in;
    }
    path = luaL_checkstring(L, -1);
    luaL_argcheck(L, strlen(path) < sizeof un->sun_path, 1, "the path is too long");
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, path, strlen(path));
    lua_pop(L, 1);
    return sizeof *un;
}

/* proxy {listen =, target =}: paths of unix sockets, or ports. */
static int proxy_new(lua_State *L)
{
    struct sockaddr_storage own;
    struct proxy *p;
    socklen_t size;
    int yes = 1;

    luaL_checktype(L, 1, LUA_TTABLE);
    p = lua_newuserdatauv(L, sizeof *p, 0);
    memset(p, 0, sizeof *p);
    p->listener = p->wake = -1;
    luaL_setmetatable(L, NATIVE_PROXY);
    size = read_address(L, "listen", &own);
    p->target_size = read_address(L, "target", &p->target);
    p->listener = socket(own.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    p->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (p->listener < 0 || p->wake < 0)
        return native_push_errno(L, "proxy");
    setsockopt(p->listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(p->listener, (struct sockaddr *)&own, size) < 0 || listen(p->listener, 64) < 0)
        return native_push_errno(L, "proxy");
    if (own.ss_family == AF_UNIX)
        memcpy(p->path, ((struct sockaddr_un *)&own)->sun_path, sizeof p->path);
    pthread_mutex_init(&p->mutex, NULL);
    if (pthread_create(&p->thread, NULL, run_proxy, p) != 0)
        return luaL_error(L, "no thread for the proxy");
    p->is_running = true;
    return 1;
}

/* pace(bytes, seconds): pieces of at most so many bytes, so long apart; 0, 0: as they come. */
static int proxy_pace(lua_State *L)
{
    struct proxy *p = check_proxy(L);

    pthread_mutex_lock(&p->mutex);
    p->chunk = (size_t)luaL_optinteger(L, 2, 0);
    p->delay = luaL_optnumber(L, 3, 0);
    wake(p);
    pthread_mutex_unlock(&p->mutex);
    return 0;
}

/* No fault is to come, and none behind anything. */
static void disarm(struct proxy *p)
{
    p->how = PASS;
    p->text_size = p->behind_size = 0;
    p->is_for_all = p->has_come = p->is_sweep = false;
    for (size_t i = 0; i < LINKS; i++) {
        p->links[i].is_asked = false;
        p->links[i].is_behind = true;
        p->links[i].pipe[UP].n_last = p->links[i].pipe[DOWN].n_last = 0;
    }
}

/* fault(how, direction, bytes or text[, for_all[, behind]]); direction "answer": what follows a
 * text that went up. <behind>: a text that the connection must have passed before, either way. */
static int proxy_fault(lua_State *L)
{
    struct proxy *p = check_proxy(L);
    enum how how = (enum how)luaL_checkoption(L, 2, NULL, hows);
    int direction = luaL_checkoption(L, 3, "down", directions);
    size_t text_size = 0, behind_size;
    const char *text = lua_type(L, 4) == LUA_TSTRING ? lua_tolstring(L, 4, &text_size) : "";
    const char *behind = luaL_optlstring(L, 6, "", &behind_size);
    lua_Integer bytes = text_size == 0 ? luaL_optinteger(L, 4, 0) : 0;

    luaL_argcheck(L, text_size < TEXT, 4, "the text is too long");
    luaL_argcheck(L, behind_size < TEXT, 6, "the text is too long");
    luaL_argcheck(L, text_size > 0 || direction != ANSWER, 4, "text expected");
    pthread_mutex_lock(&p->mutex);
    disarm(p);
    p->how = how;
    p->direction = direction;
    p->text_size = text_size;
    p->behind_size = behind_size;
    memcpy(p->text, text, text_size);
    memcpy(p->behind, behind, behind_size);
    for (size_t i = 0; i < LINKS && behind_size > 0; i++)
        p->links[i].is_behind = false;
    p->at = text_size == 0 ? p->total[direction] + (unsigned long long)bytes : 0;
    p->is_for_all = lua_toboolean(L, 5);
    wake(p);
    pthread_mutex_unlock(&p->mutex);
    return 0;
}

/* sweep(how, direction, first, stride, n, settled): from now on 2 <n> connections meet a fault, at
 * their own bytes first, settled + first, first + stride, settled + first + stride ... in turn.
 * Behind <settled> bytes whoever is at the other end has done some work, so that he does not become
 * ever more careful. Those that there are meet it at once. */
static int proxy_sweep(lua_State *L)
{
    struct proxy *p = check_proxy(L);
    enum how how = (enum how)luaL_checkoption(L, 2, NULL, hows);
    int direction = luaL_checkoption(L, 3, NULL, directions);
    lua_Integer first = luaL_checkinteger(L, 4), stride = luaL_checkinteger(L, 5);
    lua_Integer n = luaL_checkinteger(L, 6), settled = luaL_checkinteger(L, 7);

    luaL_argcheck(L, direction != ANSWER, 3, "up or down expected");
    pthread_mutex_lock(&p->mutex);
    disarm(p);
    p->how = how;
    p->direction = direction;
    p->is_sweep = true;
    p->n_swept = 0;
    p->n_to_sweep = 2 * (unsigned long long)n;
    p->sweep_settled = (unsigned long long)settled;
    p->sweep_first = (unsigned long long)first;
    p->sweep_stride = (unsigned long long)stride;
    for (size_t i = 0; i < LINKS; i++)
        p->links[i].at = 0;
    wake(p);
    pthread_mutex_unlock(&p->mutex);
    return 0;
}

/* strike(how[, for_all]): every connection that there is meets the fault now. */
static int proxy_strike(lua_State *L)
{
    struct proxy *p = check_proxy(L);
    enum how how = (enum how)luaL_checkoption(L, 2, NULL, hows);

    pthread_mutex_lock(&p->mutex);
    disarm(p);
    for (size_t i = 0; i < LINKS; i++) {
        if (!p->links[i].is_used || p->links[i].how != PASS)
            continue;
        p->how = how;
        strike(p, &p->links[i]);
    }
    p->is_for_all = lua_toboolean(L, 3);
    p->how = p->is_for_all ? how : PASS;
    p->has_come = true;
    wake(p);
    pthread_mutex_unlock(&p->mutex);
    return 0;
}

/* heal(): no fault is to come; what was stalled goes on. */
static int proxy_heal(lua_State *L)
{
    struct proxy *p = check_proxy(L);

    pthread_mutex_lock(&p->mutex);
    disarm(p);
    for (size_t i = 0; i < LINKS; i++)
        if (p->links[i].is_used && p->links[i].how == STALL)
            p->links[i].how = PASS;
    wake(p);
    pthread_mutex_unlock(&p->mutex);
    return 0;
}

/* stats() -> {up =, down = bytes passed, accepted = connections, faults =, open = connections}. */
static int proxy_stats(lua_State *L)
{
    struct proxy *p = check_proxy(L);
    unsigned long long values[4];
    static const char *const names[] = {"up", "down", "accepted", "faults"};
    lua_Integer n_open = 0;

    pthread_mutex_lock(&p->mutex);
    values[0] = p->total[0];
    values[1] = p->total[1];
    values[2] = p->n_accepted;
    values[3] = p->n_faults;
    for (size_t i = 0; i < LINKS; i++)
        n_open += p->links[i].is_used;
    pthread_mutex_unlock(&p->mutex);
    lua_createtable(L, 0, 5);
    for (int i = 0; i < 4; i++) {
        lua_pushinteger(L, (lua_Integer)values[i]);
        lua_setfield(L, -2, names[i]);
    }
    lua_pushinteger(L, n_open);
    lua_setfield(L, -2, "open");
    return 1;
}

static int proxy_close(lua_State *L)
{
    struct proxy *p = luaL_checkudata(L, 1, NATIVE_PROXY);

    if (p->is_running) {
        pthread_mutex_lock(&p->mutex);
        p->is_closing = true;
        wake(p);
        pthread_mutex_unlock(&p->mutex);
        pthread_join(p->thread, NULL);
        pthread_mutex_destroy(&p->mutex);
        for (size_t i = 0; i < LINKS; i++)
            if (p->links[i].is_used)
                drop_link(&p->links[i], false);
        p->is_running = false;
    }
    if (p->listener >= 0)
        close(p->listener);
    if (p->wake >= 0)
        close(p->wake);
    if (p->path[0] != '\0')
        unlink(p->path);
    p->listener = p->wake = -1;
    p->path[0] = '\0';
    return 0;
}

static const luaL_Reg methods[] = {
    {"pace", proxy_pace},   {"fault", proxy_fault}, {"strike", proxy_strike},
    {"sweep", proxy_sweep}, {"heal", proxy_heal},   {"stats", proxy_stats},
    {"close", proxy_close}, {NULL, NULL},
};

void native_open_proxy(lua_State *L)
{
    luaL_newmetatable(L, NATIVE_PROXY);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, proxy_close);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    lua_pushcfunction(L, proxy_new);
    lua_setfield(L, -2, "proxy");
}
