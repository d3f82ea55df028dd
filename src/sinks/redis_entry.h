/* redis_entry.h -- commands of what an outbox keeps, see base/packed.h.
 *
 * A record has either commands as they are sent, in its third part, and how many they are as its
 * lane; or it is a change as raw.put_change packs it, which becomes an entry of a stream: key, data
 * and the fields op, id and seq are in its parts.
 *
 * SPDX-License-Identifier: MIT */
#ifndef REDIS_ENTRY_H
#define REDIS_ENTRY_H

#include "base/buf.h"
#include "base/packed.h"

/* Appends the commands of the record at <at>, whose head is <head>. <maxlen>: digits, of streams;
 * NULL: they have no limit. Returns how many commands; 0: it is none of these records. */
uint64_t redis_entry_put(struct buf *out, const char *at, const struct packed_head *head,
                         const char *maxlen) WARN_UNUSED;

#endif
