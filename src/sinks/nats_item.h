/* nats_item.h -- a message as one run of bytes, on its way to the thread of a connection.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NATS_ITEM_H
#define NATS_ITEM_H

#include <stddef.h>
#include <stdint.h>

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
    size_t most; /* bytes that it may have, see nats_item.size */
};

/* What the server is told beside. <id>: its Nats-Msg-Id is its id, or one that is made of it, the
 * <origin> and <last>, or there is none; in place of another one Pgcdc-Id has its id. */
struct nats_item_marks {
    enum { NATS_ITEM_PLAIN, NATS_ITEM_OWN, NATS_ITEM_NONE } id;
    uint64_t origin;
    uint64_t last;       /* it is taken only if this is the last sequence of its stream; or 0 */
    const char *last_id; /* and this the Nats-Msg-Id of the message there; or NULL. Borrowed */
    size_t last_id_len;
};

/* What follows: its subject and a NUL; names and values of
 * headers in turns, each with a NUL; its data. */
struct nats_item {
    struct nats_item *next;
    char reply[24]; /* the end of the subject that its answer goes to */
    const char *id; /* its Nats-Msg-Id, in <bytes>; or NULL */
    size_t headers_at, data_at, len;
    size_t size; /* that the server counts: of the data, and of headers as they are sent */
    char bytes[];
};

/* Copies a message. Returns owned, to be freed by free; NULL without memory. */
struct nats_item *nats_item_new(const struct nats_item_message *m,
                                const struct nats_item_marks *marks);

/* Frees it and those after it. NULL is taken. */
void nats_item_free_all(struct nats_item *i);

#endif
