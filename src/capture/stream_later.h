/* stream_later.h -- what the log does to rows of a source later on.
 *
 * SPDX-License-Identifier: MIT */
#ifndef STREAM_LATER_H
#define STREAM_LATER_H

#include "capture/complete_fill.h"
#include "capture/stream_ahead.h"

/* All borrowed. */
struct stream_later {
    struct stream_ahead *ahead;
    struct replication *replication;
    struct stream_table_list *tables;
    size_t i; /* the number of <source> in the stream */
    const struct source *source;
    struct complete_fill *fill;
};

/* Tells <fill> of each change of the source that commits before <lsn>, and perhaps of some more, as
 * far as the stream has not taken them. *is_all: these are all, and are told as they are. */
bool stream_later_look(const struct stream_later *l, uint64_t lsn, bool *is_all,
                       struct err *e) WARN_UNUSED;

#endif
