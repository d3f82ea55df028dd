/* transfer.h -- carries the state of a pipeline from one home to another, a file or a database.
 *
 * After a copy there is one home that may be used, never two, nor none that is whole. The record
 * "move" of each says which:
 *   arriving  what is in it is a copy that did not come to its end
 *   left      what is in it was copied elsewhere, and goes on there
 *   came      it was copied here
 * with the number of the copy, which both sides have, and where the other side is. A copy marks
 * its target as arriving, then its origin as left, and then brings the records and, as its last
 * step, the mark that says so. Whoever dies in between is followed by the same copy again: until
 * the second step the origin may be used, and from then on nothing but the target, once it is
 * whole.
 *
 * Nobody else may be at work on either: a file is locked, a pipeline in a database is taken; who
 * finds it in use fails at once. All errors are ERR_STATE, but for those of opening a store.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TRANSFER_H
#define TRANSFER_H

#include "base/buf.h"
#include "state/kept_row.h"
#include "state/store.h"

/* Where a state is. The texts are borrowed. */
struct transfer_home {
    const char *place;    /* what --state says: a path or a conninfo */
    const char *pipeline; /* its name in a database */
    int stop_fd;          /* readable from when the program is to stop */
};

/* Refuses a store that must not be used, since its state is elsewhere. */
bool transfer_check(struct store *s, struct err *e) WARN_UNUSED;

/* Copies, and marks <from> as left. *is_old: the copy was made before; nothing was done. */
bool transfer_copy(const struct transfer_home *from, const struct transfer_home *to, bool *is_old,
                   struct err *e) WARN_UNUSED;

/* Calls the functions for all that is kept there: records, then rows. */
struct transfer_visit {
    bool (*record)(void *arg, const struct store_record *r, struct err *e);
    bool (*row)(void *arg, const char *table, const struct kept_row *r, struct err *e);
    void *arg;
};
bool transfer_read(const struct transfer_home *home, const struct transfer_visit *visit,
                   struct err *e) WARN_UNUSED;

/* Takes all of it away: the file and what SQLite keeps beside it, or the pipeline. */
bool transfer_remove(const struct transfer_home *home, struct err *e) WARN_UNUSED;

#endif
