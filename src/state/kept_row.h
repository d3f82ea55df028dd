/* kept_row.h -- a row that was delivered, as the state file keeps it.
 *
 * A row has the state of its last change, and remembers the states before it,
 * back to the one that the saved position accounts for: what was written
 * beyond that can be undone. Keys and columns are COPY text, tabs between.
 * No I/O here.
 *
 * SPDX-License-Identifier: MIT */
#ifndef KEPT_ROW_H
#define KEPT_ROW_H

#include "base/buf.h"
#include "state/store.h"

struct kept_row_state {
    uint64_t change;       /* its number; 0 while in doubt */
    uint64_t xid;          /* of the row version */
    uint64_t digest;       /* of its columns */
    uint64_t reads;        /* see struct position */
    bool is_in_doubt;      /* written for a change that may have been delivered or not */
    bool is_deleted;       /* that was reported, and no such row can be found any more */
    bool is_soft_deleted;  /* that was reported because of what stands in its columns */
    uint32_t columns;      /* which ones <row> has, see kept_columns.h */
    struct store_slice row; /* p NULL: it was not kept */
};

struct kept_row {
    int64_t id; /* 0: it is not known */
    uint64_t hash;
    struct store_slice key;
    struct kept_row_state now;
    struct store_slice older; /* the states before, as kept_row_put_older writes them */
};

/* The flags of a state and its <reads>, as one number. */
uint64_t kept_row_flags(const struct kept_row_state *s);
void kept_row_set_flags(struct kept_row_state *s, uint64_t flags);

/* It was written for a change that may have been delivered or not. */
void kept_row_set_in_doubt(struct kept_row_state *s);

/* Appends a number, of seven bits a byte, lowest first; takes one off the front of <s>, or returns
 * false. */
void kept_row_put_number(struct buf *b, uint64_t n);
bool kept_row_take_number(struct store_slice *s, uint64_t *n) WARN_UNUSED;

/* A sum, so that a flipped bit does not pass for a row. (Columns and older states are no part of
 * it: to open the file they need not be read.) */
int32_t kept_row_sum(const struct kept_row *row);

/* Appends what is to stand in `older` when the row gets another state: the one that it has and
 * those before, back to the newest that the change <saved> accounts for. See buf_ok. */
void kept_row_put_older(const struct kept_row *row, uint64_t saved, struct buf *b);

/* Gives the row the state before. False: there is none. */
bool kept_row_step_back(struct kept_row *row);

#endif
