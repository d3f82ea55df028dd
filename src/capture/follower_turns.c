/* follower_turns.c -- whose turn it is to read. See follower_turns.h.
 * SPDX-License-Identifier: MIT */
#include "capture/follower_turns.h"

#include "base/clock.h"

uint64_t follower_turns_ask(struct follower_turns *t)
{
    return t->next++;
}

bool follower_turns_are_asked(const struct follower_turns *t)
{
    return t->first != t->next;
}

bool follower_turns_may_begin(const struct follower_turns *t, uint64_t number, bool can_follow)
{
    return !t->is_paused && number == t->first && !(t->is_owed && can_follow);
}

void follower_turns_begin(struct follower_turns *t)
{
    t->is_paused = true;
    t->is_owed = false;
    t->paused_ms = clock_mono_ms();
}

void follower_turns_end(struct follower_turns *t)
{
    t->first++;
    t->is_paused = false;
    t->is_owed = true;
}

bool follower_turns_may_follow(const struct follower_turns *t)
{
    return !follower_turns_are_asked(t) || (!t->is_paused && t->is_owed);
}

void follower_turns_follow(struct follower_turns *t)
{
    t->is_owed = false;
}

bool follower_turns_are_long(struct follower_turns *t, int64_t look_ms, int64_t *wait_ms)
{
    int64_t left;

    if (!t->is_paused)
        return false;
    left = t->paused_ms + look_ms - clock_mono_ms();
    if (left <= 0) {
        t->paused_ms = clock_mono_ms();
        return true;
    }
    if (*wait_ms < 0 || left < *wait_ms)
        *wait_ms = left;
    return false;
}
