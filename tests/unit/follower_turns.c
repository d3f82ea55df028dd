/* follower_turns.c -- unit tests of whose turn it is to read.
 * SPDX-License-Identifier: MIT */
#include "capture/follower_turns.h"

#include "unit.h"

static void begin_and_end(struct follower_turns *t)
{
    follower_turns_begin(t);
    CHECK(!follower_turns_may_follow(t));
    follower_turns_end(t);
}

/* Between two pauses the log is read, however soon the second one is asked for. */
static void test_log(void)
{
    struct follower_turns t = { 0 };
    uint64_t one = follower_turns_ask(&t), two;

    CHECK(!follower_turns_may_follow(&t));
    CHECK(follower_turns_may_begin(&t, one, true));
    begin_and_end(&t);
    CHECK(follower_turns_may_follow(&t) && !follower_turns_are_asked(&t));
    two = follower_turns_ask(&t);
    CHECK(follower_turns_may_follow(&t) && follower_turns_are_asked(&t));
    CHECK(!follower_turns_may_begin(&t, two, true));
    CHECK(follower_turns_may_begin(&t, two, false)); /* there is nothing to read from */
    follower_turns_follow(&t);
    CHECK(!follower_turns_may_follow(&t));
    CHECK(follower_turns_may_begin(&t, two, true));
    begin_and_end(&t);
}

/* Pauses come in their order, one at a time. */
static void test_order(void)
{
    struct follower_turns t = { 0 };
    uint64_t one = follower_turns_ask(&t), two = follower_turns_ask(&t), again;

    CHECK(!follower_turns_may_begin(&t, two, false));
    follower_turns_begin(&t);
    CHECK(!follower_turns_may_begin(&t, two, false));
    follower_turns_end(&t);
    again = follower_turns_ask(&t);
    CHECK(again != one && !follower_turns_may_begin(&t, again, false));
    CHECK(follower_turns_may_begin(&t, two, false));
    begin_and_end(&t);
    CHECK(follower_turns_may_begin(&t, again, false));
}

const struct unit_case follower_turns_cases[] = {
    { "follower_turns_log", test_log },
    { "follower_turns_order", test_order },
    { NULL, NULL },
};
