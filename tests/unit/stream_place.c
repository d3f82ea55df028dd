/* stream_place.c -- unit tests of how far a source is in a transaction of the log.
 * SPDX-License-Identifier: MIT */
#include "capture/stream_place.h"

#include "unit.h"

#include <string.h>

/* Changes at these LSNs come, 0 at the end. Returns how many are new; -1: one is missing. */
static int count(struct stream_place *p, const uint64_t *lsns)
{
    struct err e;
    int n = 0;

    for (; *lsns != 0; lsns++) {
        bool is_passed = false;

        if (!stream_place_count(p, *lsns, &is_passed, &e))
            return -1;
        n += !is_passed;
    }
    return n;
}

static const uint64_t all[] = { 10, 10, 10, 20, 30, 30, 0 };

/* At each place where a transaction may break off, what comes again is what is left. */
static void test_goes_on(void)
{
    for (size_t at = 0; at <= 6; at++) {
        struct stream_place p = { 0 };
        uint64_t first[7] = { 0 };
        struct err e;

        memcpy(first, all, at * sizeof *all);
        CHECK(stream_place_begin(&p, 40, &e));
        EQUAL(count(&p, first), at);
        stream_place_cut(&p);
        EQUAL(p.before.commit, at > 0 ? 40 : 0);
        CHECK(stream_place_pass(&p, 40, &e) && stream_place_pass(&p, 41, &e) == (at == 0));
        CHECK(stream_place_begin(&p, 40, &e));
        EQUAL(count(&p, (uint64_t[]){ 10, 0 }), at == 0); /* it breaks off earlier than before */
        stream_place_cut(&p);
        CHECK(stream_place_begin(&p, 40, &e));
        EQUAL(count(&p, all), at > 0 ? 6 - at : 5);
        EQUAL(stream_place_made(&p).lsn, 30);
        EQUAL(stream_place_made(&p).n, 2);
        CHECK(stream_place_end(&p, &e));
        EQUAL(p.before.commit, 0);
        CHECK(stream_place_begin(&p, 50, &e));
        EQUAL(count(&p, all), 6);
    }
}

static void test_another_log(void)
{
    struct stream_place p = { .before = { 40, 10, 2 } };
    struct err e;

    CHECK(stream_place_begin(&p, 39, &e)); /* one of other tables */
    CHECK(stream_place_end(&p, &e));
    CHECK(stream_place_begin(&p, 39, &e));
    EQUAL(count(&p, (uint64_t[]){ 8, 0 }), -1);
    CHECK(!stream_place_begin(&p, 41, &e));
    EQUAL(e.code, ERR_STATE);
    CHECK(strstr(e.msg, "commits at 0/28, of which the changes up to 0/A were delivered") != NULL);
    CHECK(stream_place_begin(&p, 40, &e));
    EQUAL(count(&p, (uint64_t[]){ 10, 20, 0 }), -1); /* there is one with that LSN, not two */
    CHECK(stream_place_begin(&p, 40, &e));
    EQUAL(count(&p, (uint64_t[]){ 9, 10, 0 }), 0);
    CHECK(!stream_place_end(&p, &e));
}

const struct unit_case stream_place_cases[] = {
    { "stream_place_goes_on", test_goes_on },
    { "stream_place_another_log", test_another_log },
    { NULL, NULL },
};
