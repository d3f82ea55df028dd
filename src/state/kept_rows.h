/* kept_rows.h -- the rows of a source that were delivered and not deleted since.
 *
 * In the state file (see kept_row.h, kept_page.h) key, the server's hash of it,
 * and its state: the xid of the version delivered last, a digest of its columns
 * and, if asked for, the columns. In memory an index of 8 bytes an entry, from
 * hashes to rows, and for each bucket of hashes how many there are and the xor
 * of them: that is compared with the server's to find what was deleted.
 *
 * A state is written *before* its change is handed to the script, so that no
 * row can be delivered and forgotten. What was written beyond the saved
 * position is undone when the file is opened. So rows are as the position
 * says, whenever the program died.
 *
 * What is written takes part in the transaction of the store that is open, if
 * one is. Slices that are handed out are valid until the next call.
 *
 * SPDX-License-Identifier: MIT */
#ifndef KEPT_ROWS_H
#define KEPT_ROWS_H

#include "capture/message.h"
#include "state/kept_row.h"

struct kept_rows;

/* Opens the rows kept for a source. What was written after the change <last_change> is undone.
 * <is_exact>: no change after it was delivered, or those who got it have undone that.
 * Reads all rows, unless kept_rows_save_index came last. <store> is borrowed. Returns owned, or
 * NULL. */
struct kept_rows *kept_rows_open(struct store *store, const char *source, uint64_t last_change,
                                 bool is_exact, struct err *e);
void kept_rows_close(struct kept_rows *k);

/* Before a transaction is committed that changed rows. */
bool kept_rows_flush(struct kept_rows *k, struct err *e) WARN_UNUSED;

/* The program ends in good order, and the saved position accounts for the change <saved>: the next
 * kept_rows_open need not read all rows. */
bool kept_rows_save_index(struct kept_rows *k, uint64_t saved, struct err *e) WARN_UNUSED;

/* Forgets all rows. */
bool kept_rows_clear(struct kept_rows *k, struct err *e) WARN_UNUSED;

size_t kept_rows_count(const struct kept_rows *k);
const struct tally_bucket *kept_rows_buckets(const struct kept_rows *k);

/* A row with this hash will be looked for soon: the memory that it takes is fetched meanwhile. */
void kept_rows_expect(const struct kept_rows *k, uint64_t hash);

/* Finds a row by its key. row->id is 0 if there is none. */
bool kept_rows_find(struct kept_rows *k, uint64_t hash, struct store_slice key,
                    struct kept_row *row, struct err *e) WARN_UNUSED;

/* Reads row <id>, which is there. */
bool kept_rows_get(struct kept_rows *k, int64_t id, struct kept_row *row,
                   struct err *e) WARN_UNUSED;

/* How many rows have this hash; *id is one of them. */
bool kept_rows_count_hash(struct kept_rows *k, uint64_t hash, size_t *n, uint32_t *id,
                          struct err *e) WARN_UNUSED;

/* Gives a row the state <next>, and adds it if its id is 0 (and sets that). States up to the
 * change <saved> need not be returned to, but for the newest of them. */
bool kept_rows_put(struct kept_rows *k, struct kept_row *row, const struct kept_row_state *next,
                   uint64_t saved, struct err *e) WARN_UNUSED;

/* Removes a row as if it had never been put. */
bool kept_rows_forget(struct kept_rows *k, const struct kept_row *row, struct err *e) WARN_UNUSED;

/* Removes those from the file that were reported deleted up to the change <saved>. */
bool kept_rows_purge(struct kept_rows *k, uint64_t saved, struct err *e) WARN_UNUSED;

/* Calls <visit> for the rows in the buckets whose bit is set, while it is true. <tag>: the upper
 * half of its hash. */
typedef bool kept_rows_visit(void *arg, uint32_t tag, uint32_t id);
bool kept_rows_each(const struct kept_rows *k, const unsigned char *buckets, kept_rows_visit *visit,
                    void *arg);

#endif
