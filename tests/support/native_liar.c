/* native_liar.c -- a server that says anything.
 * SPDX-License-Identifier: MIT
 *
 * One of two: a server that lets everybody in, answers the first question and then does what its
 * <mode> names; or one that stands in front of a true server on a unix socket and changes some of
 * its messages, as <seed> says: their values, lengths, types, order, or that they come at all; or
 * those of its log, as <mode> names (native_liar_log.c).
 * Each connection has a process of its own, all in one process group, which liar:close() kills. */
#include "native.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define NATIVE_LIAR "native.liar"

struct liar {
    pid_t pid;      /* of the process that accepts; 0: closed */
    char path[108]; /* of the socket */
};

/* ---- messages ---- */

struct bytes {
    char *p;
    size_t len, cap;
};

static void add(struct bytes *b, const void *p, size_t n)
{
    if (b->len + n > b->cap) {
        b->cap = (b->len + n) * 2;
        b->p = realloc(b->p, b->cap);
        if (b->p == NULL)
            _exit(1);
    }
    memcpy(b->p + b->len, p, n);
    b->len += n;
}

static void add_number(struct bytes *b, uint32_t n, size_t size)
{
    uint32_t big = htonl(n);

    add(b, (char *)&big + 4 - size, size);
}

static void add_message(struct bytes *b, char type, const void *body, size_t n)
{
    add(b, &type, 1);
    add_number(b, (uint32_t)n + 4, 4);
    add(b, body, n);
}

/* What a server says without being asked. */
static const struct { char type; const char *body; size_t len; } sayings[] = {
#define SAYING(type, text) { type, text, sizeof text - 1 }
    SAYING('N', "SNOTICE\0VNOTICE\0C00000\0Mhello\0\0"), SAYING('S', "TimeZone\0UTC\0"),
    SAYING('H', "\0\0\1\0\0"), SAYING('G', "\0\0\1\0\0"), SAYING('W', "\0\0\1\0\0"),
    SAYING('Z', "I"), SAYING('Z', "T"), SAYING('Z', "E"), SAYING('I', ""), SAYING('c', ""),
    SAYING('C', "SELECT 1\0"), SAYING('C', "COPY -7\0"), SAYING('T', "\0\0"), SAYING('D', "\0\0"),
    SAYING('A', "\0\0\0\1pgcdc\0x\0"), SAYING('d', "\\.\n"), SAYING('d', "1\t2\n3\t4\n"),
    SAYING('E', "SERROR\0C\x1b[31\0M\x1b]0;pwned\x07\nts=1 level=info msg=forged \xe2\x80\xae\0\0"),
    SAYING('E', "SFATAL\0VFATAL\0C57P01\0Mbye\0\0"), SAYING('E', "\0"),
};

static void say(struct bytes *b, size_t i)
{
    add_message(b, sayings[i].type, sayings[i].body, sayings[i].len);
}

static void say_type(struct bytes *b, char type)
{
    for (size_t i = 0; i < sizeof sayings / sizeof *sayings; i++)
        if (sayings[i].type == type) {
            say(b, i);
            return;
        }
}

static void add_columns(struct bytes *b, unsigned n)
{
    struct bytes body = { NULL, 0, 0 };

    add_number(&body, n, 2);
    for (unsigned i = 0; i < n; i++)
        add(&body, "a\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0", 20);
    add_message(b, 'T', body.p, body.len);
    free(body.p);
}

/* A row of <n> times <text>; NULL: NULL. */
static void add_row(struct bytes *b, unsigned n, const char *text, size_t len)
{
    struct bytes body = { NULL, 0, 0 };

    add_number(&body, n, 2);
    for (unsigned i = 0; i < n; i++) {
        add_number(&body, text != NULL ? (uint32_t)len : UINT32_MAX, 4);
        add(&body, text != NULL ? text : "", text != NULL ? len : 0);
    }
    add_message(b, 'D', body.p, body.len);
    free(body.p);
}

static void end_answer(struct bytes *b)
{
    add_message(b, 'C', "SELECT 1", 9);
    add_message(b, 'Z', "I", 1);
}

/* Sends all and empties <b>. Ends the process if nobody takes it. */
static void put(int fd, struct bytes *b)
{
    for (size_t at = 0; at < b->len;) {
        ssize_t n = send(fd, b->p + at, b->len - at, MSG_NOSIGNAL);

        if (n <= 0)
            _exit(0);
        at += (size_t)n;
    }
    b->len = 0;
}

static void get(int fd, void *to, size_t n)
{
    for (size_t at = 0; at < n;) {
        ssize_t got = recv(fd, (char *)to + at, n - at, 0);

        if (got <= 0)
            _exit(0);
        at += (size_t)got;
    }
}

/* ---- a server that does what its mode names ---- */

