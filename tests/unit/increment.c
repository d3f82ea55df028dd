/* increment.c -- unit tests of the rule for a column that grows.
 * SPDX-License-Identifier: MIT */
#include "capture/increment.h"

#include "unit.h"

#include <string.h>

static void test_firsts(void)
{
    struct increment_firsts f = { 0 };

    CHECK(increment_add_first(&f, 7, 100, 120) && increment_add_first(&f, 5, 100, 110));
    CHECK(increment_add_first(&f, 7, 100, 105) && increment_add_first(&f, 7, 90, 130));
    EQUAL(f.n, 2);
    CHECK(f.v[0].xid == 5 && f.v[1].xid == 7 && f.v[1].base == 90 && f.v[1].least == 105);
    increment_fini_firsts(&f);
    CHECK(f.v == NULL);
}

static void advance(struct increment *i, uint64_t floor, uint64_t xmax, int64_t top,
                    bool is_recheck)
{
    struct horizon h = { .floor = floor };
    const struct increment_poll poll = { .is_recheck = is_recheck, .xmax = xmax, .top = &top,
                                         .lookback = 10, .keeps = true };

    CHECK(increment_advance(i, &h, &poll));
}

/* The base follows the highest value of the newest poll that no writer under way can precede. */
static void test_base(void)
{
    struct increment i = { .base = INCREMENT_LOWEST };

    advance(&i, 100, 100, 1000, true);
    CHECK(i.base == 990);
    advance(&i, 101, 105, 1009, false); /* a stride of less than the lookback */
    CHECK(i.base == 990);
    advance(&i, 101, 110, 2000, false); /* xid 101 is still under way: the first poll's 1000 */
    CHECK(i.base == 1000 && i.n_rungs == 3);
    advance(&i, 110, 120, 3000, false); /* it is over */
    CHECK(i.base == 2000 && i.n_rungs == 2);
    advance(&i, 120, 120, 3000, false);
    CHECK(i.base == 2990 && i.n_rungs == 1);
    advance(&i, 130, 130, 500, false); /* the highest rows are gone */
    CHECK(i.base == 2990);
    EQUAL(i.n_stretches, 4);
    increment_fini(&i);
}

static void test_ends_of_the_range(void)
{
    struct increment i = { .base = INCREMENT_LOWEST };

    advance(&i, 100, 100, INT64_MIN + 3, true);
    CHECK(i.base == INCREMENT_LOWEST);
    advance(&i, 101, 101, -5, false);
    CHECK(i.base == -15);
    advance(&i, 102, 102, INT64_MAX, false);
    CHECK(i.base == INT64_MAX - 10);
    increment_fini(&i);
}

static void test_many_rungs(void)
{
    struct increment i = { .base = INCREMENT_LOWEST };

    advance(&i, 100, 100, 0, true);
    for (int64_t n = 1; n <= 5000; n++)
        advance(&i, 100, 100 + (uint64_t)n, n * 10, false);
    CHECK(i.n_rungs <= 300 && i.base == 0);
    advance(&i, 5101, 5101, 50010, false);
    CHECK(i.base == 50000);
    increment_fini(&i);
}

/* A writer that stays open holds the floor, and all xids behind it are remembered, those too whose
 * rows a recheck has read: once that made every poll a recheck. */
static void test_full(void)
{
    struct increment i = { .base = INCREMENT_LOWEST };
    struct horizon h = { .floor = 100 };
    struct increment_firsts fresh = { 0 };
    struct increment_poll poll = { .is_recheck = true, .xmax = 100, .lookback = 10, .keeps = true };
    const uint64_t n = INCREMENT_ENTRIES + 1;
    int64_t top = 1000;

    poll.top = &top;
    CHECK(increment_advance(&i, &h, &poll));
    for (uint64_t xid = 101; xid <= 100 + n; xid++)
        CHECK(xidset_add(&h.seen, xid) && increment_add_first(&fresh, xid, 0, 1000));
    poll = (struct increment_poll){ .xmax = 101 + n, .fresh = &fresh, .keeps = true };
    CHECK(increment_advance(&i, &h, &poll));
    CHECK(increment_is_full(&i, 101 + n));
    poll = (struct increment_poll){ .is_recheck = true, .xmax = 101 + n, .keeps = true };
    CHECK(increment_advance(&i, &h, &poll));
    EQUAL(i.firsts.n, n);
    CHECK(!increment_is_full(&i, 101 + n));
    h.floor = 101 + n;
    CHECK(increment_advance(&i, &h, &poll) && i.since == 101 + n);
    increment_fini(&i);
    horizon_fini(&h);
    increment_fini_firsts(&fresh);
}

/* ---- a model of a server ---- */

/* Transactions draw values when they like, before others and long before they commit. A row counts
 * how often it was delivered; at each recheck all that is visible must have been, once. */

enum { ROWS = 4000, OPEN = 6, XIDS = 4000 };

struct model {
    uint64_t random, next_xid;
    int64_t next_value;
    struct { uint64_t xid; int64_t value; bool has_value, is_visible; int delivered; } rows[ROWS];
    size_t n_rows;
    struct {
        bool is_used, is_writing;
        uint64_t xids[4];
        size_t n_xids;
        int64_t drawn[8];
        size_t n_drawn, first_row;
    } open[OPEN];
    size_t owner[ROWS]; /* whose row it is */
};

