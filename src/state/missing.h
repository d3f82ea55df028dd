/* missing.h -- which of the known rows the server has no more.
 *
 * The server's tally is compared with what is known. After the changes of a
 * poll are delivered the known rows contain the server's, so a bucket in which
 * as many rows are known as the server has (the poll's own new ones included)
 * misses none, whatever its xor. A bucket with one row more misses the row
 * whose hash is the difference of the xors; one with two more mostly the only
 * two rows with that difference (missing_pair.h). Of the others the keys are
 * asked for: what does not come is missing.
 *
 * SPDX-License-Identifier: MIT */
#ifndef MISSING_H
#define MISSING_H

#include "capture/tally.h"
#include "state/kept_rows.h"

struct missing;

/* <rows> is borrowed. Returns owned, or NULL: out of memory. */
struct missing *missing_new(struct kept_rows *rows);
void missing_free(struct missing *m);

/* Compares a tally, which it takes. What was found before and was not taken is forgotten.
 * <is_learning>: all keys are asked for. *asked: the buckets whose keys are needed, borrowed, or
 * NULL: all that is missing is known. */
bool missing_compare(struct missing *m, struct tally *tally, bool is_learning,
                     const struct tally_request **asked, struct err *e) WARN_UNUSED;

/* All known rows are missing. */
bool missing_find_all(struct missing *m, struct err *e) WARN_UNUSED;

/* True while keys that were asked for are to come; and whether those of all buckets are. */
bool missing_is_asking(const struct missing *m);
bool missing_is_learning(const struct missing *m);

/* A key came: the server has the known row <id>. */
void missing_take_key(struct missing *m, uint32_t id);

/* The last key came: all that is missing is known. */
bool missing_end_keys(struct missing *m, struct err *e) WARN_UNUSED;

/* The keys will not come: only what is known without them is missing. */
void missing_do_without_keys(struct missing *m);

/* Takes up to <max> of the missing rows, in the order in which they came. Returns how many; *ids
 * is borrowed until the next call. */
size_t missing_take(struct missing *m, size_t max, const uint32_t **ids);

#endif
