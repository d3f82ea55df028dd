/* snapshot.h -- the first read of a table, in ranges of blocks.
 *
 * A position says which blocks of each leaf are done, and, where a range of
 * blocks was left half done, the keys of the rows that were delivered of it:
 * so a snapshot can stop at any row. (To ask for each row's ctid instead would
 * cost the server a tenth more for every row, also where nobody stops us. So that
 * is done only if several rows may have the same key. A ctid belongs to the same
 * row version as long as the leaf has the same file.)
 * No I/O.
 *
 * SPDX-License-Identifier: MIT */
#ifndef SNAPSHOT_H
#define SNAPSHOT_H

#include "capture/key_multiset.h"
#include "capture/source.h"

/* The blocks of <leaf> from <block> on and before <end>. Zeroed: none. */
struct snapshot_range {
    uint32_t leaf; /* its oid */
    uint32_t block, end;
    struct key_multiset done; /* rows that were delivered before */
    struct buf key;           /* room for the key of a row */
};

void snapshot_range_fini(struct snapshot_range *r);

/* True if a leaf has another file than when its reading began, so that the facts must be read
 * again, with sizes. */
bool snapshot_has_moved(const struct source *s);

/* Before a range is read, in its transaction: drops leaves that are not there any more, begins
 * those again that have another file, and chooses the next range. <r>, zeroed before, stays zeroed
 * if there is none. */
bool snapshot_begin(struct source *s, struct snapshot_range *r, struct err *e) WARN_UNUSED;

/* True if the row with these fields, of the range, was delivered before the program was stopped in
 * the middle of the range. To be called once for each row, since each mark is matched as often as
 * it was delivered. */
bool snapshot_has_delivered(struct snapshot_range *r, const struct rowtype *rowtype,
                            const struct chunk_place *place, const char *fields, size_t len);

/* ---- what is read again, see reread.h ---- */

/* True if the next step must know the leaves' sizes. */
bool snapshot_wants_sizes(const struct reread *r);

/* As snapshot_begin. The first time there is no range: the leaves are noted. If a leaf has another
 * file meanwhile there is none either, and all is begun again in the next step. */
bool snapshot_begin_again(struct source *s, struct snapshot_range *r, struct err *e) WARN_UNUSED;

/* As snapshot_advance. */
bool snapshot_advance_again(struct position *p, const struct snapshot_range *r);

/* ---- the first read ---- */

/* A range is complete, or there was none to read: the position moves over it. True if that was the
 * last one. */
bool snapshot_advance(struct position *p, const struct snapshot_range *r);

#endif
