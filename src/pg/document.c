/* document.c -- whether a text is JSON.
 * SPDX-License-Identifier: MIT */
#include "pg/document.h"

#include "base/text.h"

#include <string.h>

bool document_is_number(const char *s, size_t len)
{
    const char *end = s + len;

#define DIGITS(at_least) do { const char *d = s; \
        while (s < end && *s >= '0' && *s <= '9') s++; \
        if (s - d < (at_least)) return false; } while (0)
    if (s < end && *s == '-')
        s++;
    if (s < end && *s == '0')
        s++;
    else
        DIGITS(1);
    if (s < end && *s == '.') {
        s++;
        DIGITS(1);
    }
    if (s < end && (*s == 'e' || *s == 'E')) {
        s++;
        if (s < end && (*s == '+' || *s == '-'))
            s++;
        DIGITS(1);
    }
#undef DIGITS
    return s == end && len > 0;
}

/* What is open, a bit for each: 1 is an object. */
struct levels {
    unsigned char is_object[DOCUMENT_DEPTH / 8];
    size_t n;
};

static bool push(struct levels *l, bool is_object)
{
    unsigned char bit = (unsigned char)(1u << l->n % 8);

    if (l->n == DOCUMENT_DEPTH)
        return false;
    if (is_object)
        l->is_object[l->n / 8] |= bit;
    else
        l->is_object[l->n / 8] &= (unsigned char)~bit;
    l->n++;
    return true;
}

static bool is_in_object(const struct levels *l)
{
    return l->n > 0 && (l->is_object[(l->n - 1) / 8] >> (l->n - 1) % 8 & 1) != 0;
}

static const char *skip_blanks(const char *p, const char *end)
{
    while (p < end && *p == ' ')
        p++;
    return p;
}

/* Each returns what follows, or NULL. */

static const char *skip_string(const char *p, const char *end)
{
    if (p == end || *p++ != '"')
        return NULL;
    for (; p < end; p++) {
        if (*p == '"')
            return p + 1;
        if ((unsigned char)*p < 0x20)
            return NULL;
        if (*p != '\\')
            continue;
        if (++p == end || *p == '\0' || strchr("\"\\/bfnrtu", *p) == NULL)
            return NULL;
        if (*p != 'u')
            continue;
        for (int i = 0; i < 4; i++)
            if (++p == end || text_hex_digit(*p) < 0)
                return NULL;
    }
    return NULL;
}

static const char *skip_scalar(const char *p, const char *end)
{
    static const char *const words[] = { "true", "false", "null" };
    const char *start = p;

    if (p < end && *p == '"')
        return skip_string(p, end);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t n = strlen(words[i]);

        if ((size_t)(end - p) >= n && memcmp(p, words[i], n) == 0)
            return p + n;
    }
    while (p < end && *p != '\0' && strchr("+-.0123456789Ee", *p) != NULL)
        p++;
    return document_is_number(start, (size_t)(p - start)) ? p : NULL;
}

static const char *skip_name(const char *p, const char *end)
{
    p = skip_string(skip_blanks(p, end), end);
    if (p == NULL || (p = skip_blanks(p, end)) == end || *p != ':')
        return NULL;
    return p + 1;
}

/* The value at <p>, or as much of it as opens levels. *is_whole: it is over. */
static const char *enter(struct levels *l, const char *p, const char *end, bool *is_whole)
{
    bool is_object;

    *is_whole = true;
    p = skip_blanks(p, end);
    if (p == end || (*p != '{' && *p != '['))
        return skip_scalar(p, end);
    is_object = *p == '{';
    p = skip_blanks(p + 1, end);
    if (p < end && *p == (is_object ? '}' : ']'))
        return p + 1;
    *is_whole = false;
    if (!push(l, is_object))
        return NULL;
    return is_object ? skip_name(p, end) : p;
}

bool document_check(const char *s, size_t len)
{
    const char *p = s, *end = s + len;
    struct levels l;
    bool is_whole = false;

    l.n = 0;
    for (;;) {
        while (!is_whole)
            if ((p = enter(&l, p, end, &is_whole)) == NULL)
                return false;
        p = skip_blanks(p, end);
        if (l.n == 0)
            return p == end;
        if (p == end)
            return false;
        if (*p == ',') {
            p = is_in_object(&l) ? skip_name(p + 1, end) : p + 1;
            if (p == NULL)
                return false;
            is_whole = false;
        } else if (*p == (is_in_object(&l) ? '}' : ']')) {
            p++;
            l.n--;
        } else {
            return false;
        }
    }
}
