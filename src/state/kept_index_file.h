/* kept_index_file.h -- the index of known rows, kept from one run to the next.
 *
 * To read two million rows only to index them takes longer than to look for
 * deletes. So where a program ends in good order it leaves the index, index
 * and buckets, in the state file, in parts; only those that changed are
 * written. The header makes it valid: it is taken away in the transaction
 * that changes a row first, so whatever the end, an image with a header is one
 * of the rows as they are. Whatever else is doubtful (another machine's bytes,
 * a sum that is wrong, rows beyond the position) makes it none.
 *
 * SPDX-License-Identifier: MIT */
#ifndef KEPT_INDEX_FILE_H
#define KEPT_INDEX_FILE_H

#include "state/kept_index.h"
#include "state/store.h"

struct kept_index_file_facts {
    int64_t last_id;
    uint64_t last_change; /* the highest of all rows */
};

/* Loads the image of <table>, if *is_there in the end; <index>, which is empty, stays so if not.
 * <last_change>: the change that the position accounts for. */
bool kept_index_file_load(struct store *store, const char *table, uint64_t last_change,
                          struct kept_index *index,
                struct kept_index_file_facts *facts, bool *is_there, struct err *e) WARN_UNUSED;

/* Takes part in the transaction that is open, if one is. */
bool kept_index_file_drop(struct store *store, const char *table, struct err *e) WARN_UNUSED;

/* Writes what has changed since kept_index_clean, in a transaction of its own. */
bool kept_index_file_save(struct store *store, const char *table, struct kept_index *index,
                          const struct kept_index_file_facts *facts, struct err *e) WARN_UNUSED;

#endif
