/* horizon.c -- unit tests of the capture rule.
 * SPDX-License-Identifier: MIT */
#include "capture/horizon.h"

#include "unit.h"

#include <stdlib.h>
#include <string.h>

#define EPOCH ((uint64_t)1 << 32)
#define HALF ((uint64_t)1 << 31)

static void add_all(struct xidset *s, const uint64_t *xids)
{
    for (; *xids != 0; xids++)
        CHECK(xidset_add(s, *xids));
}

static void test_xidset(void)
{
    struct xidset s = { 0 }, copy, empty = { 0 };
    uint64_t state = 1;

    CHECK(!xidset_has(&s, 0));
    for (int i = 0; i < 2000; i++)
        CHECK(xidset_add(&s, unit_random(&state) % 1000));
    for (size_t i = 1; i < s.n; i++)
        CHECK(s.v[i - 1] < s.v[i]);
    state = 1;
    for (int i = 0; i < 2000; i++)
        CHECK(xidset_has(&s, unit_random(&state) % 1000));
    CHECK(!xidset_has(&s, 1000));
    CHECK(xidset_add(&s, UINT64_MAX) && xidset_add(&s, UINT64_MAX));
    EQUAL(s.v[s.n - 1], UINT64_MAX);
    CHECK(xidset_copy(&copy, &s));
    xidset_fini(&s);
    CHECK(s.n == 0 && s.v == NULL && xidset_has(&copy, UINT64_MAX));
    CHECK(xidset_add(&copy, 5000));
    xidset_fini(&copy);
    CHECK(xidset_copy(&copy, &empty) && copy.n == 0);
    xidset_fini(&copy);
}

static void test_snapshot_text(void)
{
    static const char *const bad[] = { "", "752", "752:", "752:755", ":755:", "a:b:", "755:752:753",
        "2:5:", "0:0:", "99999999999999999999:99999999999999999999:", "752,755:" };
    struct horizon_snapshot s;

    CHECK(horizon_parse_snapshot(&s, "752:755:752,753"));
    CHECK(s.xmin == 752 && s.xmax == 755);
    CHECK(horizon_parse_snapshot(&s, "752:752:") && s.xmin == s.xmax);
    CHECK(horizon_parse_snapshot(&s, "755:752:") && s.xmin == 755 && s.xmax == 755);
    CHECK(horizon_parse_snapshot(&s, "4294967299:8589934592:"));
    CHECK(s.xmin == EPOCH + 3 && s.xmax == 2 * EPOCH);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK(!horizon_parse_snapshot(&s, bad[i]));
}

static void test_widen(void)
{
    uint64_t xmaxes[] = { 1000, HALF - 1, HALF, HALF + 1, EPOCH - 1, EPOCH, EPOCH + 3, EPOCH + HALF,
        2 * EPOCH, 2 * EPOCH + 100, 3 * EPOCH - 1 };

    for (size_t i = 0; i < sizeof xmaxes / sizeof *xmaxes; i++) {
        uint64_t xmax = xmaxes[i];

        for (uint32_t special = 0; special < HORIZON_FIRST_XID; special++)
            EQUAL(horizon_widen(special, xmax), 0);
        /* whatever is less than 2^32 back comes out as it went in */
        for (uint64_t back = 1; back < EPOCH && back <= xmax; back = back * 2 + 1)
            if ((uint32_t)(xmax - back) >= HORIZON_FIRST_XID)
                EQUAL(horizon_widen((uint32_t)(xmax - back), xmax), xmax - back);
        /* the next xid itself: 2^32 ago, or never */
        if ((uint32_t)xmax >= HORIZON_FIRST_XID)
            EQUAL(horizon_widen((uint32_t)xmax, xmax), xmax >= EPOCH ? xmax - EPOCH : 0);
    }
    EQUAL(horizon_widen(UINT32_MAX, 1000), 0);
    EQUAL(horizon_widen(UINT32_MAX, EPOCH), EPOCH - 1);
    EQUAL(horizon_widen(3, EPOCH), 3);
    EQUAL(horizon_widen(3, EPOCH + 4), EPOCH + 3);
    EQUAL(horizon_widen(3, 2 * EPOCH), EPOCH + 3);
    EQUAL(horizon_widen(3, 2 * EPOCH + 4), 2 * EPOCH + 3);
}

/* The xid of a row with the xmin <xid> that is visible in <s>, or DOUBTFUL. */
#define DOUBTFUL 1 /* no row gets this one */

static uint64_t widen_visible(uint64_t xid, const struct horizon_snapshot *s,
                              const struct horizon_in_doubt *d)
{
    bool is_doubtful;
    uint64_t wide = horizon_widen_visible((uint32_t)xid, s, d, &is_doubtful);

    return is_doubtful ? DOUBTFUL : wide;
}

