/* wish.h -- what a user wants to be read again, from the host to the thread that reads it, and when
 * that comes between the polls of a unit.
 *
 * A unit of one source only. Polls come in their time; where they take all of it, by turns.
 *
 * SPDX-License-Identifier: MIT */
#ifndef WISH_H
#define WISH_H

#include "capture/sender.h"
#include "capture/step.h"

/* Zeroed: there is none. */
struct wish {
    char *asked;     /* a condition in SQL, "" for none; owned; under the mutex of the crew */
    char *taken;     /* the same, of the thread that works on the unit; owned */
    bool was_poll;   /* its last step was one */
    int64_t poll_ms; /* when the next one is due, by clock_mono_ms */
};

void wish_fini(struct wish *w);

/* Under the mutex: asks for it (copied); false: out of memory. The thread takes it. */
bool wish_ask(struct wish *w, const char *where) WARN_UNUSED;
void wish_take(struct wish *w);

/* The thread begins a step: chooses whether it reads a range again, or polls. */
bool wish_choose(struct wish *w, struct step *step, struct sender *sender);

/* A poll has ended, the next one is due at <due_ms>. Returns when the next step is. */
int64_t wish_end_poll(struct wish *w, struct step *step, int64_t due_ms);

/* The step failed with <e>. True if it read a range again and the rest can go on without. */
bool wish_drop(struct wish *w, struct step *step, struct sender *sender, const struct err *e);

#endif
