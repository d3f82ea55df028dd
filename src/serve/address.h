/* address.h -- where the program listens: an address and a port, or a socket in a folder.
 *
 * SPDX-License-Identifier: MIT */
#ifndef ADDRESS_H
#define ADDRESS_H

#include "base/err.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

struct address {
    const char *text;      /* as it was given; borrowed */
    bool is_local;         /* only programs of this machine can reach it */
    const char *path;      /* of a socket in a folder; NULL: it is an address and a port */
    union {
        struct sockaddr any;
        struct sockaddr_un local;
        struct sockaddr_storage storage;
    };
    socklen_t len;
    struct stat made;      /* of the socket in a folder, once it listens */
};

/* Reads "127.0.0.1:9187", "[::1]:9187", "localhost:9187" or "unix:/run/x.sock". ERR_USAGE: it is
 * none of them. */
bool address_read(struct address *a, const char *text, struct err *e) WARN_UNUSED;

/* Returns a descriptor that listens there and does not block; owned; -1: ERR_USAGE, with one line
 * that says what to do. A socket in a folder that nobody listens on any more is replaced; it can be
 * used by its owner and group. To be called before there are threads: it sets the umask. */
int address_listen(struct address *a, struct err *e);

/* What a descriptor listens on, for people: the port is known now. */
void address_write(const struct address *a, int fd, char *to, size_t size);

/* Removes the socket of a folder, if it is still ours. */
void address_remove(const struct address *a);

#endif