/* Rows that are visible have writers that are over; what looks like the xid of somebody who is not
 * stands on a frozen row, of 2^32 transactions before. */
static void test_widen_visible(void)
{
    const uint64_t e = EPOCH;
    struct horizon_snapshot s = { .xmin = e + 103, .xmax = e + 110 };
    struct horizon_in_doubt d = { .before.xmax = e + 108, .after.xmax = e + 110 };

    add_all(&d.before.xids, (uint64_t[]){ e + 103, e + 104, e + 106, 0 });
    add_all(&d.after.xids, (uint64_t[]){ e + 103, e + 106, e + 108, 0 });
    EQUAL(widen_visible(e + 102, &s, &d), e + 102); /* below S.xmin all are over */
    EQUAL(widen_visible(e + 103, &s, &d), 103);     /* was under way all the time */
    EQUAL(widen_visible(e + 104, &s, &d), DOUBTFUL); /* ended meanwhile */
    EQUAL(widen_visible(e + 105, &s, &d), e + 105); /* was over before */
    EQUAL(widen_visible(e + 106, &s, &d), 106);
    EQUAL(widen_visible(e + 107, &s, &d), e + 107);
    EQUAL(widen_visible(e + 108, &s, &d), 108);     /* began meanwhile, */
    EQUAL(widen_visible(e + 109, &s, &d), DOUBTFUL); /* and ended */
    EQUAL(widen_visible(e + 110, &s, &d), 110);     /* not begun yet in S */
    for (uint64_t special = 0; special < HORIZON_FIRST_XID; special++)
        EQUAL(widen_visible(special, &s, &d), 0);

    /* nothing is known: all from S.xmin on are doubtful */
    horizon_forget_in_doubt(&d);
    CHECK(d.before.xids.n == 0 && d.after.xids.n == 0 && d.before.xmax == 0 &&
          d.after.xmax == 0);
    EQUAL(widen_visible(e + 102, &s, &d), e + 102);
    EQUAL(widen_visible(e + 103, &s, &d), DOUBTFUL);
    EQUAL(widen_visible(e + 109, &s, &d), DOUBTFUL);
    EQUAL(widen_visible(e + 110, &s, &d), 110);

    /* the first 2^32 xids are nobody else's, also in a snapshot that shows some of the next */
    s = (struct horizon_snapshot){ .xmin = e - 5, .xmax = e + 10 };
    EQUAL(widen_visible(e - 1, &s, &d), e - 1);
    EQUAL(widen_visible(e + 3, &s, &d), DOUBTFUL);
    s = (struct horizon_snapshot){ .xmin = 103, .xmax = 110 };
    for (uint64_t xid = 100; xid < 110; xid++)
        EQUAL(widen_visible(xid, &s, &d), xid);
    EQUAL(widen_visible(110, &s, &d), 0);

    /* in a third epoch likewise */
    s = (struct horizon_snapshot){ .xmin = 2 * e + 103, .xmax = 2 * e + 110 };
    d.before.xmax = 2 * e + 110;
    add_all(&d.before.xids, (uint64_t[]){ 2 * e + 104, 0 });
    add_all(&d.after.xids, (uint64_t[]){ 2 * e + 104, 0 });
    EQUAL(widen_visible(104, &s, &d), e + 104);
    EQUAL(widen_visible(105, &s, &d), 2 * e + 105);
    horizon_forget_in_doubt(&d);
}

static void test_floor_of_special_xids(void)
{
    struct horizon h = { 0 };

    for (uint64_t epoch = 0; epoch <= 2; epoch++) {
        for (uint32_t low = 0; low <= HORIZON_FIRST_XID; low++) {
            h.floor = epoch * EPOCH + low;
            EQUAL(horizon_floor32(h.floor), HORIZON_FIRST_XID);
        }
        h.floor = epoch * EPOCH + HALF;
        EQUAL(horizon_floor32(h.floor), (uint32_t)HALF);
        h.floor = epoch * EPOCH + UINT32_MAX;
        EQUAL(horizon_floor32(h.floor), UINT32_MAX);
    }
}

static void check_seen(const struct horizon *h, const uint64_t *xids)
{
    size_t n = 0;

    for (; xids[n] != 0; n++)
        CHECK(n < h->seen.n && h->seen.v[n] == xids[n]);
    EQUAL(h->seen.n, n);
}

