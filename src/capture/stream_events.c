/* stream_events.c -- what of a transaction of the log is no row.
 * SPDX-License-Identifier: MIT */
#include "capture/stream_events.h"

#include <stdlib.h>
#include <string.h>

static bool is_truncated(const struct stream_batch_member *m, const struct pgoutput_truncate *t)
{
    for (size_t k = 0; k < t->n; k++)
        if (m->source->facts.table.oid == pgoutput_truncated(t, k))
            return true;
    return false;
}

/* A message that says what and when the transaction in hand is. */
static struct message *make_message(const struct stream_events_transaction *tx,
                                    enum message_kind kind, const struct stream_batch_member *m,
                                    uint64_t lsn)
{
    struct message *message = message_new(kind, m->source->number);

    if (message != NULL)
        message->log = (struct message_log){
            .xid = tx->xid, .lsn = lsn, .us = tx->begin.ts + STREAM_EVENTS_EPOCH_US,
            .count = m->n_rows };
    return message;
}

/* Of rows that are kept the host knows the keys. */
static bool add_truncate(const struct stream_events_transaction *tx, struct stream_batch *b,
                         struct stream_batch_member *m, struct queue_list *out, struct err *e)
{
    struct message *message = make_message(tx, MESSAGE_TRUNCATE, m, tx->lsn);

    if (message == NULL)
        return err_memory(e);
    message->rowtype = rowtype_ref(m->source->facts.rowtype);
    message->log.count = m->place.nth;
    stream_batch_put(b, m, message, out);
    if (!source_keeps_by_log(m->source) &&
        !source_add_notice(m->source, LOG_WARN, "the table was truncated: no deletes are told of "
                           "its rows", e))
        return false;
    stream_batch_give_news(m, out);
    return true;
}

bool stream_events_truncate(const struct stream_events_transaction *tx, struct stream_batch *b,
                            const struct pgoutput_truncate *t, struct queue_list *out,
                            struct err *e)
{
    if (!tx->is_there)
        return err_set(e, ERR_ANSWER, "a truncate outside of a transaction");
    for (size_t i = 0; i < b->n_members; i++) {
        struct stream_batch_member *m = &b->members[i];
        bool is_passed;

        if (m->source == NULL || m->is_done || !is_truncated(m, t))
            continue;
        if (!stream_place_count(&m->place, tx->lsn, &is_passed, e))
            return false;
        if (!is_passed && !add_truncate(tx, b, m, out, e))
            return false;
    }
    return true;
}

bool stream_events_emitted(const struct stream_events_transaction *tx, struct stream_batch *b,
                           const struct pgoutput_logical *emitted, struct queue_list *out,
                           struct err *e)
{
    for (size_t i = 0; emitted->is_transactional && i < b->n_members; i++) {
        struct stream_batch_member *m = &b->members[i];
        struct message *message;
        bool is_passed;

        if (m->source == NULL || m->is_done || !m->source->config->wants_messages)
            continue;
        if (!tx->is_there)
            return err_set(e, ERR_ANSWER, "a message outside of its transaction");
        if (!stream_place_count(&m->place, tx->lsn, &is_passed, e))
            return false;
        if (is_passed)
            continue;
        message = make_message(tx, MESSAGE_EMITTED, m, emitted->lsn);
        if (message == NULL || (message->log.prefix = strdup(emitted->prefix)) == NULL ||
            (message->log.content = malloc(emitted->len + 1)) == NULL) {
            message_free(message);
            return err_memory(e);
        }
        memcpy(message->log.content, emitted->p, emitted->len);
        message->log.len = emitted->len;
        stream_batch_add_size(b, emitted->len);
        stream_batch_put(b, m, message, out);
    }
    return true;
}

bool stream_events_commit(const struct stream_events_transaction *tx, struct stream_batch *b,
                          struct stream_batch_member *m, struct queue_list *out, struct err *e)
{
    struct message *message;

    if (m->source == NULL || m->is_done || m->n_rows == 0 || !m->source->config->wants_commits)
        return true;
    message = make_message(tx, MESSAGE_COMMIT, m, tx->begin.commit_lsn);
    if (message == NULL)
        return err_memory(e);
    stream_batch_put(b, m, message, out);
    return true;
}
