/* step.h -- one poll, or one range of the snapshot, of one source.
 *
 * Brings a position forward by one step and hands out what became visible as
 * chunks; the last chunk of a step carries the position that holds once it
 * is done. Does not retry, log, sleep or know Lua. Blocks while it reads. Several
 * sources can take their steps in one transaction: unit.h calls these functions,
 *
 *     step_look    finds out whether there is anything to do; if not, then
 *     step_rise    looks whether the floor may rise; otherwise
 *     step_open    reads the facts, in the transaction, and
 *     step_begin   chooses what is read; then
 *     step_next    again and again: gives a message, or NULL once all was read
 *     step_finish  when the transaction is over: the position moves
 *     step_abort   after an error of any of them, in the place of those that would follow
 *
 * The method says how changes are found (method.h); the rule itself is in
 * horizon.h, the fault table in fault.h.
 *
 * SPDX-License-Identifier: MIT */
#ifndef STEP_H
#define STEP_H

#include "capture/load.h"
#include "capture/source.h"

struct step;

/* <config> is borrowed and must outlive it. Returns owned, or NULL: out of memory. */
struct step *step_new(const struct config *config, size_t number);
void step_free(struct step *step);

/* Finds the table. Once only; afterwards the names are known. *message: for the host, owned by the
 * caller. */
bool step_resolve(struct step *step, struct conn *conn, struct message **message,
                  struct err *e) WARN_UNUSED;
bool step_is_resolved(const struct step *step);

/* Gives <step> the position that was kept (copied), NULL for none. To be called between
 * step_resolve and step_begin. False: out of memory. */
bool step_restore(struct step *step, const struct position *kept) WARN_UNUSED;

/* Before the first step: the tables that are locked in the transaction of a step, this one's and
 * those of other sources, <n> in all. Borrowed; their names may become known later. */
void step_lock_too(struct step *step, const struct relation *const *tables, size_t n);
const struct relation *step_relation(const struct step *step);

/* *is_due: something may have committed since the newest complete poll that concerns the source, or
 * it is time to look whatever has. */
bool step_look(struct step *step, struct conn *conn, bool *is_due, struct err *e) WARN_UNUSED;

/* There is nothing to read, but the floor may rise, unless a poll is only left out (quiet.h).
 * *has_risen: it has, and step_finish must be called. */
bool step_rise(struct step *step, bool *has_risen, struct err *e) WARN_UNUSED;

/* The same, of what was asked in common with other sources (round.h): begin_glance has read
 * <now>. */
bool step_take_glance(struct step *step, const struct begin_facts *now, bool *is_due,
                      struct err *e) WARN_UNUSED;

/* After that, and counters_ask: true if the poll that is due is left out (quiet.h). */
bool step_rest(struct step *step);

/* After step_take_glance: true if the poll that is due need read nothing, provided that nothing was
 * written. step_pass: that is so, and the facts are those of a snapshot in which it is; step_finish
 * comes next. */
bool step_may_pass(const struct step *step);
void step_pass(struct step *step);

/* True if the poll was due, and is left out. */
bool step_is_quiet(const struct step *step);

/* Reads the facts in the transaction that <leader> has opened, or, if it is NULL, opens one.
 * *is_start: the position is a new one, which is all that the step brings. */
bool step_open(struct step *step, struct step *leader, struct conn *conn, bool *is_start,
               struct err *e) WARN_UNUSED;

/* Chooses what is read, in the transaction that is open; <is_idle>: nothing. */
bool step_begin(struct step *step, bool is_idle, struct conn *conn, struct err *e) WARN_UNUSED;

/* The next message, which the caller owns. NULL: all was read. After a MESSAGE_TALLY call
 * step_answer first. */
bool step_next(struct step *step, struct conn *conn, struct message **message,
               struct err *e) WARN_UNUSED;

/* The position moves over what was read: the last chunk, which brings it. More messages may follow:
 * see step_news. */
bool step_finish(struct step *step, struct message **message, struct err *e) WARN_UNUSED;

/* The next message that waits beside the chunks, or NULL. */
struct message *step_news(struct step *step);

/* Ends the step, unfinished, and rolls back. Rows of a poll that were handed out are not handed out
 * again, unless step_is_held. <conn>: NULL if there is none. */
void step_abort(struct step *step, struct conn *conn);

/* After step_abort: if <e> says that a text cannot be sent, puts the name of its column into <e>;
 * where the method knows what may be wrong, that. */
void step_name_bad_column(struct step *step, struct conn *conn, struct err *e);

/* True while the snapshot is not finished. */
bool step_is_in_snapshot(const struct step *step);

/* True if nothing is left to be read of what was there at the last step: the snapshot is finished,
 * a poll was complete, and so was the census that was due. Otherwise the next step is due at
 * once. */
bool step_is_complete(const struct step *step);

/* True if the chunks of the step in hand must not reach the host before it is complete: after
 * step_abort all of them come again. */
bool step_is_held(const struct step *step);

/* The next step reads a range again (see reread_step.h), or polls. */
void step_choose(struct step *step, bool is_reread);
/* Appends how the poll in hand was read, and for how long, for the log. */
void step_put_figures(const struct step *step, struct buf *b);

/* How many lines of rows the server has sent since this was asked last. */
uint64_t step_take_lines(struct step *step);

/* Adds what its scans have taken since this was asked last to <to>. The census counts as due every
 * so often from now on. */
void step_take_times(struct step *step, struct load_poll *to);
void step_stretch(struct step *step, const struct load *load);

/* True if a census is due now. step_owe_census makes it due. */
bool step_wants_census(const struct step *step);
void step_owe_census(struct step *step);

/* When the next step is due, after one that was made just now: at <poll_ms>, when the next poll is
 * due, or earlier, if a census or a recheck is due before. By clock_mono_ms. */
int64_t step_due_ms(const struct step *step, int64_t poll_ms);

/* The host's answer to a MESSAGE_TALLY that step_next gave. <asked>: the buckets whose keys it
 * wants (copied, see key_census.h), or NULL. Unless <is_answered>, no answer came in time. */
bool step_answer(struct step *step, bool is_answered, const struct tally_request *asked,
                 struct err *e) WARN_UNUSED;

/* The number by which commits that may concern the source are announced, see listener.h; 0: they
 * are not announced. Known after the first step. */
uint64_t step_announced_as(const struct step *step);

/* True if changes come by the log from now on (see stream.h), so that steps only read facts: not
 * before one of them has found that a position which was saved fits the server. The source, which
 * whoever reads the log brings forward while no step is under way. */
bool step_is_streaming(const struct step *step);
struct source *step_source(struct step *step);

/* A standby that lags is taken for a restored one from now on. */
void step_stop_waiting(struct step *step);

/* For --check: looks at the table as a step would. *message, for the host, says in one line what
 * would be captured and what is wrong with it; the caller owns it. */
bool step_check(struct step *step, struct conn *conn, struct message **message,
                struct err *e) WARN_UNUSED;

#endif
