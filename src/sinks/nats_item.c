/* nats_item.c -- copies messages. See nats_item.h.
 * SPDX-License-Identifier: MIT */
#include "sinks/nats_item.h"

#include "base/packed.h"

#include <stdlib.h>
#include <string.h>

#define MSG_ID "Nats-Msg-Id"

/* Appends a text, up to the first NUL, and a NUL. Returns the place behind it. */
static char *put_text(char *to, const char *text, size_t len)
{
    size_t n = strnlen(text, len);

    memcpy(to, text, n);
    to[n] = '\0';
    return to + n + 1;
}

/* Puts the headers of the message after each other. Returns the place behind them. */
static char *put_headers(char *to, const struct nats_item_message *m)
{
    const char *at = m->headers, *end = at + m->headers_len;
    struct packed_part name, value;

    if (m->id != NULL) {
        to = put_text(to, MSG_ID, sizeof MSG_ID);
        to = put_text(to, m->id, m->id_len);
    }
    while (packed_take(&at, end, &name) && packed_take(&at, end, &value)) {
        if (name.text == NULL || value.text == NULL)
            continue;
        to = put_text(to, name.text, name.len);
        to = put_text(to, value.text, value.len);
    }
    return to;
}

struct nats_item *nats_item_new(const struct nats_item_message *m)
{
    /* a NUL takes less than the length of a part */
    size_t most = m->subject_len + 1 + sizeof MSG_ID + m->id_len + 1 + m->headers_len + m->len;
    struct nats_item *i = malloc(sizeof *i + most);
    char *to;

    if (i == NULL)
        return NULL;
    to = put_text(i->bytes, m->subject, m->subject_len);
    i->next = NULL;
    i->headers_at = (size_t)(to - i->bytes);
    to = put_headers(to, m);
    i->data_at = (size_t)(to - i->bytes);
    i->len = m->len;
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
