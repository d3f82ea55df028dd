/* reread.h -- rows that are read again because a user wants them again, while polls go on.
 *
 * Between two polls a range of blocks is read, in a transaction of its own. Of its rows those are
 * delivered, as reads, that the position calls old: what they say was delivered before, or was
 * there before the source began. All others are new to the position, and the next poll brings them.
 *
 *    Why a key never goes back: polls and ranges of a source follow each other, so a range sees at
 *    least what the last poll saw. A row in it that is old is thus the newest version that was
 *    delivered; a newer one is not old, since a poll that had brought it would have been before.
 *
 *    Where sources are read together a target is at the moment P of their last polls, and stays at
 *    it: a range is read between two polls, and an old row in it is in P, since it was in no poll
 *    after P, and has not ended before it.
 *
 * Where changes come by the log the position is not at one moment: reread_log.h.
 *
 * How far that is belongs to the position (position.h), so that it outlives the program. A value:
 * no I/O here. The ranges are those of snapshot.h.
 *
 * SPDX-License-Identifier: MIT */
#ifndef REREAD_H
#define REREAD_H

#include "base/warn.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Blocks of a leaf before <next> are done, those from <blocks> on need not be read. */
struct reread_leaf {
    uint32_t oid, filenode;
    uint32_t blocks, next;
};

/* Zeroed: nothing is to be read again. */
struct reread {
    char *where;     /* a condition in SQL, "": none; owned; NULL: nothing is to be read again */
    bool has_begun;  /* the leaves are known */
    struct reread_leaf *leaves; /* owned */
    size_t n_leaves, cap_leaves;
    uint64_t rows;   /* that were delivered */
};

void reread_fini(struct reread *r);

/* Overwrites <to>. False: out of memory, and <to> is empty. */
bool reread_copy(struct reread *to, const struct reread *from) WARN_UNUSED;

/* True if there is something to be read. */
bool reread_is_due(const struct reread *r);

/* How much is done, in blocks. */
void reread_progress(const struct reread *r, uint64_t *done, uint64_t *total);

#endif
