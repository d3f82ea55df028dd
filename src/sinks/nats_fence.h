/* nats_fence.h -- which message is to be the last one of a stream when one of ours is stored.
 *
 * A process that was replaced, and does not know yet, may have messages on their way. The next one
 * begins with a message of its own; those that come after that are to be refused. So each says
 * which sequence is to be the last before it. Of those on their way that would refuse the first
 * ones only: the fifth one would be taken when the next process has stored just so many. So who
 * publishes while others are unanswered also names the id of the message before, which was refused.
 *
 * The next process must not store that id just there. So for as long as messages can be on their
 * way that others have sent before it began, its own have the id "ID?ORIGIN/SEQUENCE", and the
 * header Pgcdc-Id. So have those without an id, always: what follows them names it.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NATS_FENCE_H
#define NATS_FENCE_H

#include "sinks/nats_item.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct nats_fence {
    uint64_t last;        /* the sequence before the next message; 0: whatever is there */
    uint64_t origin, own; /* sequence of our first message; ids are our own up to this one */
    char *id;             /* of the message before */
    size_t id_len, size;  /* 0: it has none */
};

/* What the next messages say, see nats_conn_expect. */
void nats_fence_set(struct nats_fence *f, uint64_t last, uint64_t origin, uint64_t own);
void nats_fence_fini(struct nats_fence *f);

/* Makes an item of a message. <is_alone>: no other one is unanswered. If there is no room for
 * all of what it should say, that is the least of it that will do. Returns owned; NULL: without
 * memory, or *is_early: it must wait until it is alone. */
struct nats_item *nats_fence_item(const struct nats_fence *f, const struct nats_item_message *m,
                                  bool is_alone, bool *is_early);

/* It is published. */
void nats_fence_pass(struct nats_fence *f, const struct nats_item *i);

#endif
