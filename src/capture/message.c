/* message.c -- what travels from a reader to the host.
 * SPDX-License-Identifier: MIT */
#include "capture/message.h"

#include <stdlib.h>

#define SMALL_BYTES 4096

struct message *message_new(enum message_kind kind, size_t source)
{
    struct message *m = calloc(1, sizeof *m);

    if (m == NULL)
        return NULL;
    m->kind = kind;
    m->source = source;
    if (message_has_rows(m))
        chunk_init(&m->chunk);
    if (kind == MESSAGE_NOTICE || kind == MESSAGE_REREAD)
        m->notice.retry_ms = -1;
    return m;
}

static void fini(struct message *m)
{
    switch (m->kind) {
    case MESSAGE_ROWS:
    case MESSAGE_KEYS:
        chunk_fini(&m->chunk);
        return;
    case MESSAGE_TALLY:
        rowtype_unref(m->tally.rowtype);
        tally_free(m->tally.counts);
        return;
    case MESSAGE_RESOLVED:
    case MESSAGE_DONE:
        free(m->text);
        return;
    case MESSAGE_SCHEMA:
        free(m->schema.old_signature);
        free(m->schema.new_signature);
        return;
    case MESSAGE_EMITTED:
        free(m->log.prefix);
        free(m->log.content);
        return;
    case MESSAGE_NOTICE:
    case MESSAGE_REREAD:
    case MESSAGE_TRUNCATE:
    case MESSAGE_COMMIT:
    case MESSAGE_READING:
    case MESSAGE_READY:
    case MESSAGE_FAULT:
        return;
    }
}

void message_free(struct message *m)
{
    if (m != NULL) {
        fini(m);
        rowtype_unref(m->rowtype);
    }
    free(m);
}

struct message *message_of(struct queue_item *item)
{
    return (struct message *)((char *)item - offsetof(struct message, item));
}

bool message_is_small(const struct message *m)
{
    return m->kind == MESSAGE_COMMIT || (m->kind == MESSAGE_ROWS && m->chunk.n_bytes < SMALL_BYTES);
}

bool message_has_rows(const struct message *m)
{
    return m->kind == MESSAGE_ROWS || m->kind == MESSAGE_KEYS;
}

void message_seal(struct message *m, struct queue_lane *lane)
{
    m->item.lane = lane;
    m->item.bytes = message_has_rows(m) ? sizeof *m + chunk_size(&m->chunk) - sizeof m->chunk : 0;
    if (m->kind == MESSAGE_EMITTED)
        m->item.bytes = sizeof *m + m->log.len;
}
