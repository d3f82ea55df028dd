/* log_columns.h -- which of a table's columns the log's are.
 *
 * The log tells columns by the names that they had, without numbers, and may be far behind the
 * catalog: a column may have been renamed, dropped or added since. But it tells all columns that
 * the table had then, in the order of their numbers; numbers are not given out again; and what
 * lives now and has a lower number than one that lived then lived then, too. So the columns of the
 * log are the first ones that live now, and between them some that were dropped since; which, the
 * names tell, those of now and those that a position kept, and the types. Where nothing was
 * dropped, neither counts at all. (Stored generated columns are there or not, as the publication
 * says.)
 *
 * No I/O.
 *
 * SPDX-License-Identifier: MIT */
#ifndef LOG_COLUMNS_H
#define LOG_COLUMNS_H

#include "capture/rowtype.h"

enum log_columns_state {
    LOG_COLUMNS_LIVES = '+',
    LOG_COLUMNS_DROPPED = '-',
    LOG_COLUMNS_STORED = 's', /* generated */
    LOG_COLUMNS_VIRTUAL = 'v',
};

/* The columns of a table, v[i] is that with number i + 1. Zeroed: nothing is known, or the
 * publication has a list of columns. */
struct log_columns {
    struct log_column {
        enum log_columns_state state;
        uint32_t type; /* oid; 0: it was dropped */
        char *name;    /* as of now; owned */
    } *v;
    size_t n, cap;
};

void log_columns_fini(struct log_columns *c);

/* Appends an expression for the text that log_columns_read reads, of the table c of pg_class. */
void log_columns_put(struct buf *sql);

/* Overwrites <c>. NULL: nothing is known. ERR_MEMORY. */
bool log_columns_read(struct log_columns *c, const char *text, struct err *e) WARN_UNUSED;

/* The columns of a relation, as the log tells them: borrowed, <n> of each. */
struct log_columns_told {
    char *const *names;
    const uint32_t *types;
    const uint16_t *before; /* their numbers when the log told the same before, or NULL */
    size_t n;
};

/* numbers[i]: of the column told->names[i]; one that was dropped since has its number, too, or 0.
 * <now>: the row type, whose columns know their former names. *is_found false: nobody can tell.
 * ERR_MEMORY. */
bool log_columns_number(const struct log_columns *c, const struct rowtype *now,
                        const struct log_columns_told *told, uint16_t *numbers, bool *is_found,
                        struct err *e) WARN_UNUSED;

#endif
