/* address.c -- where the program listens.
 * SPDX-License-Identifier: MIT */
#include "serve/address.h"

#include "base/path.h"
#include "base/text.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BACKLOG 128
#define LOCAL "unix:"

static bool fail_syntax(const char *text, struct err *e)
{
    return err_set(e, ERR_USAGE, "--listen %s: write an address and a port, such as 127.0.0.1:9187 "
                   "or [::1]:9187, or unix:/PATH", text);
}

static bool read_local(struct address *a, struct err *e)
{
    const char *path = a->text + strlen(LOCAL);
    size_t len = strlen(path);

    if (len == 0)
        return fail_syntax(a->text, e);
    if (len >= sizeof a->local.sun_path)
        return err_set(e, ERR_USAGE, "--listen %.200s: the path of a socket has at most %zu bytes, "
                       "this one has %zu: choose a shorter one", a->text,
                       sizeof a->local.sun_path - 1, len);
    a->local = (struct sockaddr_un){ .sun_family = AF_UNIX };
    memcpy(a->local.sun_path, path, len + 1);
    a->len = (socklen_t)sizeof a->local;
    a->path = path;
    a->is_local = true;
    return true;
}

static bool read_host(struct address *a, const char *host, uint16_t port)
{
    struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(port) };
    struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };

    if (strcmp(host, "localhost") == 0)
        host = "127.0.0.1";
    if (inet_pton(AF_INET, host, &v4.sin_addr) == 1) {
        memcpy(&a->storage, &v4, sizeof v4);
        a->len = sizeof v4;
        a->is_local = ntohl(v4.sin_addr.s_addr) >> 24 == 127;
        return true;
    }
    if (inet_pton(AF_INET6, host, &v6.sin6_addr) != 1)
        return false;
    memcpy(&a->storage, &v6, sizeof v6);
    a->len = sizeof v6;
    a->is_local = IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr);
    return true;
}

bool address_read(struct address *a, const char *text, struct err *e)
{
    const char *colon = strrchr(text, ':'), *from = text, *to = colon;
    char host[INET6_ADDRSTRLEN + 1];
    uint64_t port;

    *a = (struct address){ .text = text };
    if (strncmp(text, LOCAL, strlen(LOCAL)) == 0)
        return read_local(a, e);
    if (colon == NULL || !text_is_u64(colon + 1, &port))
        return fail_syntax(text, e);
    if (port > 65535)
        return err_set(e, ERR_USAGE, "--listen %s: a port is a number up to 65535", text);
    if (*from == '[' && to > from && to[-1] == ']') {
        from++;
        to--;
    } else if (memchr(from, ':', (size_t)(to - from)) != NULL) {
        return fail_syntax(text, e);
    }
    if ((size_t)(to - from) >= sizeof host)
        return fail_syntax(text, e);
    memcpy(host, from, (size_t)(to - from));
    host[to - from] = '\0';
    return read_host(a, host, (uint16_t)port) || fail_syntax(text, e);
}

/* ---- sockets ---- */

/* A socket is there: true if nobody listens on it, so that it was left by one that was killed. */
static bool is_left(const struct address *a)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool is = fd >= 0 && connect(fd, &a->any, a->len) != 0 && errno == ECONNREFUSED;

    if (fd >= 0)
        close(fd);
    return is;
}

static int bind_local(struct address *a, int fd)
{
    mode_t before = umask(0117); /* 0660 */
    int rc = bind(fd, &a->any, a->len);
    struct stat st;

    if (rc != 0 && errno == EADDRINUSE && lstat(a->path, &st) == 0 && S_ISSOCK(st.st_mode) &&
        is_left(a) && unlink(a->path) == 0)
        rc = bind(fd, &a->any, a->len);
    umask(before);
    if (rc == 0 && lstat(a->path, &a->made) != 0)
        rc = -1;
    return rc;
}

static bool fail_bind(const struct address *a, int error, struct err *e)
{
    const char *what = strerror(error);

    if (error == EADDRINUSE && a->path != NULL)
        what = "something is there already, or another program listens on it: choose another path";
    else if (error == EADDRINUSE)
        what = "another program listens there: choose another port";
    else if (error == EACCES && a->path == NULL)
        what = "ports below 1024 are for root: choose one such as 9187";
    else if (error == EADDRNOTAVAIL)
        what = "this machine has no such address";
    else if (error == ENOENT && a->path != NULL)
        what = "the folder is not there";
    return err_set(e, ERR_USAGE, "--listen %s: %s", a->text, what);
}

/* Refuses a path that somebody else leads elsewhere. */
static bool check_path(const struct address *a, struct err *e)
{
    struct path_place place;
    struct path_why why;

    if (a->path == NULL)
        return true;
    if (!path_find(a->path, &place, &why))
        return err_set(e, ERR_USAGE, "--listen %s: %s", a->text, why.text);
    path_fini(&place);
    return true;
}

int address_listen(struct address *a, struct err *e)
{
    int fd = socket(a->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1, rc;

    if (!check_path(a, e)) {
        if (fd >= 0)
            close(fd);
        return -1;
    }
    if (fd < 0) {
        fail_bind(a, errno, e);
        return -1;
    }
    if (a->path == NULL)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (a->any.sa_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    rc = a->path != NULL ? bind_local(a, fd) : bind(fd, &a->any, a->len);
    if (rc == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    fail_bind(a, errno, e);
    close(fd);
    return -1;
}

void address_write(const struct address *a, int fd, char *to, size_t size)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_storage storage;
    } name;
    char host[INET6_ADDRSTRLEN] = "?";
    socklen_t len = sizeof name;

    if (a->path != NULL || getsockname(fd, &name.any, &len) != 0)
        snprintf(to, size, "%s", a->text);
    else if (name.any.sa_family == AF_INET)
        snprintf(to, size, "%s:%u", inet_ntop(AF_INET, &name.v4.sin_addr, host, sizeof host),
                 ntohs(name.v4.sin_port));
    else
        snprintf(to, size, "[%s]:%u", inet_ntop(AF_INET6, &name.v6.sin6_addr, host, sizeof host),
                 ntohs(name.v6.sin6_port));
}

void address_remove(const struct address *a)
{
    struct stat st;

    if (a->path != NULL && lstat(a->path, &st) == 0 && st.st_dev == a->made.st_dev &&
        st.st_ino == a->made.st_ino)
        unlink(a->path);
}
