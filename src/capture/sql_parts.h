/* sql_parts.h -- the question about what the types of columns consist of.
 *
 * A type that somebody made can be changed and keep its name. So columns of domains, composites and
 * ranges, and of arrays of anything that somebody made, are told apart by their *parts*: the column
 * itself, the elements of an array or a range, the attributes of a row, and so on. A domain is no
 * part; the type that it is a domain over is one.
 *
 * A part is a JSON list of the steps to it from the column, "[]", "<>" (of a range) or "." and the
 * name of an attribute, and of its type: [["[]", ".price"], "numeric(10,2)"].
 *
 * SPDX-License-Identifier: MIT */
#ifndef SQL_PARTS_H
#define SQL_PARTS_H

#include "capture/sql.h"

/* For each column: its number; a JSON list of all its parts; the numbers and names of all
 * attributes, or NULL if it has none. */
void sql_parts(struct buf *b, const struct relation *t);

/* The same for other types: <first> is SQL for rows of a number, the oid of a type and a typmod.
 * The columns are named num, parts and attributes. */
void sql_parts_of(struct buf *b, const char *first);

extern const struct result_shape sql_parts_shape;

#endif
