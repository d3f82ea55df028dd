/* saboteur_net.c -- breaks what the program sends to one peer, and what it hears from it.
 * SPDX-License-Identifier: MIT
 *
 * The calls of the C library are defined here, so that those of modules and their libraries come
 * here as well. Only connections to $SABOTAGE_PEER, a port or the path of a socket, count.
 *
 *    sends     half of it goes out. Then the process dies, or the connection is cut
 *    answers   what has come is not given to the program: it dies, or the connection is cut */
#include "saboteur.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

/* True for a connection to the peer whose steps of this class count. */
static bool is_peer(int fd, enum sabotage class)
{
    const char *peer = getenv("SABOTAGE_PEER");
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_un un;
    } there = { .any = { .sa_family = AF_UNSPEC } };
    socklen_t size = sizeof there;

    if (!saboteur_counts(class) || peer == NULL ||
        syscall(SYS_getpeername, fd, &there, &size) < 0)
        return false;
    if (there.any.sa_family == AF_INET)
        return ntohs(there.in.sin_port) == strtol(peer, NULL, 10);
    return there.any.sa_family == AF_UNIX && strcmp(there.un.sun_path, peer) == 0;
}

static void cut(int fd)
{
    syscall(SYS_shutdown, fd, SHUT_RDWR);
    errno = ECONNRESET;
}

static ssize_t send_any(int fd, const void *data, size_t n, int flags, const struct sockaddr *to,
                        socklen_t size)
{
    bool dies = false, strikes = n > 0 && is_peer(fd, SENDS) &&
                                 saboteur_strikes(SENDS, "send", &dies);
    ssize_t done = strikes && n == 1
                       ? 0 : syscall(SYS_sendto, fd, data, strikes ? n / 2 : n, flags, to, size);

    if (dies)
        saboteur_kill();
    if (strikes)
        cut(fd);
    return strikes && done <= 0 ? -1 : done;
}

ssize_t send(int fd, const void *data, size_t n, int flags)
{
    return send_any(fd, data, n, flags, NULL, 0);
}

ssize_t sendto(int fd, const void *data, size_t n, int flags, const struct sockaddr *to,
               socklen_t size)
{
    return send_any(fd, data, n, flags, to, size);
}

/* Of several pieces the first half goes out. */
ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    bool dies = false, strikes = is_peer(fd, SENDS) && saboteur_strikes(SENDS, "sendmsg", &dies);
    struct msghdr part = *message;
    ssize_t done = 0;

    if (strikes)
        part.msg_iovlen /= 2;
    if (!strikes || part.msg_iovlen > 0)
        done = syscall(SYS_sendmsg, fd, &part, flags);
    if (dies)
        saboteur_kill();
    if (strikes)
        cut(fd);
    return strikes && done <= 0 ? -1 : done;
}

/* <n> bytes have come, or what they are fewer than 1 for. */
static ssize_t hear(int fd, ssize_t n, const char *name)
{
    if (n <= 0 || !is_peer(fd, ANSWERS) || !saboteur_strikes(ANSWERS, name, NULL))
        return n;
    cut(fd);
    return -1;
}

ssize_t recv(int fd, void *data, size_t n, int flags)
{
    return hear(fd, syscall(SYS_recvfrom, fd, data, n, flags, NULL, NULL), "recv");
}

ssize_t recvfrom(int fd, void *data, size_t n, int flags, struct sockaddr *from, socklen_t *size)
{
    return hear(fd, syscall(SYS_recvfrom, fd, data, n, flags, from, size), "recvfrom");
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    return hear(fd, syscall(SYS_recvmsg, fd, message, flags), "recvmsg");
}
