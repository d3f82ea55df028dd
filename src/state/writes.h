/* writes.h -- what a transaction changes in a state that is kept in a database.
 *
 * A list of pieces: SQL of one statement or more, or rows as lines of COPY. They are kept until the
 * transaction is committed, so that they can be sent again when the connection is lost.
 * The tables are those of database.h.
 *
 * SPDX-License-Identifier: MIT */
#ifndef WRITES_H
#define WRITES_H

#include "base/buf.h"
#include "state/kept_row.h"

/* Where many rows go by COPY, before they replace those of state_rows. */
#define WRITES_COPY "COPY pg_temp.pgcdc_rows FROM STDIN"

struct writes_piece {
    bool is_rows;    /* lines of WRITES_COPY */
    size_t n_rows;
    struct buf text; /* owned */
};

struct writes {
    char *pipeline;  /* owned: as a literal of SQL */
    struct writes_piece *pieces;
    size_t n, cap;
    uint64_t rows;   /* that were put */
    char *dropped;   /* owned: the last statement lists ids of this source; NULL: it does not */
    bool failed;     /* there was no memory */
};

/* False with ERR_MEMORY. */
bool writes_init(struct writes *w, const char *pipeline, struct err *e) WARN_UNUSED;
void writes_fini(struct writes *w);
void writes_clear(struct writes *w);

/* Call it when all was added. True if that is there. */
bool writes_end(struct writes *w);

/* What the functions of store.h and kept_table.h of these names do. */
void writes_put(struct writes *w, const struct store_record *r);
void writes_forget(struct writes *w, const char *source, bool is_any_schema);
void writes_forget_all(struct writes *w);
void writes_remove(struct writes *w); /* all of the pipeline, and its lease */
void writes_row_put(struct writes *w, const char *table, const struct kept_row *r);
void writes_row_drop(struct writes *w, const char *table, int64_t id);
void writes_rows_clear(struct writes *w, const char *table);
void writes_rows_drop_deleted(struct writes *w, const char *table, uint64_t saved);

/* True if the rows of a piece are so few that writes_put_rows is the quicker way. */
bool writes_are_few(const struct writes_piece *piece);

/* Appends SQL that puts the rows of a piece. */
void writes_put_rows(const struct writes *w, const struct writes_piece *piece, struct buf *sql);

/* Appends SQL that makes the table of WRITES_COPY, for a transaction. */
void writes_put_temporary(struct buf *sql);

/* Appends SQL that takes over what was copied, and drops that table. */
void writes_put_take_over(const struct writes *w, struct buf *sql);

#endif
