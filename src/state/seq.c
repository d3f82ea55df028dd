/* seq.c -- the number of a change, which only grows.
 * SPDX-License-Identifier: MIT */
#include "state/seq.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* How far a ceiling is ahead of the clock, in microseconds. */
#define SECOND 1000000

/* How far a ceiling is ahead of the last number, where that is ahead of the clock: NEAR at first,
 * then twice as far each time until other records are saved, FAR at most. */
#define NEAR 10000
#define FAR 1000000

/* A clock that is set later than this, in the year 2219, does not count: it would use up all
 * numbers. */
#define LATEST (SEQ_LIMIT - ((uint64_t)1 << 50))

static bool read_number(struct store_slice text, uint64_t *number)
{
    char end;

    return sscanf(text.p, "%" SCNu64 "%c", number, &end) == 1 && *number < SEQ_LIMIT;
}

bool seq_open(struct seq *s, struct store *store, struct err *e)
{
    struct store_record r;

    *s = (struct seq){ .store = store, .ahead = NEAR };
    if (store == NULL)
        return true;
    if (!store_find(store, "seq", "", e))
        return false;
    while (store_next(store, &r, e))
        if (!read_number(r.value, &s->ceiling)) {
            store_leave(store);
            return store_damaged(store, "numbers of changes", e);
        }
    s->last = s->ceiling;
    return e->code == ERR_NONE;
}

static uint64_t choose_ceiling(const struct seq *s)
{
    uint64_t near = s->last + s->ahead, by_clock = s->now_us + SECOND;
    uint64_t ceiling = near > by_clock ? near : by_clock;

    return ceiling < SEQ_LIMIT ? ceiling : SEQ_LIMIT - 1;
}

static bool put(struct seq *s, uint64_t ceiling, struct err *e)
{
    const struct store_slice none = { "", 0 };
    char text[24];
    struct store_record r = { .kind = { "seq", 3 }, .name = none, .key = none,
                              .value = { text, 0 } };

    s->next = ceiling;
    r.value.len = (size_t)snprintf(text, sizeof text, "%" PRIu64, ceiling);
    return store_put(s->store, &r, e);
}

bool seq_put(struct seq *s, struct err *e)
{
    if (s->store == NULL || s->now_us == 0)
        return true; /* none was given yet */
    s->ahead = NEAR;
    return s->ceiling == choose_ceiling(s) || put(s, choose_ceiling(s), e);
}

void seq_end(struct seq *s, bool is_saved)
{
    if (is_saved && s->next != 0)
        s->ceiling = s->next;
    s->next = 0;
}

/* Saves a ceiling in a transaction of its own. */
static bool save(struct seq *s, uint64_t ceiling, struct err *e)
{
    bool ok;

    if (!store_begin(s->store, e))
        return false;
    ok = put(s, ceiling, e) && store_commit(s->store, e);
    if (!ok)
        store_rollback(s->store);
    seq_end(s, ok);
    return ok;
}

bool seq_finish(struct seq *s, struct err *e)
{
    return s->store == NULL || s->now_us == 0 || save(s, s->last, e);
}

bool seq_take(struct seq *s, uint64_t now_us, size_t n, uint64_t *first, struct err *e)
{
    s->now_us = now_us < LATEST ? now_us : 1;
    *first = s->now_us > s->last ? s->now_us : s->last + 1;
    if (*first + n > SEQ_LIMIT)
        return err_set(e, ERR_STATE, "there are no more numbers for changes (seq): forget them "
                       "by moving the state file away");
    s->last = *first + n - 1;
    if (s->store == NULL || s->last <= s->ceiling)
        return true;
    if (!save(s, choose_ceiling(s), e))
        return false;
    s->ahead = 2 * s->ahead < FAR ? 2 * s->ahead : FAR;
    return true;
}
