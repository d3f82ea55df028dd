/* second_reader.h -- the other half of a range, read by another connection at the same time.
 *
 * For `readers = 2`: a thread with a connection of its own, which keeps the lines of its half until
 * the reader has come to them. Both halves are of one snapshot, which the reader's transaction
 * exports. Whatever goes wrong here the reader reads that half itself, in the same transaction; so
 * nothing can be lost or come twice by it.
 *
 * SPDX-License-Identifier: MIT */
#ifndef SECOND_READER_H
#define SECOND_READER_H

#include "capture/config.h"
#include "capture/relation.h"
#include "pg/conn.h"

struct second_reader;

/* For the source that <config>, borrowed, declares. <stop_fd>: as of conn_open. Returns owned, or
 * NULL: there can be none. */
struct second_reader *second_reader_new(const struct config *config, int stop_fd);

/* Stops what it does, and waits for that. NULL is legal. */
void second_reader_free(struct second_reader *r);

/* Exports the snapshot of the transaction that is open on <conn>, and has <copy>, a COPY that reads
 * the table <t>, be run in it. *is_begun false: it is not. False: the transaction is broken. */
bool second_reader_begin(struct second_reader *r, const struct relation *t, const char *copy,
                         struct conn *conn, bool *is_begun, struct err *e) WARN_UNUSED;

/* Waits until all of it was read. False: it could not be. */
bool second_reader_end(struct second_reader *r) WARN_UNUSED;

/* The next line that it has read, borrowed until the next call of another function. False: there is
 * none left. */
bool second_reader_next(struct second_reader *r, const char **line, size_t *len);

#endif