/* Takes a message of the client; returns its type, 0 of the first one, which has none. */
static char take(int fd, bool is_first)
{
    char type = 0, drop[4096];
    uint32_t n;

    if (!is_first)
        get(fd, &type, 1);
    get(fd, &n, 4);
    for (n = ntohl(n) - 4; n > 0;) {
        uint32_t piece = n < sizeof drop ? n : (uint32_t)sizeof drop;

        get(fd, drop, piece);
        n -= piece;
    }
    return type;
}

static void flood(int fd, const struct bytes *b)
{
    for (;;) {
        struct bytes all = { NULL, 0, 0 };

        for (int i = 0; i < 500; i++)
            add(&all, b->p, b->len);
        put(fd, &all);
        free(all.p);
    }
}

/* One message again and again, so slowly that no limit on bytes is reached. */
static void drip(int fd, const struct bytes *b)
{
    for (;;) {
        struct bytes one = { NULL, 0, 0 };

        add(&one, b->p, b->len);
        put(fd, &one);
        free(one.p);
        usleep(50000);
    }
}

/* A flood of parameters, each of another name. */
static void flood_names(int fd)
{
    for (unsigned long i = 0;; i++) {
        struct bytes b = { NULL, 0, 0 };
        char name[32];
        int n = snprintf(name, sizeof name, "p%lu%cx", i, 0);

        add_message(&b, 'S', name, (size_t)n + 1);
        put(fd, &b);
        free(b.p);
    }
}

static void answer(int fd, const char *mode)
{
    struct bytes b = { NULL, 0, 0 };
    static char text[3000000];

    if (strcmp(mode, "drip") == 0) {
        say_type(&b, 'N');
        drip(fd, &b);
    } else if (strcmp(mode, "notices") == 0 || strcmp(mode, "params") == 0) {
        say_type(&b, *mode == 'n' ? 'N' : 'S');
        flood(fd, &b);
    } else if (strcmp(mode, "names") == 0) {
        flood_names(fd);
    } else if (strcmp(mode, "rows") == 0 || strcmp(mode, "results") == 0) {
        add_columns(&b, 1);
        if (*(mode + 1) == 'o')
            put(fd, &b);
        add_row(&b, 1, "1", 1);
        if (*(mode + 1) != 'o')
            add_message(&b, 'C', "SELECT 1", 9);
        flood(fd, &b);
    } else if (strcmp(mode, "empty") == 0) {
        add_columns(&b, 1);
        end_answer(&b);
    } else if (strcmp(mode, "nulls") == 0 || strcmp(mode, "words") == 0) {
        add_columns(&b, 7); /* as many as the first question of a source asks for */
        add_row(&b, 7, *mode == 'n' ? NULL : "x", 1);
        end_answer(&b);
    } else if (strcmp(mode, "long") == 0 || strcmp(mode, "negative") == 0) {
        add_columns(&b, 1);
        add(&b, *mode == 'l' ? "D\x7f\xff\xff\xff\0\1\x7f\xff\xff\xf0"
                             : "D\0\0\0\x0a\0\1\x80\0\0\0", 11);
    } else if (strcmp(mode, "errors") == 0) {
        memset(text, 'y', sizeof text);
        memcpy(text, "SERROR\0C\x1b[31\0M\x1b]0;pwned\x07\nts=1 level=info msg=forged \xc2\x9b",
               52);
        memcpy(text + sizeof text - 2, "\0", 2);
        add_message(&b, 'E', text, sizeof text);
        add_message(&b, 'Z', "I", 1);
    } else if (strncmp(mode, "copy", 4) == 0) {
        say_type(&b, mode[4] == 'o' ? 'H' : mode[4] == 'i' ? 'G' : 'W');
    }
    put(fd, &b); /* nothing, if the mode is "silent" */
    free(b.p);
}

static void serve(int fd, const char *mode)
{
    struct bytes b = { NULL, 0, 0 };
    bool is_asked = false;

    if (strcmp(mode, "mute") == 0)
        pause();
    (void)take(fd, true);
    if (strcmp(mode, "sasl") == 0) {
        add_message(&b, 'R', "\0\0\0\x0aSCRAM-SHA-256\0", 19);
        put(fd, &b);
        pause();
    }
    add_message(&b, 'R', "\0\0\0\0", 4);
    if (strcmp(mode, "dripping") == 0) {
        put(fd, &b);
        say_type(&b, 'S');
        drip(fd, &b);
    }
    if (strcmp(mode, "greeting") == 0) {
        put(fd, &b);
        say_type(&b, 'S');
        flood(fd, &b);
    }
    add_message(&b, 'S', "server_version\00015.3", 20);
    add_message(&b, 'S', "standard_conforming_strings\0on", 31);
    add_message(&b, 'K', "\0\0\0\1\0\0\0\2", 8);
    add_message(&b, 'Z', "I", 1);
    put(fd, &b);
    for (;;) {
        char type = take(fd, false);

        if (type == 'X')
            _exit(0);
        if (type != 'Q' && type != 'S')
            continue;
        if (!is_asked) { /* who the backend is */
            is_asked = true;
            add_columns(&b, 1);
            add_row(&b, 1, "1", 1);
            end_answer(&b);
            put(fd, &b);
            continue;
        }
        answer(fd, mode);
    }
}