/* Eight xids, then a savepoint's that commits later than its elder. */
static void test_advance(void)
{
    struct horizon h = { .floor = 100 };
    struct horizon_snapshot s = { .xmin = 103, .xmax = 110 };
    struct xidset delivered = { 0 };

    add_all(&delivered, (uint64_t[]){ 100, 101, 105, 109, 0 });
    CHECK(horizon_advance(&h, &s, &delivered, HORIZON_UNBOUNDED));
    EQUAL(h.floor, 103);
    check_seen(&h, (uint64_t[]){ 105, 109, 0 });
    CHECK(!horizon_is_new(&h, 102) && horizon_is_new(&h, 103) && horizon_is_new(&h, 104));
    CHECK(!horizon_is_new(&h, 105) && horizon_is_new(&h, 106) && horizon_is_new(&h, 110));
    CHECK(!horizon_is_new(&h, 0)); /* a special xid */
    xidset_fini(&delivered);

    /* the floor waits for what is durable, and never goes back */
    s = (struct horizon_snapshot){ .xmin = 112, .xmax = 112 };
    add_all(&delivered, (uint64_t[]){ 103, 104, 111, 0 });
    CHECK(horizon_advance(&h, &s, &delivered, 104));
    EQUAL(h.floor, 104);
    check_seen(&h, (uint64_t[]){ 104, 105, 109, 111, 0 });
    xidset_fini(&delivered);
    CHECK(horizon_advance(&h, &s, &delivered, 0));
    EQUAL(h.floor, 104);
    check_seen(&h, (uint64_t[]){ 104, 105, 109, 111, 0 });
    CHECK(horizon_advance(&h, &s, &delivered, 112));
    EQUAL(h.floor, 112);
    check_seen(&h, (uint64_t[]){ 0 });
    horizon_fini(&h);
}

static void test_advance_takes_each_xid_once(void)
{
    struct horizon h = { .floor = 10 }, copy;
    struct horizon_snapshot s = { .xmin = 10, .xmax = 20 };
    struct xidset delivered = { 0 };

    add_all(&h.seen, (uint64_t[]){ 12, 14, 0 });
    add_all(&delivered, (uint64_t[]){ 11, 12, 14, 15, 0 });
    CHECK(horizon_advance(&h, &s, &delivered, HORIZON_UNBOUNDED));
    check_seen(&h, (uint64_t[]){ 11, 12, 14, 15, 0 });
    CHECK(horizon_copy(&copy, &h));
    horizon_fini(&h);
    check_seen(&copy, (uint64_t[]){ 11, 12, 14, 15, 0 });
    EQUAL(copy.floor, 10);
    horizon_fini(&copy);
    xidset_fini(&delivered);
}

/* A server as far as xids go: transactions with subtransactions begin, wait, commit or abort in any
 * order, while polls are made. Each xid that committed must be delivered by the first poll that
 * sees it, and by no other. */
enum { XIDS = 3000, OPEN = 6 };

struct model {
    uint64_t first, next;
    enum { FREE, RUNNING, COMMITTED, ABORTED, GONE } state[XIDS];
    int delivered[XIDS];
    size_t open[OPEN][XIDS], n_open[OPEN]; /* the first of each is the top-level xid */
    uint64_t random;
};

static uint64_t pick(struct model *m, uint64_t n)
{
    return unit_random(&m->random) % n;
}

/* One transaction writes under a new xid, or ends. */
static void work(struct model *m)
{
    size_t t = pick(m, OPEN), *xids = m->open[t];

    if (m->n_open[t] > 0 && pick(m, 3) == 0) {
        bool aborts = pick(m, 5) == 0;

        for (size_t i = 0; i < m->n_open[t]; i++)
            if (m->state[xids[i]] == RUNNING)
                m->state[xids[i]] = aborts ? ABORTED : COMMITTED;
        m->n_open[t] = 0;
        return;
    }
    if ((uint32_t)m->next < HORIZON_FIRST_XID) /* the server gives those to nobody */
        m->next += HORIZON_FIRST_XID - (uint32_t)m->next;
    xids[m->n_open[t]++] = m->next - m->first;
    m->state[m->next - m->first] = RUNNING;
    if (m->n_open[t] > 1 && pick(m, 4) == 0)
        m->state[m->next - m->first] = ABORTED; /* a savepoint rolled back */
    m->next++;
}

