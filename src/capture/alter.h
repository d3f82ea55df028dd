/* alter.h -- what an ALTER TABLE did to rows that it did not write.
 *
 * A position keeps what the columns were. If they are others now, rows that were
 * delivered may have other values, and nothing in the rows shows that: values of a
 * column that was added with a default, of one that has the name of another one, or
 * of a virtual column with another expression; and, unless rows are found by xmin,
 * those of a table that was rewritten. Then the table must be read again. (A rewrite
 * gives rows a new xmin.)
 *
 * ALTER TYPE ... ADD, DROP or RENAME ATTRIBUTE changes the values of all columns of that type.
 *
 * ALTER COLUMN ... TYPE ... USING may leave the type as it was, and change the values. It shows in
 * two things: another transaction has altered the column, and the table has another file.
 *
 * The position has a line for each column of the row type, with tabs between the fields, whose text
 * has COPY's backslashes: the column's number, its place in the key (0: none), name, type, and
 * expression as in struct rowtype_column, the transaction that altered it last, and the attributes
 * of the rows in its values, or "-" (older versions did not keep the last two).
 *
 * SPDX-License-Identifier: MIT */
#ifndef ALTER_H
#define ALTER_H

#include "capture/source.h"

struct alter_news {
    char why[160];     /* empty, or why rows that were delivered are others now */
    bool is_other_key; /* the key has other columns, or hashes otherwise: what is kept of the keys
                        * that were delivered is of no use */
};

/* Compares the columns of the facts with those that the position knows, if it knows any. Asks the
 * server only if a column is new, in the transaction that is open. <by_xmin>: polls go by xmin, so
 * rewritten rows come by themselves. */
bool alter_find(const struct source *s, struct conn *conn, bool by_xmin, struct alter_news *news,
                struct err *e) WARN_UNUSED;

/* Sets in a new row type what became of the columns of <before>, a position's text: their former
 * names and expressions, and which of them were dropped. False: out of memory. */
bool alter_set_former(struct rowtype *now, const char *before) WARN_UNUSED;

#endif
