/* logical.c -- unit tests of which transactions of the log are new.
 * SPDX-License-Identifier: MIT */
#include "capture/logical.h"

#include "unit.h"

#include <stdlib.h>
#include <string.h>

static struct horizon_snapshot snapshot(const char *text)
{
    struct horizon_snapshot s;

    CHECK(horizon_parse_snapshot(&s, text));
    return s;
}

static bool shows(const char *text, uint64_t xid)
{
    struct horizon_snapshot s = snapshot(text);

    return logical_shows(&s, xid);
}

static void test_shows(void)
{
    CHECK(shows("748:757:748,752", 747) && !shows("748:757:748,752", 748));
    CHECK(shows("748:757:748,752", 749) && !shows("748:757:748,752", 752));
    CHECK(shows("748:757:748,752", 756) && !shows("748:757:748,752", 757));
    CHECK(shows("748:748:", 747) && !shows("748:748:", 748));
    CHECK(!shows("7:4294967400:4294967296", 4294967296u) && shows("7:4294967400:4294967296", 8));
}

static bool contains(const char *p, const char *s0)
{
    struct horizon_snapshot later = snapshot(p), earlier = snapshot(s0);

    return logical_contains(&later, &earlier);
}

static void test_contains(void)
{
    CHECK(contains("748:757:748,752", "748:757:748,749,750,751,752,753,754"));
    CHECK(!contains("748:757:748,755", "748:757:748,752")); /* 755 is in the log, and not visible */
    CHECK(contains("760:760:", "748:757:748"));
    CHECK(contains("748:760:748,757,758", "748:757:748"));
    CHECK(!contains("748:755:748", "748:757:748"));         /* 755 and 756 were not begun */
    CHECK(contains("748:755:748", "748:757:748,755,756"));
}

static void test_widen(void)
{
    EQUAL(logical_widen(752, 760), 752);
    EQUAL(logical_widen(752, 700), 752);
    EQUAL(logical_widen(5, 4294967300u), 4294967301u);
    EQUAL(logical_widen(4294967290u, 4294967300u), 4294967290u);
    EQUAL(logical_widen(7, 4294967290u), 4294967303u);
    EQUAL(logical_widen(4294967290u, 10), 4294967290u); /* there is none before */
}

static void test_transactions(void)
{
    struct logical l = { 0 }, copy;

    CHECK(logical_begin(&l, 100, "748:757:748,752", 200, 7));
    CHECK(logical_is_done(&l, 99, 748) && logical_is_done(&l, 0, 9999)); /* before the LSN */
    CHECK(logical_is_done(&l, 100, 749) && logical_is_done(&l, 199, 756)); /* shown by the poll */
    CHECK(!logical_is_done(&l, 100, 748) && !logical_is_done(&l, 199, 757));
    CHECK(!logical_is_done(&l, 200, 749)); /* P is not asked any more */
    logical_advance(&l, 150);
    logical_advance(&l, 120);
    EQUAL(l.lsn, 150);
    CHECK(l.until == 200 && l.shown != NULL);
    CHECK(logical_copy(&copy, &l));
    EQUAL(copy.published, 7);
    CHECK(copy.lsn == 150 && strcmp(copy.shown, l.shown) == 0 && copy.shown != l.shown);
    logical_fini(&copy);
    l.inside = (struct logical_inside){ 150, 140, 2 };
    CHECK(logical_is_inside(&l.inside, 139, 9) && logical_is_inside(&l.inside, 140, 2));
    CHECK(!logical_is_inside(&l.inside, 140, 3) && !logical_is_inside(&l.inside, 141, 1));
    logical_advance(&l, 150);
    EQUAL(l.inside.commit, 150);
    logical_advance(&l, 200);
    EQUAL(l.inside.commit, 0);
    CHECK(l.lsn == 200 && l.until == 0 && l.shown == NULL);
    logical_end(&l);
    CHECK(l.lsn == 0 && l.published == 0);
    logical_fini(&l);
}

const struct unit_case logical_cases[] = {
    { "logical_shows", test_shows },
    { "logical_contains", test_contains },
    { "logical_widen", test_widen },
    { "logical_transactions", test_transactions },
    { NULL, NULL },
};
