/* types.c -- which kinds of column there are, and what their text means.
 *
 * JSON writes b f n r t and the backslash in the very same way as COPY's text
 * format does, so that most text goes from one to the other as it stands.
 *
 * SPDX-License-Identifier: MIT */
#include "pg/types.h"

#include "base/text.h"
#include "pg/document.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BOOL = 16, BYTEA = 17, INT8 = 20, INT2 = 21, INT4 = 23, JSON = 114, FLOAT4 = 700,
       FLOAT8 = 701, TIMESTAMP = 1114, TIMESTAMPTZ = 1184, NUMERIC = 1700, JSONB = 3802 };

enum types_kind types_kind_of(const struct types_facts *t)
{
    switch (t->oid) {
    case BOOL:
        return TYPES_BOOL;
    case BYTEA:
        return TYPES_BYTEA;
    case INT2:
    case INT4:
    case INT8:
        return TYPES_INT;
    case FLOAT4:
    case FLOAT8:
        return TYPES_FLOAT;
    case NUMERIC:
        return TYPES_NUMERIC;
    case TIMESTAMP:
    case TIMESTAMPTZ:
        return TYPES_TIMESTAMP;
    case JSON:
    case JSONB:
        return TYPES_JSON;
    default:
        return types_wants_to_json(t) ? TYPES_JSON : TYPES_TEXT;
    }
}

bool types_wants_to_json(const struct types_facts *t)
{
    return t->is_array || t->is_composite || t->has_json_cast;
}

size_t types_timestamp(struct copytext_field f, char *to)
{
    char *start = to;
    size_t i = 0, tail;

    /* infinity and -infinity have no blank; in other values the first one is before the time */
    while (i < f.len && f.p[i] != ' ')
        i++;
    memcpy(to, f.p, i);
    to += i;
    if (i == f.len)
        return i;
    *to++ = 'T';
    tail = ++i;
    while (i < f.len && f.p[i] != '+' && f.p[i] != '-' && f.p[i] != ' ')
        i++;
    memcpy(to, f.p + tail, i - tail);
    to += i - tail;
    if (i < f.len && f.p[i] != ' ') { /* the zone: +00 becomes +00:00 */
        size_t zone = i;

        while (i < f.len && f.p[i] != ' ')
            i++;
        memcpy(to, f.p + zone, i - zone);
        to += i - zone;
        if (i - zone == 3) {
            memcpy(to, ":00", 3);
            to += 3;
        }
    }
    memcpy(to, f.p + i, f.len - i); /* " BC" */
    to += f.len - i;
    return (size_t)(to - start);
}

bool types_bytea(struct copytext_field f, char *to, size_t *len)
{
    if (f.len < 3 || memcmp(f.p, "\\\\x", 3) != 0 || f.len % 2 == 0)
        return false;
    *len = (f.len - 3) / 2;
    for (size_t i = 0; i < *len; i++) {
        int hi = text_hex_digit(f.p[3 + 2 * i]), lo = text_hex_digit(f.p[4 + 2 * i]);

        if (hi < 0 || lo < 0)
            return false;
        to[i] = (char)(hi << 4 | lo);
    }
    return true;
}

void types_float_text(double d, char text[TYPES_FLOAT_TEXT])
{
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, TYPES_FLOAT_TEXT, "%.*g", digits, d);
        if (strtod(text, NULL) == d)
            return;
    }
}

/* Bytes that may stand in a JSON string as they are: not controls, the quote, the backslash, and
 * those from 0x80 on, which may be no UTF-8. */
static const bool is_plain[256] = {
    [' '] = true, ['!'] = true,
#define P4(x) [x] = true, [(x) + 1] = true, [(x) + 2] = true, [(x) + 3] = true
    ['#'] = true, P4('$'), P4('('), P4(','), P4('0'), P4('4'), P4('8'), P4('<'), P4('@'), P4('D'),
    P4('H'), P4('L'), P4('P'), P4('T'), ['X'] = true, ['Y'] = true, ['Z'] = true, ['['] = true,
    [']'] = true, ['^'] = true, ['_'] = true, P4('`'), P4('d'), P4('h'), P4('l'), P4('p'), P4('t'),
    P4('x'), ['|'] = true, ['}'] = true, ['~'] = true, [0x7f] = true,
#undef P4
};

/* Writes one control byte as JSON escapes it. Returns the bytes written, at most 6. */
static size_t put_control(char *to, unsigned char c)
{
    const char *names = "\bb\ff\nn\rr\tt";

    for (size_t i = 0; i < 10; i += 2)
        if ((unsigned char)names[i] == c) {
            to[0] = '\\';
            to[1] = names[i + 1];
            return 2;
        }
    memcpy(to, "\\u00", 4);
    text_put_hex(to + 4, &c, 1);
    return 6;
}

