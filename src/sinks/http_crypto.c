/* http_crypto.c -- signatures of Standard Webhooks.
 * SPDX-License-Identifier: MIT */
#include "sinks/http_crypto.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <string.h>

#define PREFIX "whsec_"

/* The six bits of a character of base64; -1: it is none. */
static int bits_of(char c)
{
    static const char all[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c != '\0' ? strchr(all, c) : NULL;

    return at != NULL ? (int)(at - all) : -1;
}

size_t http_crypto_secret(const char *text, size_t len, unsigned char to[HTTP_CRYPTO_SECRET])
{
    unsigned long group = 0;
    size_t n = 0, digits = 0;

    if (len <= strlen(PREFIX) || memcmp(text, PREFIX, strlen(PREFIX)) != 0)
        return 0;
    text += strlen(PREFIX);
    len -= strlen(PREFIX);
    for (int i = 0; i < 2 && len > 0 && text[len - 1] == '='; i++)
        len--;
    for (; digits < len; digits++) {
        int bits = bits_of(text[digits]);

        if (bits < 0 || n == HTTP_CRYPTO_SECRET)
            return 0;
        group = (group << 6 | (unsigned long)bits) & 0xffffff;
        if (digits % 4 != 0)
            to[n++] = (unsigned char)(group >> (4 - 2 * (digits % 4 - 1)));
    }
    return digits % 4 != 1 ? n : 0;
}

bool http_crypto_sign(const struct http_crypto_text *key, const struct http_crypto_text *texts,
                      size_t n, char to[HTTP_CRYPTO_SIGNATURE + 1])
{
    char digest[] = "SHA256";
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    unsigned char bytes[EVP_MAX_MD_SIZE];
    size_t len = 0;
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *context = mac != NULL ? EVP_MAC_CTX_new(mac) : NULL;
    bool ok = context != NULL &&
              EVP_MAC_init(context, (const unsigned char *)key->bytes, key->len, params) == 1;

    for (size_t i = 0; ok && i < n; i++)
        ok = EVP_MAC_update(context, (const unsigned char *)texts[i].bytes, texts[i].len) == 1;
    ok = ok && EVP_MAC_final(context, bytes, &len, sizeof bytes) == 1 && len == 32 &&
         EVP_EncodeBlock((unsigned char *)to, bytes, (int)len) == HTTP_CRYPTO_SIGNATURE;
    EVP_MAC_CTX_free(context);
    EVP_MAC_free(mac);
    return ok;
}
