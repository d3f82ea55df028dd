/* source.h -- everything that a reader keeps of one source.
 *
 * Its position, the facts of its newest transaction, what of the server a
 * crash cannot take back, and messages that wait to be sent before rows.
 * Decides nothing: the fault table (fault.h) and the methods (method.h) do.
 * No I/O.
 *
 * SPDX-License-Identifier: MIT */
#ifndef SOURCE_H
#define SOURCE_H

#include "capture/begin.h"
#include "capture/log_columns.h"
#include "capture/log_floor.h"
#include "capture/log_leaves.h"
#include "capture/message.h"
#include "capture/quiet.h"
#include "capture/sql_hints.h"

struct method;

/* What is kept of a source for hints, by hinted.c alone. Zeroed: nothing is known. */
struct source_hints {
    struct hints rule;
    char *function;             /* what reads the WAL, quoted; owned; NULL: nothing can */
    enum sql_hints_kind kind;
    int64_t ask_ms;             /* when the server is asked what can, by clock_mono_ms */
    const char *why;            /* the table is scanned, because of this */
    bool is_used;               /* the poll in hand reads the blocks of <rule> */
    int64_t began_ms, scan_ms;  /* when that poll began, and how long the last scan took */
    uint64_t blocks, of_blocks, wal_bytes, n_summaries; /* figures of that poll */
    int64_t flush_us;           /* how long that poll has waited until the WAL was flushed */
    int64_t late_ms;            /* since when the floor is below the note; 0: it is not */
};

/* What is kept of a source between rounds, see round.h. Zeroed: it must take a step. */
struct source_round {
    uint64_t asked, known; /* a hash of the rows of the catalog that tell of its table: of those
                            * that a round has seen, of those that held in its last own step */
    bool is_asked, is_known;
    bool is_passed;        /* the poll in hand is over without a step of its own */
    int64_t polled_ms;     /* when the last one that was not was complete */
};

/* When the next range that is read again may be, where changes come by the log. Zeroed: now. */
struct source_reread {
    bool waits;      /* for whoever reads the log, who sets it to false once that was read up to */
    uint64_t lsn;    /* here (UINT64_MAX: a step is to say up to where), */
    int64_t from_ms; /* and not before, by clock_mono_ms */
    bool is_told;    /* the user was told that it begins */
};

struct source {
    const struct config *config;    /* borrowed */
    const struct method *declared;  /* the method that <config> names */
    void *own;                      /* what a method keeps of the source; owned */
    const struct method *own_of;    /* that method: <declared>, or one that hands over; or NULL */
    size_t number;
    const struct relation *const *locked; /* the tables of its unit, see unit.h; borrowed */
    size_t n_locked;
    const struct source *leader;    /* the source of its unit that has opened the transaction in
                                     * hand; NULL: this source opens it */
    struct position position;
    struct xidset restored_seen; /* if triggers are to take the position over: <seen> as it was
                                  * restored. Deletes of xids that became seen later were not told,
                                  * so their tombstones are still to be read */
    struct horizon_durable durable;
    struct begin_facts facts;
    bool is_checked;      /* <declared> has checked the health of the table */
    size_t checked_leaves; /* how many leaves the table had then */
    char *polled;         /* text of the snapshot of the newest complete poll; NULL: poll again */
    uint64_t glance_lsn;  /* the LSN that fault_glance read before the step's snapshot; 0: none */
    struct log_leaves log_leaves;
    struct log_columns log_columns; /* of the newest facts */
    struct log_floor log_floor; /* what was noted to raise the floor */
    uint64_t log_altered; /* see sql_altered.h, of the newest facts; 0: not asked for */
    uint64_t log_passed;  /* the log was read up to here for other sources, see follower.h */
    bool shares_log;      /* other sources rely on the slot */
    bool has_slot;        /* the slot, where it is there, was made by us */
    const char *snapshot; /* the name of one that was exported, for the next transaction; borrowed
                           * from <own>; NULL: none */
    bool is_ready;        /* MESSAGE_READY was given */
    bool knows_no_keys;   /* the key is another one now, so what is kept of keys is of no use */
    bool is_compared;     /* the position knows what was declared, see declared.h */
    bool has_tried_where; /* the condition of what is read again works */
    struct source_reread reread_wait;
    struct source_hints hints;
    struct source_round round;
    struct quiet quiet;             /* of `quiet` */
    struct second_reader *second;   /* of a first read, if the source wants one; owned */
    bool is_impatient;    /* a standby that lags is taken for a restored one */
    struct queue_list news; /* messages to be handed out before rows */
};

/* The method and what it keeps are set by method_init. */
void source_init(struct source *s, const struct config *config, size_t number);

/* Frees all but <own>. */
void source_fini(struct source *s);

/* Takes over a position that was kept (copied). False: out of memory. */
bool source_restore(struct source *s, const struct position *kept) WARN_UNUSED;

/* True if deletes are looked for by a census: the source asks for them, or it did when the position
 * was taken and triggers, which tell them from now on, have not taken it over yet. */
bool source_counts_keys(const struct source *s);

/* True if changes come by the log, which does not have the rows before, and the host keeps rows for
 * that (old = true). */
bool source_keeps_by_log(const struct source *s);

/* True if rows are sent with the hash of their key. */
bool source_has_hashes(const struct source *s);

/* Records which server answered, and what of it a crash cannot take back. */
void source_keep_identity(struct source *s);

/* D of the capture rule, see horizon.h. */
uint64_t source_durable_bound(const struct source *s);

/* True if the table is to be read whole, in one poll, and not in ranges of blocks. */
bool source_reads_whole(const struct source *s);

/* The next step must poll, whatever the snapshot says. */
void source_forget_polled(struct source *s);

/* A poll is complete: what the round before it has seen of the table held in it, see round.h. */
void source_end_poll(struct source *s);

/* From now on the leaves of the facts are the ones that the position knows. Adds a notice if some
 * were lost. */
bool source_know_leaves(struct source *s, struct err *e) WARN_UNUSED;

/* ---- messages ---- */

/* A message with <text> for the log. */
bool source_add_notice(struct source *s, enum log_level level, const char *text,
                       struct err *e) WARN_UNUSED;

/* MESSAGE_REREAD, with <text>. */
bool source_add_reread(struct source *s, const char *text, struct err *e) WARN_UNUSED;

/* MESSAGE_READING: what follows is all that the table has. */
bool source_add_reading(struct source *s, struct err *e) WARN_UNUSED;

/* MESSAGE_READY, once. */
bool source_add_ready(struct source *s, struct err *e) WARN_UNUSED;

/* MESSAGE_SCHEMA, if the columns are not those that the position knows; the position knows the new
 * ones then. */
bool source_add_schema(struct source *s, struct err *e) WARN_UNUSED;

/* Forgets resume points that say nothing any more, since rows are told apart by other columns now
 * (see row_order.h), with a notice. */
bool source_check_resume_points(struct source *s, struct err *e) WARN_UNUSED;

/* The next message, or NULL. Returns owned. */
struct message *source_take_message(struct source *s);

#endif
