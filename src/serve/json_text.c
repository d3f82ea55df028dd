/* json_text.c -- JSON, written piece by piece.
 * SPDX-License-Identifier: MIT */
#include "serve/json_text.h"

#include "base/clock.h"
#include "base/text.h"

#include <math.h>

static void put_quoted(struct buf *b, const char *s)
{
    size_t len = strlen(s);

    buf_putc(b, '"');
    for (size_t i = 0, n; i < len; i += n > 0 ? n : 1) {
        unsigned char c = (unsigned char)s[i];

        n = text_utf8_length(s + i, len - i);
        if (n == 0)
            buf_puts(b, "\xef\xbf\xbd");
        else if (c == '"' || c == '\\')
            buf_printf(b, "\\%c", c);
        else if (c < ' ' || c == 127)
            buf_printf(b, "\\u%04x", c);
        else
            buf_add(b, s + i, n);
    }
    buf_putc(b, '"');
}

static void put_key(struct json_text *j, const char *key)
{
    if (j->wants_comma)
        buf_putc(j->to, ',');
    j->wants_comma = true;
    if (key == NULL)
        return;
    put_quoted(j->to, key);
    buf_putc(j->to, ':');
}

void json_text_begin(struct json_text *j, const char *key, char bracket)
{
    put_key(j, key);
    buf_putc(j->to, bracket);
    j->wants_comma = false;
}

void json_text_end(struct json_text *j, char bracket)
{
    buf_putc(j->to, bracket);
    j->wants_comma = true;
}

void json_text_raw(struct json_text *j, const char *key, const char *json)
{
    put_key(j, key);
    buf_puts(j->to, json != NULL ? json : "null");
}

void json_text_string(struct json_text *j, const char *key, const char *text)
{
    if (text == NULL) {
        json_text_raw(j, key, NULL);
        return;
    }
    put_key(j, key);
    put_quoted(j->to, text);
}

void json_text_u64(struct json_text *j, const char *key, uint64_t n)
{
    put_key(j, key);
    buf_put_u64(j->to, n);
}

void json_text_bool(struct json_text *j, const char *key, bool is)
{
    json_text_raw(j, key, is ? "true" : "false");
}

void json_text_seconds(struct json_text *j, const char *key, double n)
{
    if (!isfinite(n)) {
        json_text_raw(j, key, NULL);
        return;
    }
    put_key(j, key);
    buf_printf(j->to, "%.3f", n);
}

void json_text_time(struct json_text *j, const char *key, int64_t us)
{
    char text[CLOCK_TEXT];

    if (us == 0) {
        json_text_raw(j, key, NULL);
        return;
    }
    clock_write(us, text);
    json_text_string(j, key, text);
}
