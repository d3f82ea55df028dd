/* redis_resp.c -- values of RESP2, the protocol of Redis, taken apart.
 * SPDX-License-Identifier: MIT */
#include "sinks/redis_resp.h"

#include <stdlib.h>

#define LONGEST_LINE 65536
#define MOST ((long long)2 << 30)

/* Reads a number from the text of a line. */
static bool read_number(const char *text, size_t len, long long *n)
{
    char digits[32], *end;

    if (len == 0 || len >= sizeof digits)
        return false;
    memcpy(digits, text, len);
    digits[len] = '\0';
    *n = strtoll(digits, &end, 10);
    return *end == '\0';
}

size_t redis_resp_parse(const struct buf *b, size_t at, struct redis_resp *v)
{
    const char *from, *eol;
    size_t len = b->len - at, after;

    if (len == 0)
        return 0;
    from = b->data + at;
    eol = memchr(from, '\n', len < LONGEST_LINE ? len : LONGEST_LINE);
    if (eol == NULL)
        return len < LONGEST_LINE ? 0 : REDIS_RESP_NONSENSE;
    if (eol - from < 2 || eol[-1] != '\r')
        return REDIS_RESP_NONSENSE;
    after = at + (size_t)(eol - from) + 1;
    *v = (struct redis_resp){ *from, from + 1, (size_t)(eol - from) - 2, 0 };
    if (*from == '+' || *from == '-')
        return after;
    if (!read_number(v->text, v->len, &v->number))
        return REDIS_RESP_NONSENSE;
    if (*from == ':')
        return after;
    if ((*from != '$' && *from != '*') || v->number > MOST || v->number < -1)
        return REDIS_RESP_NONSENSE;
    if (v->number < 0) {
        v->kind = 0;
    } else if (*from == '$') {
        if (b->len - after < (size_t)v->number + 2)
            return 0;
        v->text = b->data + after;
        v->len = (size_t)v->number;
        after += v->len + 2;
    }
    return after;
}
