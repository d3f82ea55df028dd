/* kept_index_file.h -- the index of known rows, saved from one run to the next.
 *
 * To read two million rows only to index them takes longer than to look for
 * deletes. So a program that ends in good order leaves the index and its
 * buckets in the state file, in parts; only parts that changed are written.
 * They are valid only with the header, which is dropped in the transaction that
 * first changes a row. So however the program ends, an index with a header is
 * one of the rows as they are. Where anything else is doubtful (bytes of
 * another machine, a wrong sum, rows beyond the position) it is not used.
 *
 * SPDX-License-Identifier: MIT */
#ifndef KEPT_INDEX_FILE_H
#define KEPT_INDEX_FILE_H

#include "state/kept_index.h"
#include "state/store.h"

struct kept_index_file {
    struct store *store;      /* borrowed, as are the next two */
    const char *table;        /* of the rows */
    struct kept_index *index;
    int64_t last_id;          /* the highest that a row ever had, as is the next one */
    uint64_t last_change;
};

/* Loads the index, which is empty. *is_there: it was saved and is valid; else it stays empty.
 * <last_row>: the highest id of the rows; <last_change>: the last change that the position accounts
 * for. */
bool kept_index_file_load(struct kept_index_file *f, int64_t last_row, uint64_t last_change,
                          bool *is_there, struct err *e) WARN_UNUSED;

/* Takes part in the transaction that is open, if one is. */
bool kept_index_file_drop(struct kept_index_file *f, struct err *e) WARN_UNUSED;

/* Writes what has changed since kept_index_clean, in a transaction of its own. */
bool kept_index_file_save(struct kept_index_file *f, struct err *e) WARN_UNUSED;

#endif