static void poll_model(struct model *m, struct horizon *h)
{
    struct horizon_snapshot s = { .xmin = m->next, .xmax = m->next };
    struct xidset delivered = { 0 };

    for (size_t t = 0; t < OPEN; t++)
        if (m->n_open[t] > 0 && m->first + m->open[t][0] < s.xmin)
            s.xmin = m->first + m->open[t][0];
    for (size_t i = 0; i < XIDS; i++) {
        uint64_t xid = horizon_widen((uint32_t)(m->first + i), s.xmax);

        if (m->state[i] != COMMITTED)
            continue;
        EQUAL(xid, m->first + i);
        if (horizon_is_new(h, xid)) {
            m->delivered[i]++;
            CHECK(xidset_add(&delivered, xid));
        }
        EQUAL(m->delivered[i], 1);
        if (pick(m, 10) == 0)
            m->state[i] = GONE; /* updated or deleted by another */
    }
    CHECK(horizon_advance(h, &s, &delivered, pick(m, 3) == 0 ? s.xmax - pick(m, 50)
                                                             : HORIZON_UNBOUNDED));
    CHECK(h->floor <= s.xmin);
    xidset_fini(&delivered);
}

static void test_model_of_a_server(void)
{
    static const uint64_t starts[] = { 3, HALF - XIDS / 2, EPOCH - XIDS / 2, EPOCH,
        EPOCH + HALF - XIDS / 2, 2 * EPOCH - XIDS / 2 };
    static struct model m;

    for (uint64_t round = 0; round < 12; round++) {
        uint64_t first = starts[round % 6];
        struct horizon h;

        m = (struct model){ .first = first, .next = first, .random = round };
        h = (struct horizon){ .floor = first };
        while (m.next + 10 < m.first + XIDS) {
            for (uint64_t n = pick(&m, 30); n > 0 && m.next + 10 < m.first + XIDS; n--)
                work(&m);
            poll_model(&m, &h);
        }
        horizon_fini(&h);
    }
}

static void test_durable(void)
{
    struct horizon_durable d = { 0 };

    horizon_flush_durable(&d, 1000);
    EQUAL(d.xmax, 0);
    horizon_add_durable(&d, 100, 1000);
    horizon_add_durable(&d, 100, 1100); /* nothing was begun meanwhile: the older entry says more */
    EQUAL(d.n, 1);
    horizon_add_durable(&d, 105, 1200);
    horizon_add_durable(&d, 107, 1300);
    horizon_flush_durable(&d, 999);
    EQUAL(d.xmax, 0);
    horizon_flush_durable(&d, 1000);
    CHECK(d.xmax == 100 && d.lsn == 1000 && d.n == 2);
    horizon_flush_durable(&d, 1250);
    CHECK(d.xmax == 105 && d.lsn == 1200 && d.n == 1);
    horizon_add_durable(&d, 107, 1400);
    EQUAL(d.n, 1);
    horizon_flush_durable(&d, 2000);
    CHECK(d.xmax == 107 && d.lsn == 1300 && d.n == 0);
    horizon_add_durable(&d, 107, 2100); /* known to be flushed already */
    EQUAL(d.n, 0);
}

/* With more unflushed than there is room for, D may lag, but never tells what is not flushed, and
 * comes to the newest entry in the end. */
static void test_durable_without_room(void)
{
    struct horizon_durable d = { 0 };
    uint64_t flush, state = 7, lsn = 0, xmax = 0, lsn_of[2001] = { 0 };

    for (flush = 0; xmax < 2000; flush += unit_random(&state) % 3 == 0 ? 40 : 0) {
        xmax++;
        lsn += unit_random(&state) % 20 + 1;
        lsn_of[xmax] = lsn;
        horizon_add_durable(&d, xmax, lsn);
        CHECK(d.n <= HORIZON_DURABLE_MAX);
        EQUAL(d.unflushed[d.n - 1].xmax, xmax);
        horizon_flush_durable(&d, flush < lsn ? flush : lsn);
        CHECK(d.xmax == 0 || (lsn_of[d.xmax] == d.lsn && d.lsn <= flush));
        for (size_t i = 1; i < d.n; i++)
            CHECK(d.unflushed[i - 1].xmax < d.unflushed[i].xmax &&
                  d.unflushed[i - 1].lsn < d.unflushed[i].lsn);
    }
    horizon_flush_durable(&d, UINT64_MAX);
    CHECK(d.xmax == 2000 && d.n == 0);
}

const struct unit_case horizon_cases[] = {
    { "horizon_xidset", test_xidset },
    { "horizon_snapshot_text", test_snapshot_text },
    { "horizon_widen", test_widen },
    { "horizon_widen_visible", test_widen_visible },
    { "horizon_floor_of_special_xids", test_floor_of_special_xids },
    { "horizon_advance", test_advance },
    { "horizon_advance_takes_each_xid_once", test_advance_takes_each_xid_once },
    { "horizon_model_of_a_server", test_model_of_a_server },
    { "horizon_durable", test_durable },
    { "horizon_durable_without_room", test_durable_without_room },
    { NULL, NULL },
};
