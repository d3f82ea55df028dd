/* complete_plan.h -- what the server is asked about rows that the log has brought.
 *
 * The log has the text of the columns that are stored. What a query would give besides is computed
 * from that, by statements whose text is made here: JSON of types that only the server knows, the
 * values of generated columns, whether a row passes the source's condition.
 *
 * SPDX-License-Identifier: MIT */
#ifndef COMPLETE_PLAN_H
#define COMPLETE_PLAN_H

#include "capture/source.h"

/* A column of the table, as it is now. All owned. */
struct complete_plan_column {
    char *name;
    char *type;       /* of a domain what it is over; without a length or the like */
    char *expression; /* of a generated column, or NULL */
    bool is_computed; /* it is generated, and the log does not have it */
};

struct complete_plan {
    struct rowtype *rowtype; /* that of the rows; counted reference; NULL: there is no plan */
    struct complete_plan_column *columns;
    size_t n_columns;
    size_t *place;           /* of each of the row type's columns, where it is among the others;
                              * SIZE_MAX: it is not there any more; owned */
};

void complete_plan_fini(struct complete_plan *p);

/* Asks for the columns of the table of <s>, in a transaction of its own. <t>: the type of the rows.
 * <p> is replaced. */
bool complete_plan_read(struct complete_plan *p, const struct source *s, struct rowtype *t,
                        struct conn *conn, struct err *e) WARN_UNUSED;

/* True if rows of the source may lack something; if all of a row is asked about, and not just some
 * of its columns. */
bool complete_plan_is_needed(const struct source *s);
bool complete_plan_needs_rows(const struct complete_plan *p, const struct source *s);

/* True if the server is asked for JSON of column <i> of the row type; for its value. */
bool complete_plan_wants_json(const struct complete_plan *p, size_t i);
bool complete_plan_wants_value(const struct complete_plan *p, size_t i);

/* True if the hash of a key can be asked for. */
bool complete_plan_has_key(const struct complete_plan *p);

/* What a statement asks of some rows. Where an array is NULL, that is not asked. */
struct complete_plan_question {
    const char *rows;   /* an array of rows as text, as SQL */
    const char **texts; /* for each column of the row type an array of texts, as SQL, or NULL */
    bool only_reads;    /* of <rows> nothing is asked, but that they can be read */
    const char **keys;  /* for each column of the key such an array: their hash is asked for; or
                         * NULL */
};

/* Appends it. The answer has for each row, in order: if <rows> are asked about, whether it passes
 * the condition, and each value that is wanted; then each JSON; then the hash. */
void complete_plan_put(const struct complete_plan *p, const struct source *s,
                       const struct complete_plan_question *q, int server_version, struct buf *sql);

/* Parts of such statements: the settings, before it; the table; a column of it. */
void complete_plan_put_settings(struct buf *sql, int server_version);
void complete_plan_put_table(struct buf *sql, const struct source *s);
void complete_plan_put_name(struct buf *sql, const struct source *s, const char *name);

/* An item of an array in E'': in double quotes, of the field of a line. */
void complete_plan_put_item(struct buf *sql, struct copytext_field f);

/* Appends a statement that asks about no row, and fails where the others would. */
void complete_plan_put_try(const struct source *s, struct buf *sql);

#endif
