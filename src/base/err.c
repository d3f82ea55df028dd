/* err.c -- what went wrong, as a value.
 * SPDX-License-Identifier: MIT */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* One line of valid text: control characters become spaces, trailing ones go,
 * and a multi-byte character that the buffer cut in two is dropped. */
static void tidy(char *s, size_t size)
{
    size_t n = strlen(s);

    if (n == size - 1) {
        while (n > 0 && ((unsigned char)s[n - 1] & 0xC0) == 0x80)
            n--;
        if (n > 0 && (unsigned char)s[n - 1] >= 0xC0)
            n--;
        s[n] = '\0';
    }
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] < 0x20)
            s[i] = ' ';
    while (n > 0 && s[n - 1] == ' ')
        s[--n] = '\0';
}

bool err_set(struct err *e, enum err_code code, const char *fmt, ...)
{
    va_list ap;

    e->code = code;
    e->sqlstate[0] = '\0';
    va_start(ap, fmt);
    vsnprintf(e->msg, sizeof e->msg, fmt, ap);
    va_end(ap);
    tidy(e->msg, sizeof e->msg);
    return false;
}

bool err_prefix(struct err *e, const char *fmt, ...)
{
    char prefix[512];
    size_t n, room, len = strlen(e->msg);
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(prefix, sizeof prefix - 2, fmt, ap);
    va_end(ap);
    n = strlen(prefix);
    memcpy(prefix + n, ": ", 2);
    n += 2;
    room = sizeof e->msg - 1 - n;
    memmove(e->msg + n, e->msg, len < room ? len : room);
    memcpy(e->msg, prefix, n);
    e->msg[n + (len < room ? len : room)] = '\0';
    tidy(e->msg, sizeof e->msg);
    return false;
}

bool err_memory(struct err *e)
{
    return err_set(e, ERR_MEMORY, "out of memory");
}

int err_exit_status(enum err_code code)
{
    switch (code) {
    case ERR_NONE:
    case ERR_STOPPED:
        return 0;
    case ERR_SCRIPT:
    case ERR_OUTPUT:
        return 1;
    case ERR_USAGE:
        return 2;
    case ERR_CONNECTION:
    case ERR_SQL:
    case ERR_DECODING:
    case ERR_ANSWER:
    case ERR_REFUSED:
    case ERR_BEHIND:
        return 3;
    case ERR_STATE:
        return 4;
    case ERR_TAKEN:
        return 5;
    case ERR_MEMORY:
    case ERR_INTERNAL:
        break;
    }
    return 70;
}
