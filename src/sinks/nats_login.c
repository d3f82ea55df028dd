/* nats_login.c -- how to log in. See nats_login.h.
 * SPDX-License-Identifier: MIT */
#include "sinks/nats_login.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_SERVERS 64

static bool copy_text(char **to, const char *text)
{
    *to = text != NULL ? strdup(text) : NULL;
    return text == NULL || *to != NULL;
}

bool nats_login_copy(struct nats_login *to, const struct nats_login *from)
{
    *to = (struct nats_login){ .has_tls = from->has_tls, .timeout_ms = from->timeout_ms };
    return copy_text(&to->servers, from->servers) && copy_text(&to->user, from->user) &&
           copy_text(&to->password, from->password) && copy_text(&to->jwt, from->jwt) &&
           copy_text(&to->seed, from->seed) && copy_text(&to->ca, from->ca) &&
           copy_text(&to->cert, from->cert) && copy_text(&to->key, from->key);
}

void nats_login_fini(struct nats_login *login)
{
    free(login->servers);
    free(login->user);
    free(login->password);
    free(login->jwt);
    free(login->seed);
    free(login->ca);
    free(login->cert);
    free(login->key);
}

static natsStatus on_jwt(char **jwt, char **problem, void *login)
{
    struct nats_login *l = login;

    (void)problem;
    *jwt = strdup(l->jwt);
    return *jwt != NULL ? NATS_OK : NATS_NO_MEMORY;
}

/* libnats before 3.8 takes a signature that begins with a zero, one of 256, for an empty one: it
 * sends none, and the server refuses the login. It frees the signature whatever we return. */
static natsStatus on_nonce(char **problem, unsigned char **signature, int *len, const char *nonce,
                           void *login)
{
    struct nats_login *l = login;
    natsStatus s = nats_Sign(l->seed, nonce, signature, len);

    if (s != NATS_OK || (*signature)[0] != 0)
        return s;
    l->is_unsent = true;
    *problem = strdup("a signature that begins with a zero, which libnats cannot send");
    return NATS_ERR;
}

static natsStatus set_servers(natsOptions *opts, const struct nats_login *o)
{
    const char *list[MOST_SERVERS];
    char *rest = NULL, *copy = strdup(o->servers);
    natsStatus s;
    int n = 0;

    if (copy == NULL)
        return NATS_NO_MEMORY;
    for (char *one = strtok_r(copy, ",", &rest); one != NULL && n < MOST_SERVERS;
         one = strtok_r(NULL, ",", &rest))
        list[n++] = one;
    s = natsOptions_SetServers(opts, list, n);
    free(copy);
    return s;
}

static natsStatus set_user(natsOptions *opts, struct nats_login *o)
{
    if (o->jwt != NULL)
        return natsOptions_SetUserCredentialsCallbacks(opts, on_jwt, o, on_nonce, o);
    if (o->user != NULL)
        return natsOptions_SetUserInfo(opts, o->user, o->password);
    return o->password != NULL ? natsOptions_SetToken(opts, o->password) : NATS_OK;
}

static natsStatus set_tls(natsOptions *opts, const struct nats_login *o)
{
    natsStatus s = o->has_tls ? natsOptions_SetSecure(opts, true) : NATS_OK;

    if (s == NATS_OK && o->ca != NULL)
        s = natsOptions_LoadCATrustedCertificates(opts, o->ca);
    if (s == NATS_OK && o->cert != NULL)
        s = natsOptions_LoadCertificatesChain(opts, o->cert, o->key);
    return s;
}

natsStatus nats_login_set(natsOptions *opts, struct nats_login *login)
{
    natsStatus s = set_servers(opts, login);

    if (s == NATS_OK)
        s = set_user(opts, login);
    if (s == NATS_OK)
        s = set_tls(opts, login);
    if (s == NATS_OK)
        s = natsOptions_SetNoRandomize(opts, true);
    if (s == NATS_OK)
        s = natsOptions_SetName(opts, "pgcdc-lua");
    if (s == NATS_OK)
        s = natsOptions_SetTimeout(opts, login->timeout_ms);
    if (s == NATS_OK)
        s = natsOptions_SetWriteDeadline(opts, login->timeout_ms);
    return s;
}

/* Takes the host out of "nats://host:port" or "nats://[address]:port"; changes the text. */
static char *host_of(char *url)
{
    char *host = strstr(url, "://"), *end;

    host = host != NULL ? host + 3 : url;
    if (*host == '[' && (end = strchr(host, ']')) != NULL)
        host++;
    else
        end = strrchr(host, ':');
    if (end != NULL)
        *end = '\0';
    return host;
}

bool nats_login_is_lost(const struct nats_login *login, char failure[], size_t size)
{
    const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
    char *rest = NULL, *copy = strdup(login->servers);
    bool is_lost = false;

    if (copy == NULL)
        return false;
    for (char *one = strtok_r(copy, ",", &rest); one != NULL && !is_lost;
         one = strtok_r(NULL, ",", &rest)) {
        struct addrinfo *found = NULL;
        const char *host = host_of(one);
        int status = getaddrinfo(host, NULL, &hints, &found);

        is_lost = status != 0;
        if (is_lost)
            snprintf(failure, size, "the host %s is not known: %s", host, gai_strerror(status));
        else
            freeaddrinfo(found);
    }
    free(copy);
    return is_lost;
}
