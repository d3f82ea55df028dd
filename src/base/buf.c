/* buf.c -- a growable run of bytes.
 * SPDX-License-Identifier: MIT */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void buf_init(struct buf *b, size_t max)
{
    *b = (struct buf){ .max = max };
}

void buf_fini(struct buf *b)
{
    free(b->data);
    *b = (struct buf){ .max = b->max };
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    b->failed = false;
}

bool buf_ok(const struct buf *b)
{
    return !b->failed;
}

char *buf_grow(struct buf *b, size_t n)
{
    size_t need, cap;
    char *p;

    if (b->failed || n > b->max - b->len) {
        b->failed = true;
        return NULL;
    }
    need = b->len + n + 1;
    if (need > b->cap) {
        cap = b->cap < 64 ? 64 : b->cap;
        while (cap < need)
            cap += cap / 2;
        if (cap - 1 > b->max) /* buf_reserve looks at cap only */
            cap = b->max + 1;
        p = realloc(b->data, cap);
        if (p == NULL) {
            b->failed = true;
            return NULL;
        }
        b->data = p;
        b->cap = cap;
    }
    return b->data + b->len;
}

void buf_put_u64(struct buf *b, uint64_t n)
{
    static const char pairs[] =
        "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
        "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
        "8081828384858687888990919293949596979899";
    char digits[20], *p = digits + sizeof digits;

    for (; n > 9; n /= 100)
        memcpy(p -= 2, pairs + 2 * (n % 100), 2);
    if (n > 0 || p == digits + sizeof digits)
        *--p = (char)('0' + n);
    buf_add(b, p, (size_t)(digits + sizeof digits - p));
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0 || buf_reserve(b, (size_t)n) == NULL) {
        b->failed = true;
        return;
    }
    va_start(ap, fmt);
    vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
}

char *buf_take(struct buf *b)
{
    char *p = NULL;

    if (!b->failed && buf_reserve(b, 0) != NULL) {
        b->data[b->len] = '\0';
        p = b->data;
        b->data = NULL;
    }
    buf_fini(b);
    return p;
}
