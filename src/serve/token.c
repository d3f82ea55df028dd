/* token.c -- the secret that clients must show.
 * SPDX-License-Identifier: MIT */
#include "serve/token.h"

#include "base/path.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

static bool check_mode(int fd, const char *path, struct err *e)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return err_set(e, ERR_USAGE, "--listen-token-file %s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return err_set(e, ERR_USAGE, "--listen-token-file %s: it is no file", path);
    if ((st.st_mode & S_IRWXO) != 0)
        return err_set(e, ERR_USAGE, "--listen-token-file %s: others may read or write it (mode "
                       "%04o): chmod 600 it", path, (unsigned)(st.st_mode & 07777));
    return true;
}

/* Takes the line end away, and looks at the rest. */
static bool check_text(struct token *t, size_t len, const char *path, struct err *e)
{
    while (len > 0 && (t->text[len - 1] == '\n' || t->text[len - 1] == '\r'))
        t->text[--len] = '\0';
    for (size_t i = 0; i < len; i++)
        if (t->text[i] <= ' ' || t->text[i] > '~')
            return err_set(e, ERR_USAGE, "--listen-token-file %s: it must have one line, of "
                           "letters, digits and signs of ASCII, without blanks", path);
    if (len < TOKEN_MIN || len >= TOKEN_MAX)
        return err_set(e, ERR_USAGE, "--listen-token-file %s: the token must have %d to %d "
                       "characters, it has %zu; this makes one: openssl rand -hex 32", path,
                       TOKEN_MIN, TOKEN_MAX - 1, len);
    return true;
}

bool token_read(struct token *t, const char *path, struct err *e)
{
    struct path_why why;
    int fd = path_open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0, &why);
    ssize_t len = -1;
    bool ok;

    *t = (struct token){ { 0 } };
    if (fd < 0)
        return err_set(e, ERR_USAGE, "--listen-token-file %s: %s", path, why.text);
    ok = check_mode(fd, path, e);
    if (ok && (len = read(fd, t->text, TOKEN_MAX)) < 0)
        ok = err_set(e, ERR_USAGE, "--listen-token-file %s: %s", path, strerror(errno));
    close(fd);
    return ok && check_text(t, (size_t)len, path, e);
}

/* Takes as long whatever the first difference is. */
static bool is_equal(const char *secret, const char *given, size_t len)
{
    size_t n = strlen(secret);
    unsigned char differs = n != len;

    for (size_t i = 0; i < len; i++)
        differs |= (unsigned char)(secret[i % n] ^ given[i]);
    return differs == 0;
}

static int digit(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c != '\0' ? strchr(digits, c) : NULL;

    return at != NULL ? (int)(at - digits) : -1;
}

/* Decodes base64 up to its end or what is none. */
static size_t decode(const char *text, char *to, size_t max)
{
    unsigned bits = 0, n_bits = 0;
    size_t n = 0;

    for (int value; n < max && (value = digit(*text)) >= 0; text++) {
        bits = bits << 6 | (unsigned)value;
        n_bits += 6;
        if (n_bits >= 8)
            to[n++] = (char)(bits >> (n_bits -= 8));
    }
    return n;
}

bool token_is_shown(const struct token *t, const char *authorization)
{
    char pair[2 * TOKEN_MAX];
    const char *colon;
    size_t len;

    if (t->text[0] == '\0')
        return true;
    if (authorization == NULL)
        return false;
    if (strncasecmp(authorization, "Bearer ", 7) == 0)
        return is_equal(t->text, authorization + 7, strlen(authorization + 7));
    if (strncasecmp(authorization, "Basic ", 6) != 0)
        return false;
    len = decode(authorization + 6, pair, sizeof pair);
    colon = memchr(pair, ':', len);
    return colon != NULL && is_equal(t->text, colon + 1, len - (size_t)(colon + 1 - pair));
}
