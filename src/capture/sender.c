/* sender.c -- messages of one source to the host.
 * SPDX-License-Identifier: MIT */
#include "capture/sender.h"

bool sender_init(struct sender *s, struct queue *queue, size_t source)
{
    *s = (struct sender){ .queue = queue, .source = source };
    meter_init(&s->meter);
    s->last = message_new(MESSAGE_DONE, source);
    return s->last != NULL;
}

void sender_fini(struct sender *s)
{
    message_free(s->last);
    s->last = NULL;
    meter_fini(&s->meter);
}

void sender_send(struct sender *s, struct message *m)
{
    if (m == NULL)
        return;
    message_seal(m, &s->lane);
    if (!queue_push(s->queue, &m->item))
        message_free(m);
}

void sender_reread(struct sender *s, const struct err *e)
{
    struct message *m = message_new(MESSAGE_REREAD, s->source);

    if (m == NULL)
        return;
    m->notice.err = *e;
    m->notice.level = LOG_WARN;
    sender_send(s, m);
}

void sender_notice(struct sender *s, enum log_level level, const struct err *e, int64_t retry_ms)
{
    struct message *m = message_new(MESSAGE_NOTICE, s->source);

    if (m == NULL)
        return;
    m->notice.err = *e;
    m->notice.level = level;
    m->notice.retry_ms = retry_ms;
    sender_send(s, m);
}

void sender_last(struct sender *s, enum message_kind kind, const struct err *e)
{
    struct message *m = s->last;

    s->last = NULL;
    m->kind = kind;
    if (e != NULL)
        m->fault = *e;
    sender_send(s, m);
}

/* ---- what a step brings ---- */

static void tell_spooled(struct sender *s)
{
    meter_set_spool(&s->meter, outbox_spooled(&s->keys) + outbox_spooled(&s->rows));
}

void sender_open(struct sender *s, const char *spool_dir, size_t max_kept, bool is_held)
{
    outbox_init(&s->rows, s->queue, &s->lane, spool_dir, max_kept, is_held);
    outbox_init(&s->keys, s->queue, &s->lane, spool_dir, max_kept, false);
}

bool sender_put(struct sender *s, struct message *m, struct err *e)
{
    struct outbox *to = m->kind == MESSAGE_KEYS ? &s->keys : &s->rows;
    uint64_t spooled = outbox_spooled(to);
    bool ok;

    if (m->kind == MESSAGE_ROWS)
        meter_add_changes(&s->meter, m->chunk.n_rows);
    ok = outbox_put(to, m, e);
    if (outbox_spooled(to) != spooled)
        tell_spooled(s);
    return ok;
}

bool sender_flush_chunks(struct sender *s, struct err *e)
{
    return outbox_flush(&s->keys, e) && outbox_flush_chunks(&s->rows, e);
}

bool sender_flush_rows(struct sender *s, struct err *e)
{
    return outbox_flush(&s->rows, e);
}

bool sender_flush_all(struct sender *const *senders, size_t n, struct err *e)
{
    for (size_t i = 0; i < n; i++)
        if (!sender_flush_chunks(senders[i], e))
            return false;
    for (size_t i = 0; i < n; i++)
        if (!sender_flush_rows(senders[i], e))
            return false;
    return true;
}

void sender_close(struct sender *s)
{
    outbox_fini(&s->keys);
    outbox_fini(&s->rows);
    tell_spooled(s);
}
