/* delivery.h -- where the delivery of one source is.
 *
 * The only owner of that: the position up to which all is delivered, what of
 * the batch in hand was delivered and where that batch may stop, what waits
 * while the source is paused, what is known of its rows for deletes. No Lua.
 *
 * A batch is all changes of one poll or range: deletes first, then rows. A
 * batch may stop in the middle. Rows of a poll come in an order (row_order.h), so
 * the last one delivered tells how far it is; of a range marks of the rows that
 * were delivered are kept.
 *
 * Sources that are read together (capture/unit.h) have one batch: it is over with
 * the last chunk of the last one, and may stop nowhere before. What is of all of
 * them is kept in the delivery of the first one, the leader.
 *
 * False from a function without <e> means out of memory.
 *
 * SPDX-License-Identifier: MIT */
#ifndef DELIVERY_H
#define DELIVERY_H

#include "capture/message.h"
#include "host/lag.h"
#include "host/progress.h"
#include "state/diff.h"
#include "state/seq.h"

struct delivery;

/* Of source <number>; its changes are numbered by <seq>, which is borrowed. Returns owned, or NULL:
 * out of memory. */
struct delivery *delivery_new(size_t number, struct seq *seq);
void delivery_free(struct delivery *d);

/* The source has its final name: it goes on from the position that <store> keeps under <name>, if
 * any. Without a store it begins anew. <name>, <config> and <store> are borrowed. */
bool delivery_restore(struct delivery *d, struct store *store, const struct config *config,
                      const char *name, struct err *e) WARN_UNUSED;
bool delivery_is_restored(const struct delivery *d);
bool delivery_has_kept(const struct delivery *d); /* the store kept a position */

/* Its source is read together with that of <leader>, which may be itself. Borrowed. */
void delivery_join(struct delivery *d, struct delivery *leader);
/* The same where one log is read for the two: batches of it are of all such sources, others are
 * not. */
void delivery_follow(struct delivery *d, struct delivery *leader);
/* True if the two have batches in common. */
bool delivery_is_with(const struct delivery *d, const struct delivery *other);

size_t delivery_source(const struct delivery *d); /* its number */
struct progress *delivery_progress(struct delivery *d);
struct lag *delivery_lag(struct delivery *d);

/* ---- the position ---- */

/* Up to which all is delivered, borrowed; NULL: there is none yet. */
const struct position *delivery_position(const struct delivery *d);

/* True if that is neither saved, nor given to a checkpoint that will save it. */
bool delivery_is_unsaved(const struct delivery *d);
void delivery_set_saved(struct delivery *d);

/* The position as it is at this moment, also in the middle of a batch. */
struct delivery_moment {
    char *text;           /* owned; NULL: it is not a new one */
    uint64_t last_change; /* see struct position */
    bool is_known;        /* false in the middle of a batch that may not stop */
};
bool delivery_write(const struct delivery *d, const char *name,
                    struct delivery_moment *moment) WARN_UNUSED;

/* How many changes were delivered since the start, and how many bytes the server sent for them. */
void delivery_totals(const struct delivery *d, uint64_t *rows, uint64_t *bytes);

/* A reading of the source begins. */
bool delivery_begin_reading(struct delivery *d, struct err *e) WARN_UNUSED;
/* True, once, if the reading has ended: all rows of the source have come. */
bool delivery_ends_reading(struct delivery *d);

/* ---- the batch in hand ---- */

uint64_t delivery_batch(const struct delivery *d); /* its number, or that of the last one */
uint64_t delivery_count(const struct delivery *d); /* how many changes of it were delivered */
bool delivery_is_begun(const struct delivery *d);  /* some of it was, also of another source */
bool delivery_may_stop(const struct delivery *d);  /* it may end where it is */
bool delivery_is_whole(const struct delivery *d);  /* it is of several sources: it stops nowhere */

/* Ends it where it is: that is the position now. */
bool delivery_stop(struct delivery *d) WARN_UNUSED;

/* A chunk of rows is to be delivered, from row *from on: begins the batch if the chunk is its first
 * one, records the rows and numbers them. */
bool delivery_begin_rows(struct delivery *d, struct chunk *c, size_t *from,
                         struct err *e) WARN_UNUSED;

/* Rows before <done> were delivered, and not all of the batch. <is_again>: the chunk is to be
 * delivered again, from there on. */
bool delivery_add_rows(struct delivery *d, const struct chunk *c, size_t done,
                       bool is_again) WARN_UNUSED;

/* The script failed with row <failed>, so that the program ends: no row after it was delivered. */
void delivery_fail(struct delivery *d, const struct chunk *c, size_t failed);

/* The last row of the batch was delivered. */
bool delivery_add_last_rows(struct delivery *d, const struct chunk *c) WARN_UNUSED;

/* All of the source's part of the batch was delivered: takes the position of its last chunk.
 * *is_over: and of all other sources. *is_lazy: then: the position need not be saved soon. */
void delivery_end(struct delivery *d, struct chunk *c, bool *is_over, bool *is_lazy);

/* What is left to do of the message in hand is to save the position. */
bool delivery_is_saving(const struct delivery *d);
void delivery_set_saving(struct delivery *d, bool is_saving);

/* The program ends in good order: nothing more will be delivered. */
bool delivery_finish(struct delivery *d, struct err *e) WARN_UNUSED;

/* ---- deletes ---- */

struct diff *delivery_diff(const struct delivery *d); /* NULL: it does not look for deletes */

/* The deletes that are to be delivered next, from row *from on, borrowed; *c NULL: there are no
 * more. Begins the batch if these are its first ones. */
bool delivery_next_deletes(struct delivery *d, const struct chunk **c, size_t *from,
                           struct err *e) WARN_UNUSED;

/* Those before <done> were delivered. True if that is all of them. */
bool delivery_add_deletes(struct delivery *d, size_t done);

/* ---- messages that wait ---- */

/* The message in hand is to be handled again when the source is not paused. True, once. */
void delivery_set_again(struct delivery *d);
bool delivery_take_again(struct delivery *d);

/* They wait in order, those of sources that are read together in one list. The first one is taken
 * with delivery_unpark; NULL: there is none. */
void delivery_park(struct delivery *d, struct message *m);
void delivery_park_first(struct delivery *d, struct message *m);
struct message *delivery_unpark(struct delivery *d);
bool delivery_is_parked(const struct delivery *d); /* there are some */

#endif
