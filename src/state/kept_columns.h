/* kept_columns.h -- which columns rows had that were kept.
 *
 * Rows are kept as they came; when the table's columns change, those kept
 * before are read by the names and kinds of their columns. Also notices when the key is
 * another one, so that nothing that is known of keys holds any more.
 *
 * In the state file: records of kind "form" under the source, a number and
 * of each column a line: name (with COPY's backslashes), tab, enum types_kind; under
 * "key" what the key is.
 *
 * SPDX-License-Identifier: MIT */
#ifndef KEPT_COLUMNS_H
#define KEPT_COLUMNS_H

#include "state/store.h"
#include "capture/rowtype.h"

struct kept_columns;

/* <store> and <source> are borrowed. Returns owned, or NULL. */
struct kept_columns *kept_columns_open(struct store *store, const char *source, struct err *e);
void kept_columns_close(struct kept_columns *f);

/* Rows of <shape> are to come: gives it a number, which is kept. *is_other_key: rows had another
 * key before. Call it inside a transaction. */
bool kept_columns_enter(struct kept_columns *f, struct rowtype *rowtype, uint32_t *number,
                        bool *is_other_key, struct err *e) WARN_UNUSED;

/* Appends a row that was kept under <number> as a row of <shape>: columns that it has not, or had
 * of another kind (so that their text meant something else), are NULL. */
bool kept_columns_map(const struct kept_columns *f, uint32_t number, struct store_slice row,
                      const struct rowtype *rowtype, struct buf *b) WARN_UNUSED;

#endif
