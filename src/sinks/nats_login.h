/* nats_login.h -- where a server of NATS is, and how to log in there.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NATS_LOGIN_H
#define NATS_LOGIN_H

#include <nats/nats.h>
#include <stdbool.h>
#include <stddef.h>

/* All texts may be NULL but <servers>. */
struct nats_login {
    char *servers;         /* URLs, with commas between */
    char *user, *password; /* a password alone is a token */
    char *jwt, *seed;      /* what a file of credentials has in it */
    char *ca, *cert, *key; /* paths, for TLS */
    bool has_tls;
    int timeout_ms; /* for a server to take the connection, and for a write */
    bool is_unsent; /* set while connecting: a signature could not be sent; another one could */
};

/* Makes a copy. Returns false without memory; to be freed in any case. */
bool nats_login_copy(struct nats_login *to, const struct nats_login *from);
void nats_login_fini(struct nats_login *login);

/* Puts it into libnats' options, which need <login> as long as they are in use. */
natsStatus nats_login_set(natsOptions *opts, struct nats_login *login);

/* Whether the name of one of the servers' hosts is not known, of which libnats says no more than
 * that there is no server. <failure> gets which one and why. Blocks. */
bool nats_login_is_lost(const struct nats_login *login, char failure[], size_t size);

#endif
