/* wish.h -- what a user wants to be read again, from the host to the thread that reads it, and when
 * that comes between the polls of a unit.
 *
 * Polls come in their time; where they take all of it, by turns with ranges. Several sources of a
 * unit have ranges read by turns, too.
 *
 * SPDX-License-Identifier: MIT */
#ifndef WISH_H
#define WISH_H

#include "capture/sender.h"
#include "capture/unit.h"

/* Of a source. Zeroed: there is none. */
struct wish {
    char *asked; /* a condition in SQL, "" for none; owned; under the mutex of the crew */
    char *taken; /* the same, of the thread that works on the unit; owned */
};

void wish_fini(struct wish *w);

/* Under the mutex: asks for it (copied); false: out of memory. The thread takes it. */
bool wish_ask(struct wish *w, const char *where) WARN_UNUSED;
void wish_take(struct wish *w);

/* True if there is one, of either. */
bool wish_is_there(const struct wish *w);

/* The thread begins a step: the source gets what was taken. <sender> says why not. */
void wish_give(struct wish *w, struct step *step, struct sender *sender);

/* Of a unit. Zeroed: it begins with a poll. */
struct wish_turns {
    bool was_poll;   /* its last step was one */
    int64_t poll_ms; /* when the next one is due, by clock_mono_ms */
    size_t next;     /* the source whose turn it is */
};

/* The thread begins a step: chooses whether it reads a range again, of one source, or polls. True
 * if it does. */
bool wish_choose(struct wish_turns *t, struct unit *u);

/* A poll has ended, the next one is due at <due_ms>. Returns when the next step is. */
int64_t wish_end_poll(struct wish_turns *t, const struct unit *u, int64_t due_ms);

/* A range was read. Returns when the next step is due: now, at <now_ms>, or with the next poll. */
int64_t wish_end_range(const struct wish_turns *t, const struct unit *u, int64_t now_ms);

/* The step failed with <e>. True if it read a range again and the rest can go on without.
 * <senders>: of the unit's sources. */
bool wish_drop(struct wish_turns *t, struct unit *u, struct sender *const *senders,
               const struct err *e);

#endif
