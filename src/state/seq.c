/* seq.c -- the number of a change, which only grows.
 * SPDX-License-Identifier: MIT */
#include "state/seq.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* How far a ceiling is after the last number: where other records are saved, and at most where none
 * are, since each one is twice as far as the one before. That is microseconds, where there are less
 * than a million changes in a second. */
#define NEAR 100000
#define FAR 60000000

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

static bool put(struct seq *s, uint64_t ahead, struct err *e)
{
    const struct store_slice none = { "", 0 };
    char text[24];
    struct store_record r = { .kind = { "seq", 3 }, .name = none, .key = none,
                              .value = { text, 0 } };

    s->next = s->last + ahead < SEQ_LIMIT ? s->last + ahead : SEQ_LIMIT - 1;
    r.value.len = (size_t)snprintf(text, sizeof text, "%" PRIu64, s->next);
    return store_put(s->store, &r, e);
}

bool seq_put(struct seq *s, struct err *e)
{
    s->ahead = NEAR;
    return s->store == NULL || s->last == 0 || s->ceiling == s->last + NEAR || put(s, NEAR, e);
}

void seq_end(struct seq *s, bool is_saved)
{
    if (is_saved && s->next != 0)
        s->ceiling = s->next;
    s->next = 0;
}

static bool save_ceiling(struct seq *s, struct err *e)
{
    bool ok;

    if (!store_begin(s->store, e))
        return false;
    ok = put(s, s->ahead, e) && store_commit(s->store, e);
    if (!ok)
        store_rollback(s->store);
    seq_end(s, ok);
    s->ahead = 2 * s->ahead < FAR ? 2 * s->ahead : FAR;
    return ok;
}

bool seq_take(struct seq *s, uint64_t now_us, size_t n, uint64_t *first, struct err *e)
{
    *first = now_us > s->last && now_us < LATEST ? now_us : s->last + 1;
    if (*first + n > SEQ_LIMIT)
        return err_set(e, ERR_STATE, "there are no more numbers for changes (seq): forget them "
                       "by moving the state file away");
    s->last = *first + n - 1;
    return s->store == NULL || s->last <= s->ceiling || save_ceiling(s, e);
}
