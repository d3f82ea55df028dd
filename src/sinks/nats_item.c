/* nats_item.c -- copies messages. See nats_item.h.
 * SPDX-License-Identifier: MIT */
#include "sinks/nats_item.h"

#include "base/packed.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MSG_ID "Nats-Msg-Id"
#define OUR_ID "Pgcdc-Id"
#define LAST "Nats-Expected-Last-Sequence"
#define LAST_ID "Nats-Expected-Last-Msg-Id"
#define DIGITS 21 /* of a number, with a NUL */
#define ROUND "NATS/1.0\r\n\r\n"

/* Appends a text, up to the first NUL, and a NUL. Returns the place behind it. */
static char *put_text(char *to, const char *text, size_t len)
{
    size_t n = strnlen(text, len);

    memcpy(to, text, n);
    to[n] = '\0';
    return to + n + 1;
}

/* Appends the name of a header, and counts what is around it and its value. */
static char *put_name(struct nats_item *i, char *to, const char *name, size_t len)
{
    i->size += sizeof ": \r\n" - 1 - 2; /* (each has a NUL) */
    return put_text(to, name, len);
}

static char *put_id(struct nats_item *i, char *to, const struct nats_item_message *m,
                    const struct nats_item_marks *marks)
{
    bool is_own = marks->id == NATS_ITEM_OWN;

    if (is_own || (marks->id == NATS_ITEM_PLAIN && m->id != NULL)) {
        to = put_name(i, to, MSG_ID, sizeof MSG_ID);
        i->id = to;
        if (m->id != NULL)
            to = put_text(to, m->id, m->id_len);
        if (is_own) {
            to -= m->id != NULL;
            to += snprintf(to, 2 * DIGITS + 2, "?%llu/%llu", (unsigned long long)marks->origin,
                           (unsigned long long)marks->last) + 1;
        }
    }
    if (marks->id != NATS_ITEM_PLAIN && m->id != NULL) {
        to = put_name(i, to, OUR_ID, sizeof OUR_ID);
        to = put_text(to, m->id, m->id_len);
    }
    return to;
}

static char *put_expected(struct nats_item *i, char *to, const struct nats_item_marks *marks)
{
    if (marks->last > 0) {
        to = put_name(i, to, LAST, sizeof LAST);
        to += snprintf(to, DIGITS, "%llu", (unsigned long long)marks->last) + 1;
    }
    if (marks->last_id != NULL) {
        to = put_name(i, to, LAST_ID, sizeof LAST_ID);
        to = put_text(to, marks->last_id, marks->last_id_len);
    }
    return to;
}

/* Puts the headers of the message after each other. Returns the place behind them. */
static char *put_headers(struct nats_item *i, char *to, const struct nats_item_message *m,
                         const struct nats_item_marks *marks)
{
    const char *at = m->headers, *end = at + m->headers_len;
    struct packed_part name, value;

    to = put_id(i, to, m, marks);
    to = put_expected(i, to, marks);
    while (packed_take(&at, end, &name) && packed_take(&at, end, &value)) {
        if (name.text == NULL || value.text == NULL)
            continue;
        to = put_name(i, to, name.text, name.len);
        to = put_text(to, value.text, value.len);
    }
    return to;
}

struct nats_item *nats_item_new(const struct nats_item_message *m,
                                const struct nats_item_marks *marks)
{
    /* a NUL takes less than the length of a part */
    size_t most = m->subject_len + 1 + sizeof MSG_ID + 2 * (m->id_len + 1) + 2 * DIGITS + 2 +
                  sizeof OUR_ID + sizeof LAST + DIGITS + sizeof LAST_ID + marks->last_id_len + 1 +
                  m->headers_len + m->len;
    struct nats_item *i = malloc(sizeof *i + most);
    char *to;

    if (i == NULL)
        return NULL;
    to = put_text(i->bytes, m->subject, m->subject_len);
    i->next = NULL;
    i->id = NULL;
    i->size = 0;
    i->headers_at = (size_t)(to - i->bytes);
    to = put_headers(i, to, m, marks);
    i->data_at = (size_t)(to - i->bytes);
    i->len = m->len;
    i->size += i->data_at - i->headers_at + i->len + sizeof ROUND - 1;
    memcpy(to, m->data, m->len);
    return i;
}

void nats_item_free_all(struct nats_item *i)
{
    while (i != NULL) {
        struct nats_item *next = i->next;

        free(i);
        i = next;
    }
}
