/* follower_turns.h -- whose turn it is: the log's, or a step's that pauses who reads it.
 *
 * A step may be due again as soon as it is over, if it takes longer than its interval. So pauses
 * come in the order in which they were asked for, and between two of them the log is read, if it
 * can be: neither another source nor the log waits for ever. All of it is under a lock of the
 * caller's.
 *
 * SPDX-License-Identifier: MIT */
#ifndef FOLLOWER_TURNS_H
#define FOLLOWER_TURNS_H

#include <stdbool.h>
#include <stdint.h>

/* Zeroed: nobody pauses. */
struct follower_turns {
    uint64_t first, next; /* of the pauses that are not over: the number of the first one, and that
                           * of the next one to be asked for */
    bool is_paused;       /* the first one has begun */
    bool is_owed;         /* since the last one ended the log was not read */
    int64_t paused_ms;    /* since when, or when the slot was looked at since then */
};

/* A pause is asked for. Returns its number. */
uint64_t follower_turns_ask(struct follower_turns *t);

/* True if any pause is asked for, or under way. */
bool follower_turns_are_asked(const struct follower_turns *t);

/* True if the pause may begin. <can_follow>: the log can be read, as far as others know. */
bool follower_turns_may_begin(const struct follower_turns *t, uint64_t number, bool can_follow);

void follower_turns_begin(struct follower_turns *t);
void follower_turns_end(struct follower_turns *t);

/* True if the log may be read, from its first batch on. */
bool follower_turns_may_follow(const struct follower_turns *t);

/* It is read. */
void follower_turns_follow(struct follower_turns *t);

/* True if a pause takes so long that the slot is to be looked at, which is every <look_ms>; else
 * *wait_ms, -1: for ever, is at most the time until then. */
bool follower_turns_are_long(struct follower_turns *t, int64_t look_ms, int64_t *wait_ms);

#endif
