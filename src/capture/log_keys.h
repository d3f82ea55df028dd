/* log_keys.h -- of which rows of a table the log brings changes after a position.
 *
 * Reads the log beside the stream, by a copy of the slot that lives as long as that takes: from the
 * position on, up to some LSN. What the position has of a transaction is passed over. Delivers
 * nothing, and moves nothing. Keys are kept as hashes of 64 bits.
 *
 * SPDX-License-Identifier: MIT */
#ifndef LOG_KEYS_H
#define LOG_KEYS_H

#include "capture/source.h"

#define LOG_KEYS_MOST 2000000

/* What the log says last of a key. */
struct log_keys_item {
    uint64_t hash;   /* 0: there is none here */
    uint32_t xid;    /* lower half of that of the transaction, not of a savepoint */
    bool is_deleted; /* or has another key now */
    uint64_t row;    /* hash of the row's fields; 0: not all of them are known */
};

/* Zeroed is empty. */
struct log_keys {
    struct log_keys_item *v; /* by hash; owned */
    size_t n, cap;
    bool is_truncated; /* the table was */
    bool is_full;      /* there are more, see LOG_KEYS_MOST, or the server cannot decode the log */
    struct buf key;    /* scratch */
};

void log_keys_fini(struct log_keys *k);

/* False: the table's rows cannot be told apart by their keys, as they stand in polls and in the
 * log. */
bool log_keys_can_tell(const struct rowtype *rowtype);

/* Never 0. */
uint64_t log_keys_hash_row(const char *row, size_t len);

/* Reads what commits before <until>, into an empty set. The position of <s> is one of the log.
 * <conn> is for questions, and may be in a transaction. Blocks until the log is there. */
bool log_keys_read(struct log_keys *k, const struct source *s, uint64_t until, struct conn *conn,
                   struct err *e) WARN_UNUSED;

/* The entry of the row, which has the fields of <rowtype> and is no longer than <len>; NULL: there
 * is none. *ok false: out of memory. */
const struct log_keys_item *log_keys_find(struct log_keys *k, const struct rowtype *rowtype,
                                    const char *row, size_t len, bool *ok);

/* The same of a row of a step, from *p on, before whose fields the hash of its key may stand: *p
 * moves after that. */
const struct log_keys_item *log_keys_find_row(struct log_keys *k, const struct source *s,
                                              const char **p, const char *end, bool *ok);

#endif