/* ---- a true server's messages, changed ---- */

static uint64_t state;

static uint64_t draw(uint64_t below)
{
    uint64_t z = state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (z ^ z >> 31) % below;
}

static const uint32_t odd_lengths[] = { 0, 1, 3, 4, 5, 255, 70000, 0x7fffffff, 0x80000000,
                                        UINT32_MAX, UINT32_MAX - 1 };
static const char *const odd_values[] = { "", "-1", "99999999999999999999", "x", "f", "t", "1.5",
    "0", "4294967296", "a\nlevel=error", "\x1b[31m", "\xff\xfe", "\\.", "\\N", "{", "1/", "10:5:",
    "18446744073709551615" };
#define N_OF(list) (sizeof (list) / sizeof *(list))

/* A row with one field that is another value, or missing, or too much. */
static void add_other_row(struct bytes *out, const char *body, size_t len)
{
    struct bytes b = { NULL, 0, 0 };
    unsigned n = len >= 2 ? (unsigned)((unsigned char)body[0] << 8 | (unsigned char)body[1]) : 0;
    unsigned at = n > 0 ? (unsigned)draw(n) : 0;
    size_t p = 2;

    add_number(&b, n, 2);
    for (unsigned i = 0; i < n && p + 4 <= len; i++) {
        uint32_t size;
        uint64_t what = i == at ? draw(8) : 8;

        memcpy(&size, body + p, 4);
        size = ntohl(size);
        if (what < 5) {
            const char *value = odd_values[draw(N_OF(odd_values))];

            add_number(&b, (uint32_t)strlen(value), 4);
            add(&b, value, strlen(value));
        } else if (what == 5) {
            add_number(&b, UINT32_MAX, 4);
        } else if (what == 6) {
            add(&b, body + p, 4); /* and no value */
        } else {
            add(&b, body + p, 4 + (size == UINT32_MAX ? 0 : size));
        }
        p += 4 + (size == UINT32_MAX ? 0 : size);
    }
    add_message(out, 'D', b.p, b.len);
    free(b.p);
}

/* A line of COPY with something else in it. */
static void add_other_line(struct bytes *out, const char *body, size_t len)
{
    struct bytes b = { NULL, 0, 0 };
    size_t at = draw(len + 1);
    const char *value = odd_values[draw(N_OF(odd_values))];

    add(&b, body, at);
    if (draw(3) > 0)
        add(&b, value, strlen(value));
    if (draw(4) == 0)
        add(&b, "\t", 1);
    if (draw(8) == 0)
        add(&b, "\0", 1);
    at += draw(3) == 0 ? draw(len - at + 1) : 0;
    add(&b, body + at, len - at);
    add_message(out, 'd', b.p, b.len);
    free(b.p);
}

static void add_changed(struct bytes *out, const char *message, size_t len, int fd)
{
    static const char types[] = "DCTZESNAHGWdc12IntKR3\0\xff";
    size_t first = out->len;
    uint32_t odd = htonl(odd_lengths[draw(N_OF(odd_lengths))]);

    if (*message == 'D' && draw(3) > 0) {
        add_other_row(out, message + 5, len - 5);
        return;
    }
    if (*message == 'd' && draw(3) > 0) {
        add_other_line(out, message + 5, len - 5);
        return;
    }
    switch (draw(10)) {
    case 0: /* it does not come */
        return;
    case 1:
        add(out, message, len);
        break;
    case 2:
        add(out, message, len);
        out->p[first + 5 % len + draw(len > 5 ? len - 5 : 1)] ^= (char)(1 << draw(8));
        return;
    case 3:
        add(out, message, len);
        out->p[first] = types[draw(sizeof types - 1)];
        return;
    case 4:
        add(out, message, len);
        memcpy(out->p + first + 1, &odd, 4);
        return;
    case 5:
        add(out, message, len);
        if (len >= 9)
            memcpy(out->p + first + 5 + draw(len - 8), &odd, 4);
        return;
    case 6:
        for (size_t i = draw(2), n = draw(5000); n > 0; n--)
            say(out, i);
        break;
    case 7:
        add_message(out, *message, message + 5, draw(len - 4));
        return;
    case 8:
        if (draw(4) == 0) {
            put(fd, out);
            _exit(0);
        }
        break;
    default:
        say(out, draw(N_OF(sayings)));
    }
    add(out, message, len);
}

