/* bytes.c -- numbers and texts of a message.
 * SPDX-License-Identifier: MIT */
#include "base/bytes.h"

#include <string.h>

static bool read(struct bytes *b, size_t size, uint64_t *n)
{
    *n = 0;
    if (b->left < size)
        return false;
    for (size_t i = 0; i < size; i++)
        *n = *n << 8 | (uint8_t)b->p[i];
    b->p += size;
    b->left -= size;
    return true;
}

bool bytes_u8(struct bytes *b, uint8_t *n)
{
    uint64_t wide;
    bool ok = read(b, 1, &wide);

    *n = (uint8_t)wide;
    return ok;
}

bool bytes_u16(struct bytes *b, uint16_t *n)
{
    uint64_t wide;
    bool ok = read(b, 2, &wide);

    *n = (uint16_t)wide;
    return ok;
}

bool bytes_u32(struct bytes *b, uint32_t *n)
{
    uint64_t wide;
    bool ok = read(b, 4, &wide);

    *n = (uint32_t)wide;
    return ok;
}

bool bytes_u64(struct bytes *b, uint64_t *n)
{
    return read(b, 8, n);
}

bool bytes_i64(struct bytes *b, int64_t *n)
{
    uint64_t wide;
    bool ok = read(b, 8, &wide);

    *n = (int64_t)wide;
    return ok;
}

bool bytes_text(struct bytes *b, const char **text)
{
    const char *end = b->left > 0 ? memchr(b->p, '\0', b->left) : NULL;

    if (end == NULL)
        return false;
    return bytes_run(b, (size_t)(end + 1 - b->p), text);
}

bool bytes_run(struct bytes *b, size_t len, const char **p)
{
    if (b->left < len)
        return false;
    *p = b->p;
    b->p += len;
    b->left -= len;
    return true;
}

char *bytes_put_u8(char *to, uint8_t n)
{
    *to = (char)n;
    return to + 1;
}

char *bytes_put_u64(char *to, uint64_t n)
{
    for (int shift = 56; shift >= 0; shift -= 8)
        to = bytes_put_u8(to, (uint8_t)(n >> shift));
    return to;
}
