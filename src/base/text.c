/* text.c -- small tools for text.
 * SPDX-License-Identifier: MIT */
#include "base/text.h"

#include "base/buf.h"

#include <stdlib.h>
#include <string.h>

#define LETTERS 64

size_t text_utf8_length(const char *s, size_t len)
{
    const unsigned char *u = (const unsigned char *)s;
    size_t n = u[0] < 0x80 ? 1 : u[0] < 0xC2 ? 0 : u[0] < 0xE0 ? 2 : u[0] < 0xF0 ? 3
             : u[0] < 0xF5 ? 4 : 0;

    if (n == 0 || n > len)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((u[i] & 0xC0) != 0x80)
            return 0;
    if ((u[0] == 0xE0 && u[1] < 0xA0) || (u[0] == 0xED && u[1] > 0x9F) ||
        (u[0] == 0xF0 && u[1] < 0x90) || (u[0] == 0xF4 && u[1] > 0x8F))
        return 0;
    return n;
}

/* The character at <s>, which is one of <len> bytes. */
static uint32_t decode(const char *s, size_t len)
{
    static const unsigned char first[] = { 0, 0x7f, 0x1f, 0x0f, 0x07 };
    uint32_t c = (unsigned char)s[0] & first[len];

    for (size_t i = 1; i < len; i++)
        c = c << 6 | ((unsigned char)s[i] & 0x3f);
    return c;
}

static bool is_control(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x61c || c == 0x200e || c == 0x200f ||
           (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) || c == 0xfeff ||
           (c >= 0xfff9 && c <= 0xfffb);
}

bool text_is_control(const char *s, size_t len)
{
    return is_control(decode(s, len));
}

void text_put_plain(struct buf *b, const char *s, size_t n)
{
    for (size_t i = 0; i < n; ) {
        size_t len = text_utf8_length(s + i, n - i);
        uint32_t c = len > 0 ? decode(s + i, len) : 0xfffd;

        if (len == 0)
            buf_puts(b, "\xef\xbf\xbd");
        else if (c == '\n' || c == '\t')
            buf_puts(b, c == '\n' ? "\\n" : "\\t");
        else if (is_control(c))
            buf_printf(b, "\\u%04x", (unsigned)c);
        else
            buf_add(b, s + i, len);
        i += len > 0 ? len : 1;
    }
}

/* ---- numbers ---- */

bool text_read_u64(const char **p, const char *end, uint64_t *n)
{
    const char *s = *p;
    uint64_t v = 0;

    for (; s != end && *s >= '0' && *s <= '9'; s++) {
        uint64_t digit = (uint64_t)(*s - '0');

        if (v >= UINT64_MAX / 10 && (v > UINT64_MAX / 10 || digit > UINT64_MAX % 10))
            return false;
        v = v * 10 + digit;
    }
    if (s == *p)
        return false;
    *p = s;
    *n = v;
    return true;
}

bool text_read_i64(const char **p, const char *end, int64_t *n)
{
    bool is_negative = *p != end && **p == '-';
    const char *s = *p + is_negative;
    uint64_t v;

    if (!text_read_u64(&s, end, &v) || v > (uint64_t)INT64_MAX + is_negative)
        return false;
    *p = s;
    *n = is_negative ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

bool text_is_u64(const char *text, uint64_t *n)
{
    if (text_read_u64(&text, NULL, n) && *text == '\0')
        return true;
    *n = 0;
    return false;
}

bool text_is_i64(const char *text, int64_t *n)
{
    if (text_read_i64(&text, NULL, n) && *text == '\0')
        return true;
    *n = 0;
    return false;
}

bool text_read_size(const char *text, double *bytes)
{
    static const char units[] = "KMGT";
    char *end;
    double n = strtod(text, &end);
    const char *unit = (*end & ~0x20) != '\0' ? strchr(units, *end & ~0x20) : NULL;

    if (end == text || !(n > 0) || (*end != '\0' && (unit == NULL || end[1] != '\0')))
        return false;
    for (const char *u = units; unit != NULL && u <= unit; u++)
        n *= 1024;
    *bytes = n;
    return true;
}

/* ---- hex ---- */

char *text_put_hex(char *to, const void *p, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *s = p;

    for (size_t i = 0; i < len; i++) {
        *to++ = digits[s[i] >> 4];
        *to++ = digits[s[i] & 15];
    }
    return to;
}

int text_hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

/* ---- names ---- */

static int compare_names(const void *a, const void *b)
{
    const struct text_name *x = a, *y = b;
    int order = memcmp(x->p, y->p, x->len < y->len ? x->len : y->len);

    return order != 0 ? order : x->len < y->len ? -1 : x->len > y->len;
}

void text_sort_names(struct text_name *names, size_t n)
{
    if (n > 1)
        qsort(names, n, sizeof *names, compare_names);
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

size_t text_distance(const char *a, const char *b)
{
    size_t n = strnlen(a, LETTERS), m = strnlen(b, LETTERS);
    size_t row[LETTERS + 1];

    for (size_t j = 0; j <= m; j++)
        row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t cost = diagonal + (lower(a[i - 1]) != lower(b[j - 1]));

            diagonal = row[j];
            if (row[j] + 1 < cost)
                cost = row[j] + 1;
            if (row[j - 1] + 1 < cost)
                cost = row[j - 1] + 1;
            row[j] = cost;
        }
    }
    return row[m];
}

const char *text_nearest(const char *word, const char *const *names, size_t n)
{
    const char *nearest = NULL;
    size_t best = SIZE_MAX;

    for (size_t i = 0; i < n; i++) {
        size_t d = text_distance(word, names[i]);

        if (d < best) {
            best = d;
            nearest = names[i];
        }
    }
    return best <= 1 + strlen(word) / 3 ? nearest : NULL;
}
