/* store.h -- the state file: positions that outlive the process.      floor 3
 *
 * One SQLite database for one process at a time: it is locked as long as it
 * is open. Write-ahead log with synchronous = FULL, so that what was saved
 * survives a power loss. Mode 0600. Holds no password and no row.
 *
 * All errors are ERR_STATE and name the file.
 *
 * SPDX-License-Identifier: MIT */
#ifndef STORE_H
#define STORE_H

#include "position.h"

struct store;

/* Opens or creates <path> and the folders above it. Returns owned, or NULL. */
struct store *store_open(const char *path, struct err *e);
void store_close(struct store *s);

/* The position kept under <source>; *found false and <p> zeroed if there is none. */
bool store_load(struct store *s, const char *source, struct position *p, bool *found,
                struct err *e) WARN_UNUSED;

/* Durable when it returns. */
bool store_save(struct store *s, const char *source, const struct position *p,
                struct err *e) WARN_UNUSED;

/* Forgets the position of <source>, of all if NULL. *n: how many there were. */
bool store_forget(struct store *s, const char *source, int *n, struct err *e) WARN_UNUSED;

#endif