/* How many bytes from <p> on may stand in a JSON string as they are; eight at a time as
 * long as none of them is below blank, a quote, a backslash, or above ASCII. */
static size_t count_plain(const char *p, const char *end)
{
    const uint64_t ones = 0x0101010101010101u, tops = 0x8080808080808080u;
    const char *start = p;

    while (end - p >= 8) {
        uint64_t w, quote, slash;

        memcpy(&w, p, 8);
        quote = w ^ ones * '"';
        slash = w ^ ones * '\\';
        if ((((w - ones * 0x20) | (quote - ones) | (slash - ones) | w) & tops) != 0)
            break;
        p += 8;
    }
    while (p < end && is_plain[(unsigned char)*p])
        p++;
    return (size_t)(p - start);
}

/* Appends text as a part of a JSON string. <from_copy>: backslashes in it are those of COPY. */
static bool put_text(struct buf *b, const char *s, size_t len, bool from_copy)
{
    const char *p = s, *end = s + len;
    char *to;

    while (p < end) {
        const char *run = p;
        size_t n;

        p += count_plain(p, end);
        buf_add(b, run, (size_t)(p - run));
        if (p == end)
            break;
        if ((unsigned char)*p >= 0x80) {
            for (run = p; p < end && (unsigned char)*p >= 0x80; p += n)
                if ((n = text_utf8_length(p, (size_t)(end - p))) == 0)
                    return false;
            buf_add(b, run, (size_t)(p - run));
            continue;
        }
        if ((to = buf_reserve(b, 6)) == NULL)
            return true; /* buf_ok tells */
        if (*p == '"') {
            memcpy(to, "\\\"", 2);
            n = 2;
        } else if (*p == '\\' && !from_copy) {
            memcpy(to, "\\\\", 2);
            n = 2;
        } else if (*p == '\\') {
            char c = ++p < end ? *p : '\\';

            n = c == '\\' ? (memcpy(to, "\\\\", 2), (size_t)2)
                          : put_control(to, (unsigned char)copytext_unescape_char(c));
        } else {
            n = put_control(to, (unsigned char)*p);
        }
        p++;
        b->len += n;
    }
    return true;
}

static bool put_string(struct buf *b, const char *s, size_t len, bool from_copy)
{
    bool ok;

    buf_putc(b, '"');
    ok = put_text(b, s, len, from_copy);
    buf_putc(b, '"');
    return ok;
}

bool types_put_string(struct buf *b, const char *s, size_t len)
{
    return put_string(b, s, len, false);
}

/* Appends a JSON document as the server wrote it, on one line: a JSON string has no raw control
 * characters, so every newline is white space, and becomes a blank. False if it is none. */
static bool put_document(struct buf *b, struct copytext_field f)
{
    char *to = buf_reserve(b, f.len);
    size_t n, i;

    if (to == NULL)
        return true;
    n = copytext_unescape(f, to);
    for (i = 0; i < n; i++) {
        size_t w;

        if ((unsigned char)to[i] < 0x20)
            to[i] = ' ';
        if ((unsigned char)to[i] < 0x80)
            continue;
        if ((w = text_utf8_length(to + i, n - i)) == 0)
            return false;
        i += w - 1;
    }
    if (!document_check(to, n))
        return false;
    b->len += n;
    b->data[b->len] = '\0';
    return true;
}

bool types_is_integer(struct copytext_field f)
{
    const char *p = f.p, *end = f.p + f.len;
    int64_t n;

    return text_read_i64(&p, end, &n) && p == end && document_is_number(f.p, f.len);
}

bool types_put_json(struct buf *b, enum types_kind kind, struct copytext_field f)
{
    switch (kind) {
    case TYPES_BOOL:
        buf_puts(b, f.len == 1 && f.p[0] == 't' ? "true" : "false");
        return f.len == 1 && (f.p[0] == 't' || f.p[0] == 'f');
    case TYPES_INT:
        buf_add(b, f.p, f.len);
        return types_is_integer(f);
    case TYPES_FLOAT:
    case TYPES_NUMERIC:
        if (!document_is_number(f.p, f.len))
            return put_string(b, f.p, f.len, true);
        buf_add(b, f.p, f.len);
        return true;
    case TYPES_TIMESTAMP: {
        char text[96];

        if (f.len + 3 > sizeof text)
            return put_string(b, f.p, f.len, true);
        return put_string(b, text, types_timestamp(f, text), true);
    }
    case TYPES_JSON:
        return put_document(b, f);
    case TYPES_BYTEA:
    case TYPES_TEXT:
        break;
    }
    return put_string(b, f.p, f.len, true);
}

bool types_put_text(struct buf *b, enum types_kind kind, struct copytext_field f)
{
    char text[96];

    if (kind == TYPES_TIMESTAMP && f.len + 3 <= sizeof text)
        return put_text(b, text, types_timestamp(f, text), true);
    return put_text(b, f.p, f.len, true);
}
