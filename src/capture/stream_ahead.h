/* stream_ahead.h -- what the server has sent beyond what the stream has taken.
 *
 * Who wants to know what the log has up to some place reads on. What comes is kept here, and is
 * what the stream takes next: nothing is passed over, nothing comes in another order.
 *
 * SPDX-License-Identifier: MIT */
#ifndef STREAM_AHEAD_H
#define STREAM_AHEAD_H

#include "pg/replication.h"

struct stream_ahead_item;

/* Zeroed is empty. */
struct stream_ahead {
    struct stream_ahead_item *first, *last, *taken; /* owned */
    size_t n_bytes;
    uint64_t passed; /* all that commits before it is here, or was taken before; 0: not known */
};

/* Drops all. The connection is closed, and what was kept comes again. */
void stream_ahead_fini(struct stream_ahead *a);

/* As replication_next, of what is kept first. */
bool stream_ahead_next(struct stream_ahead *a, struct replication *r, int64_t deadline_ms,
                       struct replication_message *m, struct err *e) WARN_UNUSED;

/* Reads on until all is here that commits before <lsn>. *is_there: it is; false: that takes too
 * long, or too much memory. */
bool stream_ahead_read(struct stream_ahead *a, struct replication *r, uint64_t lsn,
                       bool *is_there, struct err *e) WARN_UNUSED;

/* Calls <visit> for each message of the log that is kept, while it is true. */
typedef bool stream_ahead_visit(void *arg, const struct replication_message *m, struct err *e);
bool stream_ahead_each(const struct stream_ahead *a, stream_ahead_visit *visit, void *arg,
                       struct err *e) WARN_UNUSED;

#endif
