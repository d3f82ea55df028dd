/* stream_batch.c -- the batch that a stream is making, of the sources that it is for.
 * SPDX-License-Identifier: MIT */
#include "capture/stream_batch.h"

#include <stdlib.h>

#define BATCH_ROWS 10000
#define BATCH_BYTES ((size_t)4 << 20)
#define CHUNK_ROWS 1024 /* what is on its way takes no more memory in a large transaction */

bool stream_batch_init(struct stream_batch *b, size_t n_members)
{
    *b = (struct stream_batch){ .members = calloc(n_members + 1, sizeof *b->members),
                                .n_members = n_members };
    return b->members != NULL;
}

void stream_batch_fini(struct stream_batch *b)
{
    for (size_t i = 0; i < b->n_members; i++)
        message_free(b->members[i].message);
    free(b->members);
}

bool stream_batch_has(const struct stream_batch *b)
{
    for (size_t i = 0; i < b->n_members; i++)
        if (b->members[i].has_out || b->members[i].message != NULL)
            return true;
    return false;
}

bool stream_batch_is_big(const struct stream_batch_size *size)
{
    return size->n_rows >= BATCH_ROWS || size->n_bytes >= BATCH_BYTES;
}

static void add_size(struct stream_batch_size *size, size_t n_bytes)
{
    size->n_rows++;
    size->n_bytes += n_bytes;
}

void stream_batch_add_size(struct stream_batch *b, size_t n_bytes)
{
    add_size(&b->size, n_bytes);
    add_size(&b->inside, n_bytes);
}

/* Hands out the chunk in hand. */
static void give(struct stream_batch_member *m, struct queue_list *out)
{
    if (m->message == NULL)
        return;
    m->has_out = m->has_chunk = true;
    queue_list_push(out, &m->message->item);
    m->message = NULL;
}

/* Makes sure that there is a chunk in hand, of the source's columns. Those of other sources are
 * handed out, so that all come in the order of the log. */
static bool start_chunk(struct stream_batch *b, struct stream_batch_member *m,
                        struct queue_list *out, struct err *e)
{
    struct rowtype *rowtype = m->source->facts.rowtype;

    for (size_t i = 0; i < b->n_members; i++)
        if (&b->members[i] != m)
            give(&b->members[i], out);
    if (m->message != NULL &&
        (m->message->chunk.rowtype != rowtype || chunk_is_full(&m->message->chunk) ||
         m->message->chunk.n_rows >= CHUNK_ROWS))
        give(m, out);
    if (m->message != NULL)
        return true;
    m->message = message_new(MESSAGE_ROWS, m->source->number);
    if (m->message == NULL)
        return err_memory(e);
    m->message->chunk.rowtype = rowtype_ref(rowtype);
    m->message->chunk.begins = !m->has_chunk;
    m->message->chunk.is_log = true;
    return true;
}

bool stream_batch_add(struct stream_batch *b, struct stream_batch_member *m,
                      const struct chunk_row *row, const char *bytes, const struct buf *old,
                      struct queue_list *out, struct err *e)
{
    size_t len = old != NULL ? old->len : 0;

    stream_batch_add_size(b, row->len + len);
    if (!start_chunk(b, m, out, e))
        return false;
    return (chunk_add(&m->message->chunk, row, bytes) &&
            (len == 0 || chunk_add_old(&m->message->chunk, old->data, len))) || err_memory(e);
}

void stream_batch_give(struct stream_batch *b, struct queue_list *out)
{
    for (size_t i = 0; i < b->n_members; i++)
        give(&b->members[i], out);
}

void stream_batch_put(struct stream_batch *b, struct stream_batch_member *m,
                      struct message *message, struct queue_list *out)
{
    stream_batch_give(b, out);
    m->has_out = true;
    queue_list_push(out, &message->item);
}

void stream_batch_give_news(struct stream_batch_member *m, struct queue_list *out)
{
    struct message *news;

    while ((news = source_take_message(m->source)) != NULL) {
        give(m, out);
        queue_list_push(out, &news->item);
    }
}

/* The chunk in hand is the last one of the source in the batch, and brings its position. */
static bool end_chunk(struct stream_batch *b, struct stream_batch_member *m, struct queue_list *out,
                      struct err *e)
{
    struct position *p = &m->source->position;
    bool is_lazy = m->message == NULL && !m->has_out;

    if (!start_chunk(b, m, out, e))
        return false;
    m->message->chunk.is_lazy = is_lazy;
    m->message->chunk.ends = true;
    if (!chunk_set_position(&m->message->chunk, p))
        return err_memory(e);
    give(m, out);
    m->has_out = m->has_chunk = false;
    m->told = p->logical.lsn;
    return true;
}

bool stream_batch_end(struct stream_batch *b, struct queue_list *out, struct err *e)
{
    bool has_last = false;

    for (size_t i = 0; i < b->n_members; i++) {
        struct stream_batch_member *m = &b->members[i];

        if (m->source == NULL || (!m->has_out && m->message == NULL))
            continue;
        m->source->position.logical.inside = stream_place_made(&m->place);
        if (!end_chunk(b, m, out, e))
            return false;
        has_last = true;
    }
    if (has_last) /* it was handed out just now */
        message_of(out->last)->chunk.ends_batch = true;
    b->size = b->inside = (struct stream_batch_size){ 0 };
    return true;
}

bool stream_batch_tell(struct stream_batch *b, struct queue_list *out, struct err *e)
{
    bool has_last = false;

    for (size_t i = 0; i < b->n_members; i++) {
        struct stream_batch_member *m = &b->members[i];

        if (m->source == NULL || m->told == m->source->position.logical.lsn)
            continue;
        if (!end_chunk(b, m, out, e))
            return false;
        has_last = true;
    }
    if (has_last) /* it was handed out just now */
        message_of(out->last)->chunk.ends_batch = true;
    return true;
}
