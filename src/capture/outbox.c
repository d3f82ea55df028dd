/* outbox.c -- the messages of one step on their way to the queue.
 * SPDX-License-Identifier: MIT */
#include "capture/outbox.h"

void outbox_init(struct outbox *o, struct queue *q, struct queue_lane *lane, const char *spool_dir,
                 size_t max_kept, bool is_held)
{
    *o = (struct outbox){ .queue = q, .lane = lane, .spool_dir = spool_dir,
                          .max_kept = max_kept, .is_held = is_held };
}

void outbox_fini(struct outbox *o)
{
    while (!queue_list_is_empty(&o->kept))
        message_free(message_of(queue_list_take(&o->kept)));
    spool_close(o->spool);
    o->spool = NULL;
    message_free(o->like);
    message_free(o->next);
    message_free(o->last);
    o->like = o->next = o->last = NULL;
}

static bool fail_closed(struct err *e)
{
    return err_set(e, ERR_STOPPED, "stopping");
}

static void keep(struct outbox *o, struct message *m)
{
    queue_list_push(&o->kept, &m->item);
    o->kept_bytes += m->item.bytes;
}

uint64_t outbox_spooled(const struct outbox *o)
{
    return o->spool != NULL ? spool_bytes(o->spool) : 0;
}

/* A message of a chunk like that of <m>, without rows and position. */
static struct message *make_like(const struct message *m)
{
    struct message *like = message_new(m->kind, m->source);

    if (like != NULL)
        chunk_init_like(&like->chunk, &m->chunk);
    return like;
}

static bool put_in_spool(struct outbox *o, struct message *m, struct err *e)
{
    bool ok = true;

    if (o->spool == NULL)
        ok = (o->spool = spool_open(o->spool_dir, e)) != NULL &&
             ((o->like = make_like(m)) != NULL || err_memory(e));
    ok = ok && spool_write(o->spool, &m->chunk, e);
    message_free(m);
    return ok;
}

/* Makes <next> of the oldest chunk in the spool, if there is one and <next> was sent. */
static bool take_from_spool(struct outbox *o, struct err *e)
{
    struct message *m;
    bool got;

    if (o->spool == NULL || spool_is_empty(o->spool) || o->next != NULL)
        return true;
    if ((m = make_like(o->like)) == NULL)
        return err_memory(e);
    if (!spool_read(o->spool, &m->chunk, &got, e)) {
        message_free(m);
        return false;
    }
    o->like->chunk.begins = false; /* only the first one does */
    message_seal(m, o->lane);
    o->next = m;
    return true;
}

/* Sends of the spool what the queue has room for. */
static bool drain_spool(struct outbox *o, struct err *e)
{
    do {
        if (!take_from_spool(o, e))
            return false;
        if (o->next == NULL || !queue_try_push(o->queue, &o->next->item))
            return true;
        o->next = NULL;
    } while (true);
}

bool outbox_put(struct outbox *o, struct message *m, struct err *e)
{
    bool has_rows = message_has_rows(m), ends = has_rows && m->chunk.ends;

    message_seal(m, o->lane);
    if (!has_rows && queue_list_is_empty(&o->kept) && o->last == NULL) {
        if (queue_push(o->queue, &m->item)) /* it always finds room */
            return true;
        message_free(m);
        return fail_closed(e);
    }
    if (!has_rows || ends) { /* news after the last chunk stays after it */
        if (ends && o->spool != NULL)
            o->last = m;
        else
            keep(o, m);
        return true;
    }
    if (o->is_held) {
        if (o->spool != NULL || o->kept_bytes + m->item.bytes > o->max_kept)
            return put_in_spool(o, m, e);
        keep(o, m);
        return true;
    }
    if (!drain_spool(o, e)) {
        message_free(m);
        return false;
    }
    return (o->next == NULL && queue_list_is_empty(&o->kept) &&
            queue_try_push(o->queue, &m->item)) ||
           put_in_spool(o, m, e);
}

static bool send(struct outbox *o, struct message *m, struct err *e)
{
    message_seal(m, o->lane);
    if (queue_push(o->queue, &m->item))
        return true;
    message_free(m);
    return fail_closed(e);
}

/* Sends the messages at the head of those kept that have rows, or, unless <with_rows>, have
 * none. */
static bool send_kept(struct outbox *o, bool with_rows, struct err *e)
{
    while (!queue_list_is_empty(&o->kept) &&
           message_has_rows(message_of(o->kept.first)) == with_rows)
        if (!send(o, message_of(queue_list_take(&o->kept)), e))
            return false;
    return true;
}

static bool send_spooled(struct outbox *o, struct err *e)
{
    struct message *m;

    do {
        if (!take_from_spool(o, e))
            return false;
        m = o->next;
        o->next = NULL;
    } while (m != NULL && send(o, m, e));
    return m == NULL;
}

bool outbox_flush_chunks(struct outbox *o, struct err *e)
{
    struct message *last;

    if (!send_kept(o, true, e) || !send_spooled(o, e))
        return false;
    last = o->last;
    o->last = NULL;
    return last == NULL || send(o, last, e);
}

bool outbox_flush(struct outbox *o, struct err *e)
{
    return outbox_flush_chunks(o, e) && send_kept(o, false, e);
}
