/* spool.h -- the file for what the queue cannot hold.
 *
 * First in, first out. The file has no name, so that nothing of it is left after a
 * crash. It holds rows only: what all chunks of a poll have in common (source, row
 * type, time) is given again when they are read back.
 *
 * SPDX-License-Identifier: MIT */
#ifndef SPOOL_H
#define SPOOL_H

#include "capture/chunk.h"

struct spool;

/* Creates a file in <dir>. Returns owned, or NULL with ERR_STATE. */
struct spool *spool_open(const char *dir, struct err *e);

/* Frees <s>, and with it the file. NULL is legal. */
void spool_close(struct spool *s);

/* Appends the rows of <c>, which is borrowed. ERR_STATE if the disk is full; what was written
 * before can still be read. */
bool spool_write(struct spool *s, const struct chunk *c, struct err *e) WARN_UNUSED;

/* Gives <c>, which has no rows yet, those of the oldest chunk that was not read. *got: there was
 * one. False: ERR_STATE or ERR_MEMORY. */
bool spool_read(struct spool *s, struct chunk *c, bool *got, struct err *e) WARN_UNUSED;

/* True if all that was written was read. */
bool spool_is_empty(const struct spool *s);

/* How many bytes wait in it. (The file has those that were read as well, until all were.) */
uint64_t spool_bytes(const struct spool *s);

#endif
