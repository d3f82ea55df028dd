/* chunk.h -- a block of rows on its way through the queue.
 *
 * Raw bytes of COPY with the offsets of the rows. They are decoded where they are used: the queue
 * is cheap, and a column that nobody reads costs nothing. A poll or a range of the snapshot is
 * one or more chunks, of which the last one brings the position.
 *
 * SPDX-License-Identifier: MIT */
#ifndef CHUNK_H
#define CHUNK_H

#include "base/clock.h"
#include "capture/op.h"
#include "capture/position.h"
#include "capture/rowtype.h"

/* Where a row version is, in which file. Zeroed: it is not known, nor needed. */
struct chunk_place {
    uint32_t filenode, block;
    uint32_t line;
};

/* Of a row that came by the log. Zeroed: it did not. */
struct chunk_log {
    uint64_t lsn; /* of its record */
    int64_t us;   /* when its transaction committed, in microseconds since 1970 */
    uint32_t nth; /* among the rows of the source that have this LSN, from 1 */
};

struct chunk_row {
    size_t start;     /* in the chunk's bytes: the fields of the row type, tabs between */
    uint32_t len;
    enum op op;
    bool is_key_only; /* nothing but its key is known: the other fields are NULL */
    bool has_unknown; /* a field is COPYTEXT_UNKNOWN: it is what it was before the update */
    struct chunk_place place; /* if the row type <has_place> */
    uint64_t xid;
    int64_t fingerprint; /* of a poll by fingerprints, see row_order.h */
    uint64_t nth;        /* among the rows of its xid with this fingerprint, from 1 */
    struct chunk_log log;
};

/* What goes with a row: the host adds it, or the stream the old row that the log has. */
struct chunk_side {
    uint64_t change;   /* its number, see state/diff.h; 0: it has none */
    size_t old_start;  /* in the chunk's bytes: the row as it was delivered the time before */
    uint32_t old_len;  /* 0: it was not kept */
};

struct chunk {
    struct rowtype *rowtype; /* counted reference; NULL without rows */
    char ts[CLOCK_TEXT];     /* when the rows were read, as text, */
    int64_t read_us;         /* and in microseconds since 1970 */
    char *bytes;             /* owned, as is <rows> */
    size_t n_bytes, cap_bytes;
    struct chunk_row *rows;
    size_t n_rows, cap_rows;
    bool is_snapshot;        /* rows of a snapshot range, else of a poll */
    bool is_ordered;         /* rows come by xid, see row_order.h: a poll may stop at any of them */
    bool is_reread;          /* then: of one that is read again, see reread.h */
    bool is_recheck;         /* see increment.h */
    bool is_log;             /* of the log: its batch is of all sources of a stream, see there; or
                              * fed */
    bool has_hashes;         /* before each row stands the hash of its key */
    bool may_be_altered;     /* of the log: rows that were sent before may have got other values by
                              * an ALTER TABLE, which the log does not have */
    bool is_recorded;        /* by state/diff.h */
    uint64_t reads;          /* as in struct position */
    uint32_t leaf, end;      /* of a snapshot range: its relation's oid, the block after it */

    bool begins;             /* the first chunk of its poll or range */
    bool ends;               /* the last one */
    bool is_all;             /* of the last one: every row that is there has come */
    bool ends_batch;         /* of the last one: its batch is over, and all sources of the unit are
                              * at one moment */
    bool is_lazy;            /* its position need not be saved soon: the poll found nothing */
    struct position *position; /* owned; of the last one: holds once that is delivered */

    struct chunk_side *sides; /* owned: one for each row, or NULL */
    size_t cap_sides;        /* how many there is room for, where the stream made them */
    uint64_t seq;             /* of its first row, as in state/seq.h; those after it follow. 0: not
                               * yet */
};

/* For a chunk that is part of something else: begins with no rows, at the time of now. */
void chunk_init(struct chunk *c);
void chunk_fini(struct chunk *c);

/* Returns owned memory, or NULL (out of memory). */
struct chunk *chunk_new(void);
void chunk_free(struct chunk *c);

/* Initializes <c> with all of <like> but its rows, what belongs to them, and its position. */
void chunk_init_like(struct chunk *c, const struct chunk *like);

/* Makes room for so many rows and bytes in all. False: out of memory. */
bool chunk_reserve(struct chunk *c, size_t rows, size_t bytes) WARN_UNUSED;

/* Appends a row, copying its <len> bytes. False: out of memory. */
bool chunk_add(struct chunk *c, const struct chunk_row *row, const char *bytes) WARN_UNUSED;

/* Puts the hash of the next row's key before the bytes of that row. False: out of memory. */
bool chunk_add_hash(struct chunk *c, uint64_t hash) WARN_UNUSED;

/* The hash that was put before <row>. */
uint64_t chunk_hash(const struct chunk *c, const struct chunk_row *row);

/* Appends a copy of bytes that belong to no row; *start: where they are. False: out of memory. */
bool chunk_add_bytes(struct chunk *c, const char *bytes, size_t len, size_t *start) WARN_UNUSED;

/* The row that was added last was <old> before, <len> bytes, of which it keeps a copy. The host
 * will not look for another one. False: out of memory. */
bool chunk_add_old(struct chunk *c, const char *old, size_t len) WARN_UNUSED;

/* Gives <c>, which has no position yet, a copy of <p>. False: out of memory. */
bool chunk_set_position(struct chunk *c, const struct position *p) WARN_UNUSED;

/* True if <c> is big enough to be sent. */
bool chunk_is_full(const struct chunk *c);

/* The memory that <c> takes, in bytes, for the queue to count. */
size_t chunk_size(const struct chunk *c);

/* Appends the fields of a row's key to <key> as COPY text, tabs between. False: the row has too few
 * fields, or there is no memory. */
bool chunk_row_key(const struct chunk *c, const struct chunk_row *row, struct buf *key) WARN_UNUSED;

/* Appends what tells the row from the others of a range of the snapshot: its place or, if the row
 * type has none, its key. False as above. */
bool chunk_row_mark(const struct chunk *c, const struct chunk_row *row,
                    struct buf *mark) WARN_UNUSED;

/* Appends a place; what stands there is no field of COPY. */
bool chunk_put_place(const struct chunk_place *place, struct buf *mark) WARN_UNUSED;

#endif
