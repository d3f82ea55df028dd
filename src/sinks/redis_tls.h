/* redis_tls.h -- TLS over a socket that does not block.
 *
 * (OpenSSL has names that base/ has, too: so nobody else includes its headers.)
 *
 * SPDX-License-Identifier: MIT */
#ifndef REDIS_TLS_H
#define REDIS_TLS_H

#include <stddef.h>
#include <sys/types.h>

struct redis_tls;

/* Paths of PEM files, and the host's name or address, which its certificate must have; each may be
 * NULL. Without <ca> the authorities of the system count. */
struct redis_tls_options {
    const char *ca, *cert, *key, *name;
};

/* What the functions below return in the place of a number of bytes: the call must be repeated
 * when the socket can be read (READ) or written (WRITE); or the connection is of no more use
 * (BROKEN). */
enum { REDIS_TLS_READ = 0, REDIS_TLS_WRITE = -1, REDIS_TLS_BROKEN = -2 };

/* Returns owned, or NULL and why in <failure>. */
struct redis_tls *redis_tls_new(const struct redis_tls_options *o, char failure[], size_t size);
void redis_tls_free(struct redis_tls *t);

/* Shakes hands over <fd>. Returns 1 when that is done. */
ssize_t redis_tls_connect(struct redis_tls *t, int fd);
ssize_t redis_tls_write(struct redis_tls *t, const char *from, size_t len);
ssize_t redis_tls_read(struct redis_tls *t, char *to, size_t len);

/* Why it is broken. Borrowed. */
const char *redis_tls_failure(const struct redis_tls *t);

/* The name and version of the library. */
extern const char redis_tls_library[];

#endif
