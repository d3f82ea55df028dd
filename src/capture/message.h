/* message.h -- what travels from a reader to the host.
 *
 * A block of raw COPY bytes with the offsets of its rows, or a word about the
 * source (a notice, a schema change, its end). Decoded where it is used: the
 * queue is cheap, and a column nobody reads costs nothing.
 *
 * Ownership: made by the reader, passed on whole, freed by the host.
 *
 * SPDX-License-Identifier: MIT */
#ifndef MESSAGE_H
#define MESSAGE_H

#include "base/clock.h"
#include "base/log.h"
#include "capture/position.h"
#include "base/queue.h"
#include "capture/rowtype.h"

enum message_kind {
    MESSAGE_ROWS,
    MESSAGE_TALLY, /* tally: what keys the server has, counted */
    MESSAGE_KEYS,  /* keys of the rows in the buckets that the host asked for, instead of rows */
    MESSAGE_RESOLVED, /* text: the table's full name; the reader waits for reader_restore */
    MESSAGE_NOTICE, /* err.msg, at notice_level; retry_ms >= 0 where a passing error is retried */
    MESSAGE_SCHEMA, /* the columns changed from old_signature to new_signature */
    MESSAGE_READY,  /* no snapshot is due any more */
    MESSAGE_DONE,   /* nothing more will come from this source; text: what --check found */
    MESSAGE_FAULT,  /* err: the reader gave up */
};

enum op { OP_READ, OP_UPSERT, OP_INSERT, OP_UPDATE, OP_DELETE, OP_COUNT };

struct row {
    size_t start;   /* in the batch's bytes: the fields of the shape, tabs between */
    uint32_t len;
    enum op op;
    bool is_gone;   /* nothing but its key is known: the other fields are NULL */
    uint64_t xid;
};

/* Rows are counted by the upper bits of the hash of their key. */
#define BUCKETS 16384u
#define BUCKET_SHIFT 50

struct bucket {
    uint64_t count, xor; /* of hashes */
};

struct tally {
    struct bucket buckets[BUCKETS];
    uint64_t *hashes;    /* of the keys of the poll's rows */
    size_t n_hashes;
    bool is_truncated;   /* the table is empty, and all its files are new */
};

/* What the host knows besides of a row. */
struct row_side {
    uint64_t note;     /* its number among all changes of the source */
    size_t old_start;  /* in the batch's bytes: the row before */
    uint32_t old_len;  /* 0: it was not kept */
    bool is_gone;      /* its fields are NULL but for the key */
};

struct message {
    struct queue_item item; /* first: a batch is found by its item */
    enum message_kind kind;
    size_t source;          /* its number */

    struct rowtype *rowtype;    /* counted reference; NULL without rows */
    char ts[CLOCK_TEXT];    /* when the rows were read */
    char *bytes;
    size_t n_bytes, cap_bytes;
    struct row *rows;
    size_t n_rows, cap_rows;
    bool is_snapshot;       /* rows of a snapshot range, else of a poll */
    bool is_ordered;        /* rows come by xid and key: a poll may stop at any of them */
    bool is_recheck;        /* see increment.h */
    bool has_hashes;        /* in front of each row's bytes stands the hash of its key */
    uint64_t reads;         /* as in the position */
    uint32_t leaf, end;     /* of a snapshot range: the relation's oid, the block behind it */

    bool begins;            /* no batch with rows of this poll or range went before */
    bool ends;              /* the last batch of its poll or range */
    bool is_lazy;           /* its position says nothing that may not be lost */
    struct position *position; /* owned; holds once this batch and all before it are done */

    struct row_side *sides; /* one for each row, or NULL */
    uint64_t note;          /* of the last row, also of those left out; 0: not noted */
    struct tally *tally;    /* owned */

    struct err err;
    enum log_level notice_level;
    int64_t retry_ms;
    char *old_signature, *new_signature, *text; /* owned */
};

/* Returns owned memory, or NULL (out of memory). */
struct message *message_new(enum message_kind kind, size_t source);
void message_free(struct message *b);

/* The batch that <item> is part of. */
struct message *message_of(struct queue_item *item);

/* Appends a row, copying its <len> bytes. False: out of memory. */
bool message_add(struct message *b, const struct row *row, const char *bytes) WARN_UNUSED;

/* Takes the place in front of the next row for the hash of its key. */
bool message_add_hash(struct message *b, uint64_t hash) WARN_UNUSED;
uint64_t message_hash(const struct message *b, const struct row *row);

/* Appends bytes that belong to no row; *start: where they are. */
bool message_add_bytes(struct message *b, const char *bytes, size_t len, size_t *start) WARN_UNUSED;

/* True for batches of rows or keys. */
bool message_has_rows(const struct message *b);

/* Big enough to be sent on. */
bool message_is_full(const struct message *b);

/* Sets what the queue counts. Call it once, when the batch is complete. */
void message_seal(struct message *b, struct queue_lane *lane);

/* The fields of a row's key as COPY text, tabs between, appended to <key>. */
bool message_row_key(const struct message *b, const struct row *row, struct buf *key) WARN_UNUSED;

#endif
