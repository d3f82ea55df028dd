/* reading.h -- the COPYs of one step, and their rows as chunks.
 *
 * The parts of a step that are common to all methods: ranges of the snapshot,
 * leaves that are new, the method's poll, the census. Opens and ends no
 * transaction, and moves no position.
 *
 * SPDX-License-Identifier: MIT */
#ifndef READING_H
#define READING_H

#include "capture/key_census.h"
#include "capture/load.h"
#include "capture/method.h"
#include "capture/snapshot.h"

/* What is being read, in this order. */
enum reading_part {
    READING_NONE,   /* no row: the host gets a position to start from, or a floor that has risen */
    READING_REREAD, /* a range that is read again */
    READING_RANGE,  /* a range of the snapshot */
    READING_XIDS,   /* the xids that are there already */
    READING_LEAVES, /* the leaves that are new, one after the other */
    READING_COUNTS, /* the tally, if it goes before the poll's own rows */
    READING_POLL,   /* the poll's own rows */
    READING_TALLY,  /* the tally, how many keys there are, for the census */
    READING_KEYS,   /* the keys that the host asks for, for the census */
};

/* Which half of a range the lines are of that come next. */
enum reading_half {
    READING_BOTH,   /* the range is not divided */
    READING_LOWER,
    READING_UPPER,  /* of what the second reader has read */
    READING_REST,   /* of the upper half, which it has not */
};

struct reading {
    struct source *source;          /* borrowed, as is <census> */
    struct key_census *census;
    enum reading_part part;
    bool in_copy;
    int64_t copy_ns;                /* when the COPY in hand began */
    struct load_poll times;         /* of it: scan_us and census_us, of the COPYs that are over */
    bool is_over;                   /* all was read */
    const struct method_copy *copy; /* the COPY in hand, of the parts up to READING_POLL */
    struct method_step method;
    struct snapshot_range range;
    enum reading_half half;
    uint32_t middle;                /* where the upper half of the range begins */
    size_t next_leaf;               /* the leaves before it in the facts are known, or were read */
    const struct relation_leaf *leaf; /* of the row that was read last, if rows have places */
    struct method_row last;         /* of a poll: the newest of its rows that are to be delivered */
    struct message *message;        /* a chunk that is being filled; owned; NULL: none */
    size_t full_rows, full_bytes;   /* of the last chunk that was full; 0: there was none */
    uint64_t n_lines;               /* of rows that the server has sent; who asks sets it to 0 */
    bool is_whole;                  /* the poll reads the table for the first time, or anew */
    bool has_out;                   /* chunks with rows were handed out */
};

/* Nothing is to be read yet. */
void reading_init(struct reading *r, struct source *s, struct key_census *census);
void reading_fini(struct reading *r);

/* The table is read: its second connection (second_reader.h), if there is one, is closed. */
void reading_drop_second(struct reading *r);

/* True if rows come in an order in which the step can stop at any of them. */
bool reading_is_ordered(const struct reading *r);

/* Chooses the next range of the snapshot, if there is one. <conn>: that of the step. */
bool reading_begin_range(struct reading *r, struct conn *conn, struct err *e) WARN_UNUSED;

/* The same of what is read again. */
bool reading_begin_reread(struct reading *r, struct conn *conn, struct err *e) WARN_UNUSED;

/* Begins a poll, in the transaction that is open. */
bool reading_begin_poll(struct reading *r, struct conn *conn, struct err *e) WARN_UNUSED;

/* Makes sure that there is a chunk in hand. */
bool reading_start_chunk(struct reading *r, struct err *e) WARN_UNUSED;

/* Reads until the chunk in hand is full, all was read (is_over), or the census has a message for
 * the host: *message, NULL before, which the caller then owns. Blocks while the server has nothing
 * to send. */
bool reading_next(struct reading *r, struct conn *conn, struct message **message,
                  struct err *e) WARN_UNUSED;

#endif
