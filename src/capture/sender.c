/* sender.c -- messages of one source to the host.
 * SPDX-License-Identifier: MIT */
#include "capture/sender.h"

bool sender_init(struct sender *s, struct queue *queue, size_t source)
{
    *s = (struct sender){ .queue = queue, .source = source };
    s->last = message_new(MESSAGE_DONE, source);
    return s->last != NULL;
}

void sender_fini(struct sender *s)
{
    message_free(s->last);
    s->last = NULL;
}

void sender_send(struct sender *s, struct message *m)
{
    if (m == NULL)
        return;
    message_seal(m, &s->lane);
    if (!queue_push(s->queue, &m->item))
        message_free(m);
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
