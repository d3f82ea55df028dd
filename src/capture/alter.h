/* alter.h -- what an ALTER TABLE did to rows that it did not write.
 *
 * A position keeps what the columns were. If they are others now, rows may have
 * other values though nothing in them shows that: those of a column that was
 * added with a default, of one that took the name of another one, of a virtual
 * expression; where rows are not found by xmin, also those that were rewritten.
 * Then the table must be read again. (A rewrite gives rows a new xmin.)
 *
 * ALTER TYPE ... ADD, DROP or RENAME ATTRIBUTE changes the values of all columns of that type.
 *
 * ALTER COLUMN ... TYPE ... USING may leave the type as it was. What it cannot hide is that the
 * column was altered, and the table has another file.
 *
 * In the position: a line for each column of the row type: its number, its place in
 * the key (0: none), name, type, and expression as in struct rowtype_column, the transaction that
 * altered it last, and the attributes of the rows in its values or "-" (older versions did not keep
 * these two), tabs between, text with COPY's
 * backslashes.
 *
 * SPDX-License-Identifier: MIT */
#ifndef ALTER_H
#define ALTER_H

#include "capture/source.h"

struct alter_news {
    char why[160];     /* empty, or why rows that were delivered are others now */
    bool is_other_key; /* what is known of keys does not hold any more */
};

/* Compares the columns of the facts with those that the position knows, if it knows any. Asks the
 * server only where a column is new; in the transaction that is open. <by_xmin>: the position finds
 * rewritten rows. */
bool alter_find(const struct source *s, struct conn *conn, bool by_xmin, struct alter_news *news,
                struct err *e) WARN_UNUSED;

/* Tells a new row type what <before>, the text of a position, has: former names and expressions of
 * columns, and which ones were dropped. False: out of memory. */
bool alter_set_former(struct rowtype *now, const char *before) WARN_UNUSED;

#endif
