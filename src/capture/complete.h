/* complete.h -- what rows that came by the log lack, from the server.
 *
 * Chunks on their way from the stream wait here, until the server was asked on an ordinary
 * connection, in one statement for all rows of a source: for JSON of types that only the server
 * knows, for the values of generated columns, and whether a row passes the source's condition. A
 * row that does not pass is left out, or becomes a delete if the row before it may have passed.
 *
 * Types and expressions are those of the moment, and a row may be older. A value that its type does
 * not take any more is told as its text, a row that its table does not take any more as one that
 * passes, each with a warning.
 *
 * Where nothing is lacking nothing waits.
 *
 * SPDX-License-Identifier: MIT */
#ifndef COMPLETE_H
#define COMPLETE_H

#include "capture/complete_fill.h"
#include "capture/stream_table.h"

struct complete;

/* For so many sources. Returns owned, or NULL: out of memory. */
struct complete *complete_new(size_t n_sources);
void complete_free(struct complete *c);

/* True if rows of source <i> have waited here that came from another table, or for which another
 * question was to be asked: complete_flush comes first. */
bool complete_is_other(const struct complete *c, size_t i, const struct source *s,
                       const struct stream_table *t);

/* The rows that follow of source <i> come from <t>. May ask the server. <s> is borrowed while rows
 * wait. */
bool complete_begin(struct complete *c, size_t i, struct source *s, const struct stream_table *t,
                    struct conn *conn, struct err *e) WARN_UNUSED;

/* True if the source has a condition or generated columns. */
bool complete_computes(const struct source *s);

/* True if all rows of source <i> lack something. */
bool complete_waits(const struct complete *c, size_t i);

/* A row was added to the chunk in hand of source <i>: what the log has of it, now and before;
 * either may be NULL. <lacks>: the row has_unknown. ERR_REFUSED if it must not. */
bool complete_add(struct complete *c, size_t i, const struct pgoutput_tuple *now,
                  const struct pgoutput_tuple *old, bool lacks, struct err *e) WARN_UNUSED;

/* What waits: chunks and news are handed out to this list, in order. */
struct queue_list *complete_held(struct complete *c);

/* True if much waits, or if it could not be completed the last time. */
bool complete_is_due(const struct complete *c);

struct complete_flushing {
    uint64_t open_xid; /* more rows of this transaction are to come; 0: there is none */
    const struct complete_fill_ahead *ahead; /* borrowed, or NULL: the row that comes next does not
                                              * wait yet, so the log cannot be looked at */
};

/* Completes all that was handed out. After a failure all goes on to wait. */
bool complete_flush(struct complete *c, const struct complete_flushing *how, struct conn *conn,
                    struct err *e) WARN_UNUSED;

/* Moves what is complete to <out>: all, if nothing lacks. */
void complete_release(struct complete *c, struct queue_list *out);

#endif
