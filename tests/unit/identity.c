/* identity.c -- unit tests of the verdict on who answers: every row of the fault table.
 * SPDX-License-Identifier: MIT */
#include "capture/identity.h"

#include "unit.h"

#include <string.h>

static const struct identity primary = {
    .system = "7350000000000000001", .started = "1795000000.5", .stats = "1794000000.25",
    .database = 16384, .timeline = 3, .xmax = 1000, .lsn = 5000, .flush_lsn = 4800,
    .durable_xmax = 990, .durable_lsn = 4700,
};

static struct identity like(bool in_recovery)
{
    struct identity id = primary;

    id.in_recovery = in_recovery;
    if (in_recovery) {
        id.flush_lsn = id.durable_lsn = id.lsn;
        id.durable_xmax = id.xmax;
    }
    return id;
}

static enum identity_verdict judge(const struct identity *then, const struct identity *now)
{
    char why[128], small[8];
    enum identity_verdict v = identity_compare(then, now, why, sizeof why);

    CHECK((v == IDENTITY_SAME) == (why[0] == '\0')); /* whatever is not as it was is explained */
    CHECK(identity_compare(then, now, small, sizeof small) == v);
    CHECK(strlen(small) < sizeof small);
    return v;
}

#define NOW(change) (now = like(in_recovery), change, judge(&then, &now))

static void test_other(void)
{
    for (int from = 0; from < 2; from++)
        for (int to = 0; to < 2; to++) {
            struct identity then = like(from), now;
            bool in_recovery = to;

            CHECK(NOW(now.system[3]++) == IDENTITY_OTHER);
            CHECK(NOW(now.database++) == IDENTITY_OTHER);
            CHECK(NOW((now.system[3]++, now.timeline++, now.xmax = 5)) == IDENTITY_OTHER);
        }
}

static void test_primary(void)
{
    struct identity then = like(false), now;
    const bool in_recovery = false;

    CHECK(NOW((void)0) == IDENTITY_SAME);
    CHECK(NOW((now.xmax++, now.lsn++)) == IDENTITY_SAME);
    CHECK(NOW(now.lsn++) == IDENTITY_SAME);
    CHECK(NOW(now.xmax--) == IDENTITY_FAILED_OVER);
    CHECK(NOW(now.lsn--) == IDENTITY_FAILED_OVER);
    CHECK(NOW(now.timeline++) == IDENTITY_FAILED_OVER);
    CHECK(NOW(now.timeline--) == IDENTITY_FAILED_OVER);
}

static void test_primary_crashed(void)
{
    struct identity then = like(false), now;
    const bool in_recovery = false;

#define CRASHED(change) NOW((now.stats[0]++, change))
    CHECK(CRASHED((void)0) == IDENTITY_CRASHED);
    CHECK(CRASHED(now.started[0]++) == IDENTITY_CRASHED);
    CHECK(CRASHED((now.xmax += 9, now.lsn += 9)) == IDENTITY_CRASHED);
    /* what was not durable may be gone */
    CHECK(CRASHED((now.xmax = 990, now.lsn = 4700)) == IDENTITY_CRASHED);
    CHECK(CRASHED(now.xmax = 989) == IDENTITY_FAILED_OVER);
    CHECK(CRASHED(now.lsn = 4699) == IDENTITY_FAILED_OVER);
    CHECK(CRASHED(now.timeline++) == IDENTITY_FAILED_OVER);
}

/* A clean restart undoes nothing, so that nothing may have gone back. */
static void test_primary_restarted(void)
{
    struct identity then = like(false), now;
    const bool in_recovery = false;

    CHECK(NOW(now.started[0]++) == IDENTITY_SAME);
    CHECK(NOW((now.started[0]++, now.xmax = 990)) == IDENTITY_FAILED_OVER);
    CHECK(NOW((now.started[0]++, now.lsn = 4700)) == IDENTITY_FAILED_OVER);
}

static void test_standby(void)
{
    struct identity then = like(true), now;
    const bool in_recovery = true;

    CHECK(NOW((void)0) == IDENTITY_SAME);
    CHECK(NOW((now.xmax++, now.lsn++)) == IDENTITY_SAME);
    CHECK(NOW(now.lsn--) == IDENTITY_BEHIND);
    CHECK(NOW((now.lsn--, now.xmax--)) == IDENTITY_BEHIND);
    CHECK(NOW(now.xmax--) == IDENTITY_FAILED_OVER);
    CHECK(NOW(now.timeline++) == IDENTITY_FAILED_OVER);
    CHECK(NOW((now.timeline++, now.lsn--)) == IDENTITY_FAILED_OVER);
    /* its restart takes nothing back, nor does another standby of the same history */
    CHECK(NOW(now.started[0]++) == IDENTITY_SAME);
    CHECK(NOW(now.stats[0]++) == IDENTITY_SAME);
    CHECK(NOW((now.started[0]++, now.lsn--)) == IDENTITY_BEHIND);
}

static void test_promoted(void)
{
    struct identity then = like(true), now;
    const bool in_recovery = false;

    CHECK(NOW((now.timeline++, now.lsn++)) == IDENTITY_PROMOTED);
    CHECK(NOW((now.timeline++, now.stats[0]++)) == IDENTITY_PROMOTED);
    CHECK(NOW((now.timeline++, now.started[0]++)) == IDENTITY_FAILED_OVER);
    CHECK(NOW(now.started[0]++) == IDENTITY_FAILED_OVER);
    CHECK(NOW((now.timeline++, now.lsn--)) == IDENTITY_FAILED_OVER);
    CHECK(NOW((now.timeline++, now.xmax--)) == IDENTITY_FAILED_OVER);
}

/* The connection string leads to a standby of the primary that was read before. */
static void test_primary_then_standby(void)
{
    struct identity then = like(false), now;
    const bool in_recovery = true;

    CHECK(NOW((void)0) == IDENTITY_CRASHED);
    CHECK(NOW((now.lsn = 4700, now.xmax = 985)) == IDENTITY_CRASHED);
    CHECK(NOW(now.lsn = 4699) == IDENTITY_BEHIND);
    CHECK(NOW(now.timeline++) == IDENTITY_FAILED_OVER);
}

const struct unit_case identity_cases[] = {
    { "identity_other", test_other },
    { "identity_primary", test_primary },
    { "identity_primary_crashed", test_primary_crashed },
    { "identity_primary_restarted", test_primary_restarted },
    { "identity_standby", test_standby },
    { "identity_promoted", test_promoted },
    { "identity_primary_then_standby", test_primary_then_standby },
    { NULL, NULL },
};
