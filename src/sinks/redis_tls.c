/* redis_tls.c -- TLS over a socket that does not block.
 * SPDX-License-Identifier: MIT */
#include "sinks/redis_tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char redis_tls_library[] = OPENSSL_VERSION_TEXT;

struct redis_tls {
    SSL_CTX *context;
    SSL *ssl;
    char failure[600];
};

/* Sets why <what> failed. <path>: the file that it is about, or NULL. */
static void fail(struct redis_tls *t, const char *what, const char *path)
{
    long verified = t->ssl != NULL ? SSL_get_verify_result(t->ssl) : X509_V_OK;
    unsigned long code = ERR_get_error();
    const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;

    if (ERR_SYSTEM_ERROR(code)) /* for which the library has no text */
        reason = strerror(ERR_GET_REASON(code));
    ERR_clear_error();
    if (verified != X509_V_OK)
        snprintf(t->failure, sizeof t->failure, "the server's certificate does not verify: %s",
                 X509_verify_cert_error_string(verified));
    else
        snprintf(t->failure, sizeof t->failure, "%s%s%s%s", what, path != NULL ? path : "",
                 path != NULL ? ": " : "", reason != NULL ? reason : "the connection was closed");
}

static bool set_up(struct redis_tls *t, const struct redis_tls_options *o)
{
    const char *wrong = NULL, *path = NULL;

    if (t->context == NULL)
        wrong = "";
    else if (!(o->ca != NULL ? SSL_CTX_load_verify_locations(t->context, o->ca, NULL)
                             : SSL_CTX_set_default_verify_paths(t->context)))
        wrong = "tls.ca: ", path = o->ca;
    else if (o->cert != NULL && !SSL_CTX_use_certificate_chain_file(t->context, o->cert))
        wrong = "tls.cert: ", path = o->cert;
    else if (o->key != NULL && !SSL_CTX_use_PrivateKey_file(t->context, o->key, SSL_FILETYPE_PEM))
        wrong = "tls.key: ", path = o->key;
    else if (!SSL_CTX_set_min_proto_version(t->context, TLS1_2_VERSION) ||
             (t->ssl = SSL_new(t->context)) == NULL)
        wrong = "";
    else if (o->name != NULL && !X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(t->ssl), o->name) &&
             (!SSL_set1_host(t->ssl, o->name) || !SSL_set_tlsext_host_name(t->ssl, o->name)))
        wrong = "the name of the host: ";
    if (wrong != NULL) {
        fail(t, wrong, path);
        return false;
    }
    if (o->ca != NULL) /* any certificate in it is trusted, not only one that signed itself */
        X509_VERIFY_PARAM_set_flags(SSL_get0_param(t->ssl), X509_V_FLAG_PARTIAL_CHAIN);
    SSL_set_verify(t->ssl, SSL_VERIFY_PEER, NULL);
    SSL_set_mode(t->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    return true;
}

struct redis_tls *redis_tls_new(const struct redis_tls_options *o, char failure[], size_t size)
{
    struct redis_tls *t = calloc(1, sizeof *t);

    if (t == NULL) {
        snprintf(failure, size, "not enough memory");
        return NULL;
    }
    ERR_clear_error();
    t->context = SSL_CTX_new(TLS_client_method());
    if (set_up(t, o)) {
        ERR_clear_error();
        return t;
    }
    snprintf(failure, size, "%s", t->failure);
    redis_tls_free(t);
    return NULL;
}

void redis_tls_free(struct redis_tls *t)
{
    if (t == NULL)
        return;
    SSL_free(t->ssl);
    SSL_CTX_free(t->context);
    free(t);
}

/* What a call of the library returned, as ours return it. */
static ssize_t result_of(struct redis_tls *t, int n)
{
    if (n > 0)
        return n;
    switch (SSL_get_error(t->ssl, n)) {
    case SSL_ERROR_WANT_READ:
        return REDIS_TLS_READ;
    case SSL_ERROR_WANT_WRITE:
        return REDIS_TLS_WRITE;
    default:
        fail(t, "", NULL);
        return REDIS_TLS_BROKEN;
    }
}

ssize_t redis_tls_connect(struct redis_tls *t, int fd)
{
    ERR_clear_error();
    if (SSL_get_fd(t->ssl) != fd && !SSL_set_fd(t->ssl, fd)) {
        fail(t, "", NULL);
        return REDIS_TLS_BROKEN;
    }
    return result_of(t, SSL_connect(t->ssl));
}

ssize_t redis_tls_write(struct redis_tls *t, const char *from, size_t len)
{
    ERR_clear_error();
    return result_of(t, SSL_write(t->ssl, from, (int)len));
}

ssize_t redis_tls_read(struct redis_tls *t, char *to, size_t len)
{
    ERR_clear_error();
    return result_of(t, SSL_read(t->ssl, to, (int)len));
}

const char *redis_tls_failure(const struct redis_tls *t)
{
    return t->failure;
}
