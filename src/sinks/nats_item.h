/* nats_item.h -- a message as one run of bytes, on its way to the thread of a connection.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NATS_ITEM_H
#define NATS_ITEM_H

#include <stddef.h>

/* Borrowed. <headers>: names and values in turns, as parts of base/packed.h; a pair whose value is
 * absent does not count. */
struct nats_item_message {
    const char *subject;
    size_t subject_len;
    const char *id; /* its Nats-Msg-Id, or NULL */
    size_t id_len;
    const char *headers;
    size_t headers_len;
    const char *data;
    size_t len;
};

/* What follows: its subject and a NUL; names and values of
 * headers in turns, each with a NUL; its data. */
struct nats_item {
    struct nats_item *next;
    char reply[24]; /* the end of the subject that its answer goes to */
    size_t headers_at, data_at, len;
    char bytes[];
};

/* Copies a message. Returns owned, to be freed by free; NULL without memory. */
struct nats_item *nats_item_new(const struct nats_item_message *m);

/* Frees it and those after it. NULL is taken. */
void nats_item_free_all(struct nats_item *i);

#endif
