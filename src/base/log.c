/* log.c -- lines on standard error.
 * SPDX-License-Identifier: MIT */
#include "base/log.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_BYTES ((size_t)256 << 10)

static const char *const names[] = { "error", "warn", "info", "debug" };

int log_level_by_name(const char *name)
{
    for (int i = 0; i < 4; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return -1;
}

/* A quoted string that is valid in logfmt and in JSON alike. */
static void put_quoted(struct buf *b, const char *s, size_t n)
{
    size_t from = 0;

    buf_putc(b, '"');
    for (size_t i = 0; i < n; i++)
        if (s[i] == '"' || s[i] == '\\') {
            text_put_plain(b, s + from, i - from);
            buf_putc(b, '\\');
            buf_putc(b, s[i]);
            from = i + 1;
        }
    text_put_plain(b, s + from, n - from);
    buf_putc(b, '"');
}

static bool is_bare(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] <= ' ' || (unsigned char)s[i] >= 0x7f ||
            strchr("\"=\\", s[i]) != NULL)
            return false;
    return n > 0;
}

/* A key without bytes that would end it, and without controls. */
static void put_bare_key(struct buf *b, const char *key)
{
    size_t n = strlen(key), len;

    for (size_t i = 0; i < n; i += len > 0 ? len : 1) {
        len = text_utf8_length(key + i, n - i);
        if (len == 0 || strchr(" \"=", key[i]) != NULL || text_is_control(key + i, len))
            buf_putc(b, '_');
        else
            buf_add(b, key + i, len);
    }
}

static void put_field(struct buf *b, bool as_json, const struct log_field *f)
{
    if (as_json) {
        buf_putc(b, ',');
        put_quoted(b, f->key, strlen(f->key));
        buf_putc(b, ':');
    } else {
        buf_putc(b, ' ');
        put_bare_key(b, f->key);
        buf_putc(b, '=');
    }
    if (f->raw || (!as_json && is_bare(f->value, f->len)))
        buf_add(b, f->value, f->len);
    else
        put_quoted(b, f->value, f->len);
}

static void write_out(const char *p, size_t n)
{
    while (n > 0) {
        ssize_t w = write(STDERR_FILENO, p, n);

        if (w <= 0)
            return;
        p += w;
        n -= (size_t)w;
    }
}

/* For a line that is too long or that there is no memory for: no fields, only plain characters. */
static void write_short(const struct log *log, const char *ts, enum log_level level,
                        const char *msg, size_t len)
{
    char line[400], text[256];
    size_t n = 0;

    for (; n < len && n < sizeof text; n++)
        text[n] = msg[n] < ' ' || msg[n] > '~' || msg[n] == '"' || msg[n] == '\\' ? '?' : msg[n];
    snprintf(line, sizeof line, log->as_json ? "{\"ts\":\"%s\",\"level\":\"%s\",\"msg\":\"%.*s\"}\n"
                                             : "ts=%s level=%s msg=\"%.*s\"\n",
             ts, names[level], (int)n, text);
    write_out(line, strlen(line));
}

void log_line(struct log *log, enum log_level level, const char *msg, size_t len,
              const struct log_field *fields, size_t n_fields)
{
    char ts[CLOCK_TEXT];
    struct buf b;

    if (level > log->level)
        return;
    clock_utc(ts);
    buf_init(&b, LINE_MAX_BYTES);
    if (log->bar_shown) {
        buf_puts(&b, "\r\x1b[K");
        log->bar_shown = false;
    }
    if (log->as_json)
        buf_printf(&b, "{\"ts\":\"%s\",\"level\":\"%s\",\"msg\":", ts, names[level]);
    else
        buf_printf(&b, "ts=%s level=%s msg=", ts, names[level]);
    put_quoted(&b, msg, len);
    for (size_t i = 0; i < n_fields; i++)
        put_field(&b, log->as_json, &fields[i]);
    if (log->worker != NULL) {
        const struct log_field f = { "worker", log->worker, strlen(log->worker), false };

        put_field(&b, log->as_json, &f);
    }
    buf_puts(&b, log->as_json ? "}\n" : "\n");
    if (buf_ok(&b))
        write_out(b.data, b.len);
    else
        write_short(log, ts, level, msg, len);
    buf_fini(&b);
}

void log_text(struct log *log, enum log_level level, const char *msg, const char *key,
              const char *value)
{
    struct log_field f = { key, value, value != NULL ? strlen(value) : 0, false };

    log_line(log, level, msg, strlen(msg), &f, key != NULL && value != NULL ? 1 : 0);
}

void log_usage(const char *msg)
{
    struct buf b;

    buf_init(&b, LINE_MAX_BYTES);
    buf_puts(&b, "pgcdc-lua: ");
    text_put_plain(&b, msg, strlen(msg));
    buf_putc(&b, '\n');
    if (buf_ok(&b))
        write_out(b.data, b.len);
    buf_fini(&b);
}

void log_bar(struct log *log, const char *text)
{
    struct buf b;

    if (text == NULL && !log->bar_shown)
        return;
    write_out("\r\x1b[K", 4);
    buf_init(&b, LINE_MAX_BYTES);
    if (text != NULL)
        text_put_plain(&b, text, strlen(text));
    if (b.len > 0)
        write_out(b.data, b.len);
    buf_fini(&b);
    log->bar_shown = text != NULL;
}
