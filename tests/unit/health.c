/* health.c -- unit tests of what is told of a running program: health, history, histograms.
 * SPDX-License-Identifier: MIT */
#include "serve/health.h"

#include "base/histogram.h"
#include "serve/history.h"
#include "unit.h"

#include <stdio.h>
#include <string.h>

#define NOW_MS 1000000
#define NOW_US ((int64_t)1800000000 * 1000000)

static const struct health_options options = { .max_lag = 60 };

/* A source to which all has come, and whose next poll is not due. */
static struct figures_source good_source(void)
{
    struct figures_source s = { .name = "t", .phase = FIGURES_FOLLOWS };

    s.meter.due_ms = NOW_MS + 500;
    return s;
}

static struct health look(struct figures_source *s, int64_t turned_ms)
{
    struct figures f = { .sources = s, .n_sources = 1, .turned_ms = turned_ms,
                         .began_us = NOW_US - 5000000 };
    struct health h;

    CHECK(health_find(&h, &f, &options, NOW_US, NOW_MS));
    return h;
}

static void test_well(void)
{
    struct figures_source s = good_source();
    struct health h = look(&s, 0);

    CHECK(h.is_live && h.is_ready);
    EQUAL(h.n, 0);
    health_fini(&h);
}

static void test_loop(void)
{
    struct figures_source s = good_source();
    struct health h = look(&s, HEALTH_STALLED_MS - 1);

    EQUAL((uint64_t)HEALTH_STALLED_MS, (uint64_t)30000);
    CHECK(h.is_live && h.is_ready);
    health_fini(&h);
    h = look(&s, HEALTH_STALLED_MS);
    CHECK(!h.is_live && !h.is_ready);
    EQUAL(h.problems[0].reason, HEALTH_LOOP);
    EQUAL((uint64_t)h.problems[0].since_us, (uint64_t)(NOW_US - HEALTH_STALLED_MS * 1000));
    health_fini(&h);
}

/* Late by what is not saved, or by a poll that is overdue, whichever is more. */
static void test_lag(void)
{
    struct figures_source s = good_source();
    struct health h;

    s.unsaved_us = NOW_US - 59 * (int64_t)1000000;
    h = look(&s, 0);
    CHECK(h.is_ready);
    health_fini(&h);
    s.unsaved_us = NOW_US - 61 * (int64_t)1000000;
    h = look(&s, 0);
    CHECK(h.is_live && !h.is_ready);
    EQUAL(h.problems[0].reason, HEALTH_LAG);
    CHECK(strncmp(h.problems[0].text, "61 s late: ", 11) == 0);
    health_fini(&h);
    s.unsaved_us = 0;
    s.meter.due_ms = NOW_MS - 70000;
    h = look(&s, 0);
    CHECK(!h.is_ready);
    CHECK(strncmp(h.problems[0].text, "70 s late: ", 11) == 0);
    health_fini(&h);
    s.phase = FIGURES_DONE; /* of --once: no poll is due any more */
    h = look(&s, 0);
    CHECK(h.is_ready);
    health_fini(&h);
}

/* The server's words are told, but not where they may quote values. */
static void test_words(void)
{
    struct figures_source s = good_source();
    struct health h;

    s.meter.failing_since_ms = NOW_MS - 1000;
    err_set(&s.meter.err, ERR_SQL, "canceling statement due to user request");
    h = look(&s, 0);
    CHECK(h.is_ready);
    EQUAL(h.n, 1);
    CHECK(strcmp(h.problems[0].text, "canceling statement due to user request") == 0);
    health_fini(&h);
    err_set(&s.meter.err, ERR_SQL, "invalid input syntax for type integer: \"secret\"");
    memcpy(s.meter.err.sqlstate, "22P02", 6);
    h = look(&s, 0);
    CHECK(strstr(h.problems[0].text, "secret") == NULL);
    health_fini(&h);
    s.meter.failing_since_ms = NOW_MS - 61000;
    h = look(&s, 0);
    EQUAL(h.n, 2);
    EQUAL(h.problems[0].reason, HEALTH_DATABASE); /* the cause before the lag */
    CHECK(h.problems[0].is_blocking && h.problems[1].is_blocking);
    CHECK(strstr(h.problems[1].text, "secret") == NULL);
    health_fini(&h);
}

/* A source that a user has paused is told as such, and is no reason not to be ready until it is
 * late; then that says why. */
static void test_paused(void)
{
    struct figures_source s = good_source();
    struct health h;

    s.is_paused_by_user = true;
    s.user_paused_us = NOW_US - 7000000;
    h = look(&s, 0);
    CHECK(h.is_ready);
    EQUAL(h.n, 1);
    EQUAL(h.problems[0].reason, HEALTH_PAUSED);
    EQUAL((uint64_t)h.problems[0].since_us, (uint64_t)s.user_paused_us);
    health_fini(&h);
    s.meter.due_ms = NOW_MS - 70000;
    h = look(&s, 0);
    CHECK(!h.is_ready);
    EQUAL(h.n, 1);
    CHECK(strcmp(h.problems[0].text, "70 s late: it was paused by pgcdc-lua ctl") == 0);
    health_fini(&h);
}

