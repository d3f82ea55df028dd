/* complete_table.h -- rows of one source that wait until they are complete, see complete.h.
 *
 * A *unit* is a line of a chunk with what the log has of its row: of each row as it is, and of the
 * row before where the log has that.
 *
 * SPDX-License-Identifier: MIT */
#ifndef COMPLETE_TABLE_H
#define COMPLETE_TABLE_H

#include "capture/complete_plan.h"
#include "capture/stream_table.h"

/* What the log has of a row: columns in <bytes> from <start> on; n 0: nothing is known. */
struct complete_table_tuple {
    size_t start, n;
};
struct complete_table_whole {
    struct complete_table_tuple now, old;
};

/* What the server says of a column. */
struct complete_table_value {
    bool is_set, is_null;
    size_t start, len; /* in the answers, as a field of COPY */
};

struct complete_table_unit {
    const struct chunk *chunk;
    size_t start, len;      /* its line in the chunk; len 0: it has none */
    bool has_old;           /* the next unit is the row before */
    bool has_row;           /* the log has the whole row: */
    struct complete_table_tuple row;
    struct complete_table_tuple before; /* the row before, for columns that did not change */
    /* set by complete_ask: */
    uint64_t hash;          /* of its key, if the table wants it */
    bool passes;            /* the condition */
    struct complete_table_value *values; /* for each column of the row type; NULL: not asked for */
    const struct buf *answers;
};

/* The rows of a source that wait. */
struct complete_table {
    struct source *source;   /* borrowed; NULL: there are none yet */
    struct rowtype *rowtype; /* counted reference */
    uint64_t serial;         /* of the columns that the log announced */
    uint64_t newest;         /* the highest serial of those that rows have waited with: what a row
                              * had before a table is announced anew may have been altered since */
    bool is_asked;           /* all rows lack something */
    bool is_lacking;         /* rows that wait, or one that is to come, lack values that their
                              * update left as they were: */
    size_t n_lacking;        /* so many rows came since the first one */
    bool needs_rows, has_condition;
    bool wants_hash;         /* of each row, see source_keeps_by_log */
    bool is_planned_anew;    /* since rows waited first */
    struct complete_plan plan;
    char **names;            /* of the columns that the log has; n_names of them; owned */
    size_t n_names;
    size_t *from;            /* of each column of the plan, where it is among them; SIZE_MAX */
    bool *is_told;           /* of each column of the row type: a warning was given */
    bool is_row_told;
    /* one for each row that was added: */
    struct complete_table_whole *wholes;
    size_t n_wholes, cap_wholes;
    char *bytes;
    size_t n_bytes, cap_bytes;
    size_t n_put;            /* of the wholes, how many have units */
    struct complete_table_unit *units;
    size_t n_units, cap_units;
    struct complete_table_value *values;
    struct buf answers, scratch;
};

void complete_table_init(struct complete_table *ct);
void complete_table_fini(struct complete_table *ct);

/* As in complete.h. */
bool complete_table_begin(struct complete_table *ct, struct source *s,
                          const struct stream_table *t, struct conn *conn,
                          struct err *e) WARN_UNUSED;
bool complete_table_add(struct complete_table *ct, const struct pgoutput_tuple *now,
                        const struct pgoutput_tuple *old, bool lacks,
                        struct err *e) WARN_UNUSED;

/* Reads what the table is now, and finds its columns in the log. */
bool complete_table_plan(struct complete_table *ct, struct conn *conn, struct err *e) WARN_UNUSED;

/* Makes units of the rows of a chunk, which are the next of those that were added. */
bool complete_table_put(struct complete_table *ct, const struct chunk *chunk,
                        struct err *e) WARN_UNUSED;

/* What waits goes on to wait. */
void complete_table_forget_units(struct complete_table *ct);

/* The rows that have units do not wait any more. */
void complete_table_take(struct complete_table *ct);

#endif