static uint64_t pick(struct model *m, uint64_t n)
{
    return unit_random(&m->random) % n;
}

static void write_row(struct model *m, size_t t)
{
    if (m->n_rows == ROWS)
        return;
    if (m->open[t].n_drawn == 0)
        while (m->open[t].n_drawn < 1 + pick(m, 8))
            m->open[t].drawn[m->open[t].n_drawn++] = m->next_value++;
    m->rows[m->n_rows].xid = m->open[t].xids[pick(m, m->open[t].n_xids)];
    m->rows[m->n_rows].has_value = pick(m, 30) > 0;
    m->rows[m->n_rows].value = m->open[t].drawn[--m->open[t].n_drawn];
    m->rows[m->n_rows].is_visible = false;
    m->owner[m->n_rows++] = t;
}

static void finish(struct model *m, size_t t, bool commits)
{
    for (size_t r = 0; r < m->n_rows; r++)
        if (m->owner[r] == t) {
            m->owner[r] = SIZE_MAX;
            m->rows[r].is_visible = commits;
        }
    m->open[t].is_used = false;
}

static void work(struct model *m)
{
    size_t t = pick(m, OPEN);

    if (!m->open[t].is_used) {
        m->open[t].is_used = true;
        m->open[t].n_xids = m->open[t].n_drawn = 0;
        while (pick(m, 2) == 0 && m->open[t].n_drawn < 8) /* values before there is an xid */
            m->open[t].drawn[m->open[t].n_drawn++] = m->next_value++;
        m->open[t].xids[m->open[t].n_xids++] = m->next_xid++;
    } else if (pick(m, 4) == 0 && m->open[t].n_xids < 4) {
        m->open[t].xids[m->open[t].n_xids++] = m->next_xid++; /* a savepoint */
    } else if (pick(m, t == 0 ? 40 : 4) == 0) {
        finish(m, t, pick(m, 8) > 0);
    } else {
        write_row(m, t);
    }
}

static void poll_model(struct model *m, struct increment *i, struct horizon *h, bool is_recheck)
{
    struct horizon_snapshot s = { .xmin = m->next_xid, .xmax = m->next_xid };
    struct xidset delivered = { 0 };
    struct increment_firsts fresh = { 0 };
    int64_t top = 0;
    struct increment_poll poll = { .is_recheck = is_recheck, .xmax = s.xmax, .fresh = &fresh,
                                   .lookback = (int64_t)pick(m, 3) * 5, .keeps = true };

    for (size_t t = 0; t < OPEN; t++)
        if (m->open[t].is_used && m->open[t].xids[0] < s.xmin)
            s.xmin = m->open[t].xids[0];
    for (size_t r = 0; r < m->n_rows; r++) {
        int64_t value = m->rows[r].value;
        bool is_new;

        if (!m->rows[r].is_visible)
            continue;
        if (m->rows[r].has_value && (poll.top == NULL || value > top)) {
            top = value;
            poll.top = &top;
        }
        if (is_recheck)
            is_new = increment_escaped(i, h, m->rows[r].xid, m->rows[r].has_value ? &value : NULL);
        else
            is_new = (i->base == INCREMENT_LOWEST || (m->rows[r].has_value && value >= i->base)) &&
                     horizon_is_new(h, m->rows[r].xid);
        if (is_new) {
            m->rows[r].delivered++;
            CHECK(xidset_add(&delivered, m->rows[r].xid));
            CHECK(increment_add_first(&fresh, m->rows[r].xid, 0,
                                      m->rows[r].has_value ? value : INT64_MIN));
        }
        CHECK(m->rows[r].delivered <= 1);
        if (is_recheck)
            EQUAL(m->rows[r].delivered, 1);
    }
    CHECK(horizon_advance(h, &s, &delivered,
                          pick(m, 3) == 0 ? s.xmax - pick(m, 20) : HORIZON_UNBOUNDED));
    CHECK(increment_advance(i, h, &poll));
    xidset_fini(&delivered);
    increment_fini_firsts(&fresh);
}

static void test_model_of_a_server(void)
{
    static struct model m;

    for (uint64_t round = 0; round < 40; round++) {
        struct increment i = { .column = NULL, .base = INCREMENT_LOWEST }, copy;
        struct horizon h = { .floor = 100 };

        memset(&m, 0, sizeof m);
        m.random = round;
        m.next_xid = 100;
        i.since = 100;
        while (m.n_rows < ROWS / 2) {
            for (uint64_t n = pick(&m, 30); n > 0; n--)
                work(&m);
            poll_model(&m, &i, &h, pick(&m, 12) == 0);
            CHECK(increment_copy(&copy, &i));
            increment_fini(&i);
            i = copy;
        }
        poll_model(&m, &i, &h, true);
        CHECK(i.n_stretches == 0);
        increment_fini(&i);
        horizon_fini(&h);
    }
}

const struct unit_case increment_cases[] = {
    { "increment_firsts", test_firsts },
    { "increment_base", test_base },
    { "increment_ends_of_the_range", test_ends_of_the_range },
    { "increment_many_rungs", test_many_rungs },
    { "increment_full", test_full },
    { "increment_model_of_a_server", test_model_of_a_server },
    { NULL, NULL },
};