/* Passes on whole messages of <in>, some of them changed: those of the log that <lie> is about; or,
 * if it is NULL, any, and *left is how many come before the next change. */
static void pass(struct bytes *in, struct bytes *out, const char *lie, uint64_t *left, int fd)
{
    size_t at = 0;

    while (in->len - at >= 5) {
        uint32_t size;

        memcpy(&size, in->p + at + 1, 4);
        size = ntohl(size) + 1;
        if (in->len - at < size)
            break;
        if (lie != NULL) {
            add(out, in->p + at, native_liar_change(lie, in->p + at, size));
        } else if (*left == 0) {
            add_changed(out, in->p + at, size, fd);
            *left = draw(120);
        } else {
            add(out, in->p + at, size);
            --*left;
        }
        at += size;
    }
    memmove(in->p, in->p + at, in->len - at);
    in->len -= at;
    put(fd, out);
}

static void forward(int fd, const struct sockaddr_un *target, const char *lie)
{
    int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct bytes up = { NULL, 0, 0 }, in = { NULL, 0, 0 }, out = { NULL, 0, 0 };
    uint64_t left = draw(200);
    char piece[65536];

    if (connect(server, (const struct sockaddr *)target, sizeof *target) < 0)
        _exit(1);
    for (;;) {
        struct pollfd fds[2] = { { .fd = fd, .events = POLLIN },
                                 { .fd = server, .events = POLLIN } };
        ssize_t n;

        if (poll(fds, 2, -1) < 0)
            _exit(1);
        for (int i = 0; i < 2; i++) {
            if (fds[i].revents == 0)
                continue;
            n = recv(fds[i].fd, piece, sizeof piece, 0);
            if (n <= 0)
                _exit(0);
            add(i == 0 ? &up : &in, piece, (size_t)n);
        }
        put(server, &up);
        pass(&in, &out, lie, &left, fd);
    }
}

/* ---- processes ---- */

static void accept_all(int listener, const char *mode, uint64_t seed,
                       const struct sockaddr_un *target)
{
    signal(SIGCHLD, SIG_IGN);
    for (uint64_t i = 0;; i++) {
        int fd = accept(listener, NULL, NULL);

        if (fd < 0)
            _exit(1);
        if (fork() == 0) {
            close(listener);
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            state = seed * 1000 + i;
            if (*target->sun_path == '\0')
                serve(fd, mode);
            else
                forward(fd, target, mode);
            _exit(0);
        }
        close(fd);
    }
}

static struct sockaddr_un address(lua_State *L, int index, const char *field)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    const char *path;

    lua_getfield(L, index, field);
    path = luaL_optstring(L, -1, "");
    luaL_argcheck(L, strlen(path) < sizeof a.sun_path, index, "the path is too long");
    strcpy(a.sun_path, path);
    lua_pop(L, 1);
    return a;
}

/* liar {listen = path, mode = name}, {listen = path, target = path, seed = n} or, with a lie about
 * the log, {listen = path, target = path, mode = name} -> liar */
static int liar_new(lua_State *L)
{
    struct sockaddr_un own = address(L, 1, "listen"), target = address(L, 1, "target");
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct liar *l = lua_newuserdatauv(L, sizeof *l, 0);
    const char *mode;
    uint64_t seed;

    *l = (struct liar){ .pid = 0 };
    luaL_setmetatable(L, NATIVE_LIAR);
    lua_getfield(L, 1, "mode");
    mode = lua_tostring(L, -1);
    lua_getfield(L, 1, "seed");
    seed = (uint64_t)lua_tointeger(L, -1);
    if (listener < 0 || bind(listener, (struct sockaddr *)&own, sizeof own) < 0 ||
        listen(listener, 64) < 0)
        return native_push_errno(L, own.sun_path);
    memcpy(l->path, own.sun_path, sizeof l->path);
    l->pid = fork();
    if (l->pid == 0) {
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        accept_all(listener, mode, seed, &target);
    }
    setpgid(l->pid, l->pid);
    close(listener);
    lua_pushvalue(L, 2);
    return 1;
}

static int liar_close(lua_State *L)
{
    struct liar *l = luaL_checkudata(L, 1, NATIVE_LIAR);

    if (l->pid <= 0)
        return 0;
    kill(-l->pid, SIGKILL);
    waitpid(l->pid, NULL, 0);
    unlink(l->path);
    l->pid = 0;
    return 0;
}

void native_open_liar(lua_State *L)
{
    luaL_newmetatable(L, NATIVE_LIAR);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, liar_close);
    lua_setfield(L, -2, "close");
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, liar_close);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    lua_pushcfunction(L, liar_new);
    lua_setfield(L, -2, "liar");
}
