/* stream_batch.h -- the batch that a stream is making, of the sources that it is for.
 *
 * Chunks are handed out in the order of the log: when another source has the next row, the chunk in
 * hand goes first. The last chunk of each source brings its position, and the last one of all ends
 * the batch. No I/O.
 *
 * SPDX-License-Identifier: MIT */
#ifndef STREAM_BATCH_H
#define STREAM_BATCH_H

#include "capture/source.h"
#include "capture/stream_place.h"

/* What the stream keeps of a source. */
struct stream_batch_member {
    struct source *source;   /* borrowed; NULL: it is not attached */
    struct message *message; /* a chunk that is being filled; owned; NULL: none */
    bool has_out;            /* something of the batch was handed out, */
    bool has_chunk;          /* also a chunk */
    struct stream_place place; /* in the transaction in hand, unless <is_done> */
    bool is_done;            /* the transaction in hand was delivered before */
    uint64_t n_rows;         /* of that transaction, also those that are passed over */
    uint64_t told;           /* the LSN of the position that was handed out last */
    uint64_t anew;           /* its changes begin here, and what was sent before may have misled an
                              * old server, see log_leaves.h; 0: they do not */
};

struct stream_batch_size {
    size_t n_rows, n_bytes;
};

struct stream_batch {
    struct stream_batch_member *members; /* owned */
    size_t n_members;
    struct stream_batch_size size;
    struct stream_batch_size inside; /* of it, what is of the transaction in hand */
};

/* False: out of memory. */
bool stream_batch_init(struct stream_batch *b, size_t n_members) WARN_UNUSED;
void stream_batch_fini(struct stream_batch *b);

/* True if it has something. */
bool stream_batch_has(const struct stream_batch *b);

bool stream_batch_is_big(const struct stream_batch_size *size);

/* Adds a row, and, unless NULL or empty, the one before. Both are copied. */
bool stream_batch_add(struct stream_batch *b, struct stream_batch_member *m,
                      const struct chunk_row *row, const char *bytes, const struct buf *old,
                      struct queue_list *out, struct err *e) WARN_UNUSED;

/* Counts a message of so many bytes as a row. */
void stream_batch_add_size(struct stream_batch *b, size_t n_bytes);

/* Hands out the chunk in hand. */
void stream_batch_give(struct stream_batch *b, struct queue_list *out);

/* Hands out a message about a source, which it takes over, after all rows that came before it. */
void stream_batch_put(struct stream_batch *b, struct stream_batch_member *m,
                      struct message *message, struct queue_list *out);

/* Hands out the news of a source, and before them its chunk in hand. */
void stream_batch_give_news(struct stream_batch_member *m, struct queue_list *out);

/* The batch is over: hands out the last chunk of each source that it has something of. */
bool stream_batch_end(struct stream_batch *b, struct queue_list *out, struct err *e) WARN_UNUSED;

/* A batch of nothing but positions that were not handed out yet. */
bool stream_batch_tell(struct stream_batch *b, struct queue_list *out, struct err *e) WARN_UNUSED;

#endif
