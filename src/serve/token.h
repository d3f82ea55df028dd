/* token.h -- the secret that clients must show: read from a file, compared in constant time.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TOKEN_H
#define TOKEN_H

#include "base/err.h"

#define TOKEN_MAX 512
#define TOKEN_MIN 16

struct token {
    char text[TOKEN_MAX + 1]; /* "": none is asked for */
};

/* Reads the one line of a file that others may not read. ERR_USAGE: it is not fit. */
bool token_read(struct token *t, const char *path, struct err *e) WARN_UNUSED;

/* True if the text of a header Authorization shows it: as "Bearer TOKEN", or as the password of
 * "Basic", whatever the user. <authorization> may be NULL. */
bool token_is_shown(const struct token *t, const char *authorization);

#endif
