/* http_crypto.h -- signatures of Standard Webhooks.
 *
 * SPDX-License-Identifier: MIT */
#ifndef HTTP_CRYPTO_H
#define HTTP_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>

enum {
    HTTP_CRYPTO_SECRET = 512,  /* bytes of a secret at most */
    HTTP_CRYPTO_SIGNATURE = 44 /* characters of a signature */
};

struct http_crypto_text {
    const char *bytes; /* borrowed */
    size_t len;
};

/* Takes "whsec_" and base64 apart, which may lack its padding. Returns the number of bytes; 0: it
 * is no secret. */
size_t http_crypto_secret(const char *text, size_t len, unsigned char to[HTTP_CRYPTO_SECRET]);

/* Writes the base64 of the HMAC-SHA256 of the texts, one after the other, and a NUL. False if the
 * library refuses. */
bool http_crypto_sign(const struct http_crypto_text *key, const struct http_crypto_text *texts,
                      size_t n, char to[HTTP_CRYPTO_SIGNATURE + 1]);

#endif
