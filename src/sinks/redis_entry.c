/* redis_entry.c -- commands of what an outbox keeps. See redis_entry.h.
 * SPDX-License-Identifier: MIT */
#include "sinks/redis_entry.h"

enum { COMMANDS = 3, CHANGE = 7 }; /* how many parts a record has */
enum { KEY = 2, DATA = 4, HEADERS = 5 }; /* of a change, from 0 */

/* Appends a word of a command. */
static void put_word(struct buf *out, const char *text, size_t len)
{
    buf_putc(out, '$');
    buf_put_u64(out, len);
    buf_add(out, "\r\n", 2);
    buf_add(out, text, len);
    buf_add(out, "\r\n", 2);
}

static void put_name(struct buf *out, const char *name)
{
    put_word(out, name, strlen(name));
}

static bool is_field(const struct packed_part *name)
{
    return (name->len == 2 && (memcmp(name->text, "op", 2) == 0 ||
                               memcmp(name->text, "id", 2) == 0)) ||
           (name->len == 3 && memcmp(name->text, "seq", 3) == 0);
}

/* Appends those headers that are fields of the entry; only counts them if <out> is NULL. */
static uint64_t put_fields(struct buf *out, const struct packed_part *headers)
{
    const char *at = headers->text, *end = at + headers->len;
    struct packed_part name, text;
    uint64_t n = 0;

    while (at < end && packed_take(&at, end, &name) && packed_take(&at, end, &text)) {
        if (name.text == NULL || text.text == NULL || !is_field(&name))
            continue;
        n++;
        if (out == NULL)
            continue;
        put_word(out, name.text, name.len);
        put_word(out, text.text, text.len);
    }
    return n;
}

static uint64_t put_change(struct buf *out, const struct packed_part *parts, const char *maxlen)
{
    if (parts[KEY].text == NULL || parts[DATA].text == NULL || parts[HEADERS].text == NULL)
        return 0;
    buf_putc(out, '*');
    buf_put_u64(out, (maxlen != NULL ? 8 : 5) + 2 * put_fields(NULL, &parts[HEADERS]));
    buf_add(out, "\r\n", 2);
    put_name(out, "XADD");
    put_word(out, parts[KEY].text, parts[KEY].len);
    if (maxlen != NULL) {
        put_name(out, "MAXLEN");
        put_name(out, "~");
        put_name(out, maxlen);
    }
    put_name(out, "*");
    put_fields(out, &parts[HEADERS]);
    put_name(out, "data");
    put_word(out, parts[DATA].text, parts[DATA].len);
    return 1;
}

uint64_t redis_entry_put(struct buf *out, const char *at, const struct packed_head *head,
                         const char *maxlen)
{
    const char *end = at + head->len;
    struct packed_part parts[CHANGE];

    if (head->parts != COMMANDS && head->parts != CHANGE)
        return 0;
    at += sizeof *head;
    for (uint32_t i = 0; i < head->parts; i++)
        if (!packed_take(&at, end, &parts[i]))
            return 0;
    if (head->parts == CHANGE)
        return put_change(out, parts, maxlen);
    if (parts[COMMANDS - 1].text == NULL)
        return 0;
    buf_add(out, parts[COMMANDS - 1].text, parts[COMMANDS - 1].len);
    return head->lane;
}
