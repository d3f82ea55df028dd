/* copytext.c -- the fields of a line of COPY in text format.
 * SPDX-License-Identifier: MIT */
#include "pg/copytext.h"

#include "base/text.h"

bool copytext_split(const char *line, size_t len, uint32_t *ends, size_t n)
{
    const char *p = line, *end = line + len;

    for (size_t i = 0; i < n; i++) {
        const char *tab = i + 1 < n ? memchr(p, '\t', (size_t)(end - p)) : end;

        if (tab == NULL)
            return false;
        ends[i] = (uint32_t)(tab - line);
        p = tab + 1;
    }
    return n > 0 ? memchr(line + (n > 1 ? ends[n - 2] + 1 : 0), '\t',
                          len - (n > 1 ? ends[n - 2] + 1 : 0)) == NULL
                 : len == 0;
}

bool copytext_is_null(struct copytext_field f)
{
    return f.len == 2 && f.p[0] == '\\' && f.p[1] == 'N';
}

bool copytext_is_unknown(struct copytext_field f)
{
    return f.len == 2 && memcmp(f.p, COPYTEXT_UNKNOWN, 2) == 0;
}

char copytext_unescape_char(char c)
{
    switch (c) {
    case 'b': return '\b';
    case 'f': return '\f';
    case 'n': return '\n';
    case 'r': return '\r';
    case 't': return '\t';
    case 'v': return '\v';
    default: return c;
    }
}

size_t copytext_unescape(struct copytext_field f, char *to)
{
    const char *p = f.p, *end = f.p + f.len;
    char *start = to;

    while (p < end) {
        const char *slash = memchr(p, '\\', (size_t)(end - p));
        size_t n = (size_t)((slash != NULL ? slash : end) - p);

        memcpy(to, p, n);
        to += n;
        p += n;
        if (slash != NULL) {
            *to++ = p + 1 < end ? copytext_unescape_char(p[1]) : '\\';
            p += 2;
        }
    }
    return (size_t)(to - start);
}

void copytext_escape(struct buf *b, const char *s, size_t len)
{
    const char *end = s + len;

    while (s < end) {
        const char *p = s;

        while (p < end && *p != '\\' && *p != '\t' && *p != '\n' && *p != '\r')
            p++;
        buf_add(b, s, (size_t)(p - s));
        if (p < end) {
            buf_putc(b, '\\');
            buf_putc(b, *p == '\t' ? 't' : *p == '\n' ? 'n' : *p == '\r' ? 'r' : '\\');
            p++;
        }
        s = p;
    }
}

/* Moves *p to the field after the one that ends at <at>. False if none ends there. */
static bool end_field(const char **p, const char *at, const char *end)
{
    if (at != end && *at != '\t')
        return false;
    *p = at + (at != end);
    return true;
}

bool copytext_read_u64(const char **p, const char *end, uint64_t *n)
{
    const char *s = *p;

    return text_read_u64(&s, end, n) && end_field(p, s, end);
}

bool copytext_read_i64(const char **p, const char *end, int64_t *n)
{
    const char *s = *p;

    return text_read_i64(&s, end, n) && end_field(p, s, end);
}

bool copytext_skip_null(const char **p, const char *end)
{
    if (end - *p < 3 || memcmp(*p, "\\N\t", 3) != 0)
        return false;
    *p += 3;
    return true;
}
