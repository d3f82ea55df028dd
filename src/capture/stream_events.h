/* stream_events.h -- what of a transaction of the log is no row: TRUNCATE, messages, its end.
 *
 * Each is told where it stands among the rows, those of other sources too. No I/O.
 *
 * SPDX-License-Identifier: MIT */
#ifndef STREAM_EVENTS_H
#define STREAM_EVENTS_H

#include "capture/stream_batch.h"
#include "pg/pgoutput.h"

/* 2000-01-01, when times of the log begin, after 1970-01-01 */
#define STREAM_EVENTS_EPOCH_US (INT64_C(946684800) * 1000000)

/* The transaction in hand. */
struct stream_events_transaction {
    bool is_there;
    struct pgoutput_begin begin;
    uint64_t xid;
    uint64_t lsn; /* of the record in hand */
};

bool stream_events_truncate(const struct stream_events_transaction *tx, struct stream_batch *b,
                            const struct pgoutput_truncate *t, struct queue_list *out,
                            struct err *e) WARN_UNUSED;

/* Of pg_logical_emit_message. One that belongs to no transaction is nobody's. */
bool stream_events_emitted(const struct stream_events_transaction *tx, struct stream_batch *b,
                           const struct pgoutput_logical *emitted, struct queue_list *out,
                           struct err *e) WARN_UNUSED;

/* If the source of <m> wants to know: the transaction, which changed it, is over. */
bool stream_events_commit(const struct stream_events_transaction *tx, struct stream_batch *b,
                          struct stream_batch_member *m, struct queue_list *out,
                          struct err *e) WARN_UNUSED;

#endif
