/* batch.h -- what travels from a reader to the host.                  floor 2
 *
 * A block of raw COPY bytes with the offsets of its rows, or a word about the
 * source (a notice, a schema change, its end). Decoded where it is used: the
 * queue is cheap, and a column nobody reads costs nothing.
 *
 * Ownership: made by the reader, passed on whole, freed by the host.
 *
 * SPDX-License-Identifier: MIT */
#ifndef BATCH_H
#define BATCH_H

#include "clock.h"
#include "log.h"
#include "position.h"
#include "queue.h"
#include "table.h"

enum batch_kind {
    BATCH_ROWS,
    BATCH_RESOLVED, /* text: the table's full name; the reader waits for reader_restore */
    BATCH_NOTICE, /* err.msg, at notice_level; retry_ms >= 0 where a passing error is retried */
    BATCH_SCHEMA, /* the columns changed from old_signature to new_signature */
    BATCH_READY,  /* no snapshot is due any more */
    BATCH_DONE,   /* nothing more will come from this source; text: what --check found */
    BATCH_FAULT,  /* err: the reader gave up */
};

enum op { OP_READ, OP_UPSERT, OP_INSERT, OP_UPDATE, OP_DELETE, OP_COUNT };

struct row {
    size_t start;   /* in the batch's bytes: the fields of the shape, tabs between */
    uint32_t len;
    enum op op;
    bool is_gone;   /* nothing but its key is known: the other fields are NULL */
    uint64_t xid;
};

struct batch {
    struct queue_item item; /* first: a batch is found by its item */
    enum batch_kind kind;
    size_t source;          /* its number */

    struct shape *shape;    /* counted reference; NULL without rows */
    char ts[CLOCK_TEXT];    /* when the rows were read */
    char *bytes;
    size_t n_bytes, cap_bytes;
    struct row *rows;
    size_t n_rows, cap_rows;
    bool is_snapshot;       /* rows of a snapshot range, else of a poll */
    bool is_ordered;        /* rows come by xid and key: a poll may stop at any of them */
    uint32_t leaf, end;     /* of a snapshot range: the relation's oid, the block behind it */

    bool begins;            /* no batch with rows of this poll or range went before */
    bool ends;              /* the last batch of its poll or range */
    bool is_lazy;           /* its position says nothing that may not be lost */
    struct position *position; /* owned; holds once this batch and all before it are done */

    struct err err;
    enum log_level notice_level;
    int64_t retry_ms;
    char *old_signature, *new_signature, *text; /* owned */
};

/* Returns owned memory, or NULL (out of memory). */
struct batch *batch_new(enum batch_kind kind, size_t source);
void batch_free(struct batch *b);

/* The batch that <item> is part of. */
struct batch *batch_of(struct queue_item *item);

/* Appends a row, copying its <len> bytes. False: out of memory. */
bool batch_add(struct batch *b, const struct row *row, const char *bytes) WARN_UNUSED;

/* Big enough to be sent on. */
bool batch_is_full(const struct batch *b);

/* Sets what the queue counts. Call it once, when the batch is complete. */
void batch_seal(struct batch *b, struct queue_lane *lane);

/* The fields of a row's key as COPY text, tabs between, appended to <key>. */
bool batch_row_key(const struct batch *b, const struct row *row, struct buf *key) WARN_UNUSED;

#endif
