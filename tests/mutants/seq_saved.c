/* seq_saved.c -- a mutant of the numbers of changes, which a test must find out.
 * SPDX-License-Identifier: MIT
 *
 * What is saved is the last number, not a ceiling above all that are given.
 * So a start whose clock is slow gives numbers again that were delivered by a
 * program which died before it saved.
 *
 * Linked in place of src/state/seq.c. */
#define seq_take seq_take_by_the_rule
#define seq_put seq_put_by_the_rule
#include "../../src/state/seq.c"
#undef seq_take
#undef seq_put

bool seq_take(struct seq *s, uint64_t now_us, size_t n, uint64_t *first,
              struct err *e) WARN_UNUSED;
bool seq_put(struct seq *s, struct err *e) WARN_UNUSED;

bool seq_put(struct seq *s, struct err *e)
{
    return s->now_us == 0 || put(s, s->last, e);
}

bool seq_take(struct seq *s, uint64_t now_us, size_t n, uint64_t *first,
              struct err *e)
{
    (void)e;
    s->now_us = now_us;
    *first = now_us > s->last ? now_us : s->last + 1;
    s->last = *first + n - 1;
    return true;
}
