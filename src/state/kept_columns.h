/* kept_columns.h -- which columns the rows had that were kept.
 *
 * Rows are kept as they came. After the table's columns have changed, those
 * kept before are read by the numbers and kinds of the columns that they had.
 * Also tells when the key is another one: then nothing that is known of keys
 * holds any more.
 *
 * In the state file: records of kind "form" under the source. Under a number,
 * a line for each column: name (with COPY's backslashes), enum types_kind, the
 * column's number, tabs between (once there was no number, and before that no
 * kind); under "key" a line for each column of the key: rowtype_hash_class and the column's number
 * (once its name and that), a tab between; under "altered" the number of a change.
 *
 * SPDX-License-Identifier: MIT */
#ifndef KEPT_COLUMNS_H
#define KEPT_COLUMNS_H

#include "state/store.h"
#include "capture/rowtype.h"

struct kept_columns;

/* <store> and <source> are borrowed. Returns owned, or NULL. */
struct kept_columns *kept_columns_open(struct store *store, const char *source, struct err *e);
void kept_columns_close(struct kept_columns *k);

/* Rows of <rowtype> are to come. *number: that of its columns, which is kept. *is_other_key: rows
 * had another key before. Call it inside a transaction. */
bool kept_columns_enter(struct kept_columns *k, struct rowtype *rowtype, uint32_t *number,
                        bool *is_other_key, struct err *e) WARN_UNUSED;

/* The digest of a row of <len> bytes with the columns of the last kept_columns_enter: another one
 * where the same bytes are those of other columns. */
uint64_t kept_columns_digest(const struct kept_columns *k, const char *row, size_t len);

/* True if <digest> may be that of a row which was kept before columns had numbers, and these are
 * its bytes. */
bool kept_columns_is_old_digest(const struct kept_columns *k, uint64_t digest, const char *row,
                                size_t len);

/* Appends to <b> a row that was kept under <number> as a row of <rowtype>: columns that it has not,
 * or had of another kind (so that their text meant something else), are NULL. False: out of
 * memory. */
bool kept_columns_map(const struct kept_columns *k, uint32_t number, struct store_slice row,
                      const struct rowtype *rowtype, struct buf *b) WARN_UNUSED;

/* What rows had that were kept up to this change may be otherwise by now, though no such change
 * came. Inside a transaction. */
bool kept_columns_set_altered(struct kept_columns *k, uint64_t change, struct err *e) WARN_UNUSED;
uint64_t kept_columns_altered(const struct kept_columns *k);

#endif