/* Only what a source feeds is told as the reason why it is late. */
static void test_who_is_to_blame(void)
{
    size_t first = 0, second = 1;
    char reports[] = "reports", window[] = "window 1";
    struct script_figures_sink sink = { .name = reports, .sources = &first, .n_sources = 1,
                                        .trouble = { .since_us = NOW_US - 1 } };
    struct script_figures_operator held = { .name = window, .held = 1, .sources = &second,
                                            .n_sources = 1 };
    struct script_figures half = { .sinks = &sink, .n_sinks = 1, .operators = &held,
                                   .n_operators = 1 };
    struct figures_source sources[] = { good_source(), good_source() };
    struct figures f = { .sources = sources, .n_sources = 2, .script_half = &half };
    struct health h;

    sources[0].unsaved_us = NOW_US - 70 * (int64_t)1000000;
    sources[1].unsaved_us = NOW_US - 69 * (int64_t)1000000;
    CHECK(health_find(&h, &f, &options, NOW_US, NOW_MS));
    EQUAL(h.n, 3);
    CHECK(strcmp(h.problems[0].text, "70 s late: the sink reports is tried again") == 0);
    CHECK(strcmp(h.problems[1].text, "69 s late: the operator window 1 holds values of 1 batch") ==
          0);
    health_fini(&h);
}

static void test_phases(void)
{
    struct figures_source s = good_source();
    struct health h;

    s.phase = FIGURES_SNAPSHOT;
    s.snapshot_share = 0.425;
    s.snapshot_left = 12;
    h = look(&s, 0);
    CHECK(h.is_live && !h.is_ready);
    CHECK(strcmp(h.problems[0].text, "existing rows are read: 42 %, about 12 s left") == 0);
    health_fini(&h);
    s.phase = FIGURES_CONNECTS;
    h = look(&s, 0);
    CHECK(!h.is_ready);
    EQUAL(h.problems[0].reason, HEALTH_STARTS);
    health_fini(&h);
}

/* A database that is away is worse than a first read that goes on. */
static void test_the_worst_first(void)
{
    struct figures_source sources[] = { good_source(), good_source() };
    struct figures f = { .sources = sources, .n_sources = 2 };
    struct health h;

    sources[0].phase = FIGURES_SNAPSHOT;
    sources[1].phase = FIGURES_CONNECTS;
    sources[1].meter.failing_since_ms = NOW_MS - 1000;
    err_set(&sources[1].meter.err, ERR_SQL, "connection refused");
    CHECK(health_find(&h, &f, &options, NOW_US, NOW_MS));
    EQUAL(h.problems[0].reason, HEALTH_DATABASE);
    EQUAL(h.problems[h.n - 1].reason, HEALTH_SNAPSHOT);
    for (int i = 0; i < HEALTH_REASONS; i++)
        CHECK((strcmp(health_word(i), "snapshot") == 0) == (i == HEALTH_SNAPSHOT));
    health_fini(&h);
}

/* ---- history ---- */

static void test_history(void)
{
    struct figures_source s = good_source();
    struct figures f = { .sources = &s, .n_sources = 1 };
    struct history h = { 0 };

    for (int64_t ms = 0; ms < 20 * 60 * 1000; ms += 1000) {
        s.changes[OP_READ] += 3;
        history_add(&h, &f, 77 + ms);
    }
    EQUAL(h.n_steps, HISTORY_STEPS);
    for (size_t i = 0; i < h.n_steps; i++)
        EQUAL(history_step(&h, 0, i), 15);
    CHECK(history_rate(&h, 0) > 2.5 && history_rate(&h, 0) < 3.5);
    history_add(&h, &f, 77 + 40 * 60 * 1000); /* the thread did not run: nothing came */
    EQUAL(history_step(&h, 0, 0), 0);
    CHECK(history_rate(&h, 0) < 0.01);
    history_fini(&h);
}

static void test_histogram(void)
{
    struct histogram h = { 0 }, all = { 0 };

    histogram_add(&h, 0.000001, 1);
    histogram_add(&h, 0.5, 2);
    histogram_add(&h, 1000, 1);
    histogram_add(&h, 7, 0);
    EQUAL(h.count, 4);
    EQUAL(h.buckets[0], 1);
    EQUAL(h.buckets[8], 2); /* a value belongs to the bucket whose bound it is */
    EQUAL(h.buckets[HISTOGRAM_BOUNDS], 1);
    histogram_add_all(&all, &h);
    histogram_add_all(&all, &h);
    EQUAL(all.count, 8);
    EQUAL(all.buckets[8], 4);
    CHECK(all.sum > 2001.9 && all.sum < 2002.1);
}

const struct unit_case health_cases[] = {
    { "health_well", test_well },
    { "health_loop", test_loop },
    { "health_lag", test_lag },
    { "health_words", test_words },
    { "health_paused", test_paused },
    { "health_who_is_to_blame", test_who_is_to_blame },
    { "health_phases", test_phases },
    { "health_the_worst_first", test_the_worst_first },
    { "history", test_history },
    { "histogram", test_histogram },
    { NULL, NULL },
};
