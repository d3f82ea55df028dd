/* kept_table.h -- the rows of a source in the state file.
 *
 * A table of SQLite. What is written takes part in the transaction of the
 * store that is open, if one is, see kept_table_flush.
 *
 * SPDX-License-Identifier: MIT */
#ifndef KEPT_TABLE_H
#define KEPT_TABLE_H

#include "state/kept_row.h"

struct kept_table;

/* Makes the table where it is not there. <store> and <name> are borrowed. Returns owned, or
 * NULL. */
struct kept_table *kept_table_open(struct store *store, const char *name, struct err *e);
void kept_table_close(struct kept_table *t);

/* Reads row <id>, which is there. Its slices are valid until the next call. */
bool kept_table_get(struct kept_table *t, int64_t id, struct kept_row *row,
                    struct err *e) WARN_UNUSED;

/* The highest id of a row that is there; 0: there is none. */
bool kept_table_last(struct kept_table *t, int64_t *id, struct err *e) WARN_UNUSED;

/* Reads all rows, but not their columns and older states, in the order of their ids. */
typedef bool kept_table_visit(void *arg, const struct kept_row *row, struct err *e);
bool kept_table_each(struct kept_table *t, kept_table_visit *visit, void *arg,
                     struct err *e) WARN_UNUSED;

/* Writes a row, in the place of the one with its id. */
bool kept_table_put(struct kept_table *t, const struct kept_row *row, struct err *e) WARN_UNUSED;

/* Before a transaction is committed that changed rows: the file gets what is not in it yet. (Where
 * no transaction is open each change is one.) */
bool kept_table_flush(struct kept_table *t, struct err *e) WARN_UNUSED;

bool kept_table_drop(struct kept_table *t, int64_t id, struct err *e) WARN_UNUSED;
bool kept_table_clear(struct kept_table *t, struct err *e) WARN_UNUSED;

/* Drops all rows that were reported deleted up to the change <saved>. */
bool kept_table_drop_deleted(struct kept_table *t, uint64_t saved, struct err *e) WARN_UNUSED;

#endif
