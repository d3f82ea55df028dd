/* buf.h -- a growable run of bytes.
 *
 * An append fails if there is no memory, or if the buffer would have more than the
 * maximum given to buf_init. After that all appends do nothing, and buf_ok is false.
 * So a function that builds text checks once, at its end.
 *
 * SPDX-License-Identifier: MIT */
#ifndef BUF_H
#define BUF_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct buf {
    char *data; /* <len> bytes, and a NUL after an append; NULL before the first one */
    size_t len;
    size_t cap;
    size_t max;
    bool failed;
};

#define BUF_SQL_MAX ((size_t)4 << 20) /* the longest SQL or description that we build */

/* Makes an empty buffer, of <max> bytes at most. Allocates nothing. */
void buf_init(struct buf *b, size_t max);

/* Frees the memory. <b> is then as after buf_init. */
void buf_fini(struct buf *b);

/* Empties <b> and forgets a failure; keeps the memory. */
void buf_clear(struct buf *b);

/* True if everything appended so far is there. */
bool buf_ok(const struct buf *b);

/* Makes room for <n> more bytes and a NUL. Returns where they go, or NULL. The caller
 * writes them and adds their number to b->len. (buf_grow: for buf_reserve only.) */
char *buf_grow(struct buf *b, size_t n);
static inline char *buf_reserve(struct buf *b, size_t n)
{
    return b->cap > b->len && n < b->cap - b->len && !b->failed ? b->data + b->len
                                                                : buf_grow(b, n);
}

static inline void buf_add(struct buf *b, const void *p, size_t n)
{
    char *to = buf_reserve(b, n);

    if (to == NULL)
        return;
    if (n > 0)
        memcpy(to, p, n);
    to[n] = '\0';
    b->len += n;
}

static inline void buf_putc(struct buf *b, char c)
{
    buf_add(b, &c, 1);
}

static inline void buf_puts(struct buf *b, const char *s)
{
    buf_add(b, s, strlen(s));
}

/* Appends <n> in decimal digits. */
void buf_put_u64(struct buf *b, uint64_t n);
void buf_printf(struct buf *b, const char *fmt, ...) WARN_PRINTF(2, 3);

/* Hands the bytes over, NUL-terminated, and leaves <b> empty. Returns owned
 * memory (free), or NULL if something was not appended. */
char *buf_take(struct buf *b);

#endif
