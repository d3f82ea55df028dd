/* id_part.c -- the parts of an id, which separators end.
 * SPDX-License-Identifier: MIT */
#include "lua/id_part.h"

#include <string.h>

static const char hex[] = "0123456789ABCDEF";

static bool is_hex(const char *s, char c)
{
    return s[0] == hex[(unsigned char)c >> 4] && s[1] == hex[(unsigned char)c & 15];
}

bool id_part_is(const char *s, size_t len, char c, size_t *n)
{
    *n = 1;
    if (len == 0 || *s != '%')
        return len > 0 && *s == c;
    while (len >= *n + 4 && is_hex(s + *n, '%'))
        *n += 2;
    if (len < *n + 2 || !is_hex(s + *n, c))
        return false;
    *n += 2;
    return true;
}

size_t id_part_escape(char *to, const char *s, size_t n)
{
    to[0] = '%';
    to[1] = hex[(unsigned char)*s >> 4];
    to[2] = hex[(unsigned char)*s & 15];
    memcpy(to + 3, s + 1, n - 1);
    return n + 2;
}

size_t id_part_write(char *to, const char *s, size_t len, const char *separators)
{
    const char *end = s + len;
    size_t written = 0, n;

    for (; s < end; s += n) {
        const char *c = separators;

        while (*c != '\0' && !id_part_is(s, (size_t)(end - s), *c, &n))
            c++;
        if (*c == '\0') {
            n = 1;
            to[written++] = *s;
        } else {
            written += id_part_escape(to + written, s, n);
        }
    }
    return written;
}
