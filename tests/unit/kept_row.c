/* kept_row.c -- unit tests of a row that was delivered, and the states before its last one.
 * SPDX-License-Identifier: MIT */
#include "state/kept_row.h"

#include "unit.h"

#include <string.h>

static struct kept_row_state state(uint64_t change)
{
    return (struct kept_row_state){
        .change = change, .xid = 700 + change, .digest = UINT64_MAX - change, .reads = change % 3,
        .is_soft_deleted = change % 2 == 0, .columns = (uint32_t)change,
        .row = { "a\tb", change % 4 },
    };
}

static void check_state(const struct kept_row_state *got, uint64_t change)
{
    struct kept_row_state wanted = state(change);

    EQUAL(got->change, wanted.change);
    EQUAL(got->xid, wanted.xid);
    EQUAL(got->digest, wanted.digest);
    EQUAL(got->reads, wanted.reads);
    CHECK(got->is_soft_deleted == wanted.is_soft_deleted && !got->is_deleted);
    EQUAL(got->columns, wanted.columns);
    CHECK(got->row.len == wanted.row.len &&
          memcmp(got->row.p, wanted.row.p, wanted.row.len) == 0);
}

/* Gives the row the states of <from> to <to>; <saved> is what the position accounts for. */
static void change_row(struct kept_row *row, struct buf *older, uint64_t from, uint64_t to,
                       uint64_t saved)
{
    struct buf before;

    buf_init(&before, 10000);
    for (uint64_t change = from; change <= to; change++) {
        buf_clear(&before);
        buf_add(&before, older->data, older->len);
        row->older = (struct store_slice){ before.data, before.len };
        buf_clear(older);
        kept_row_put_older(row, saved, older);
        CHECK(buf_ok(older));
        row->now = state(change);
    }
    row->older = (struct store_slice){ older->data, older->len };
    buf_fini(&before);
}

/* Back to the newest state that is saved, and no further. */
static void test_older(void)
{
    struct kept_row row = { .id = 1, .now = state(1) };
    struct buf older;

    buf_init(&older, 10000);
    CHECK(!kept_row_step_back(&row));
    change_row(&row, &older, 2, 9, 5);
    for (uint64_t change = 8; change >= 5; change--) {
        CHECK(kept_row_step_back(&row));
        check_state(&row.now, change);
    }
    CHECK(!kept_row_step_back(&row));
    check_state(&row.now, 5);
    row.now = state(20);
    change_row(&row, &older, 21, 21, 20);
    CHECK(kept_row_step_back(&row));
    check_state(&row.now, 20);
    CHECK(!kept_row_step_back(&row));
    buf_fini(&older);
}

/* A row that was not kept is none, and not an empty one. */
static void test_no_columns(void)
{
    struct kept_row row = { .id = 1, .now = { .change = 7 } };
    struct buf older;

    buf_init(&older, 10000);
    kept_row_put_older(&row, 0, &older);
    row.older = (struct store_slice){ older.data, older.len };
    row.now = state(8);
    CHECK(kept_row_step_back(&row) && row.now.change == 7 && row.now.row.p == NULL);
    buf_fini(&older);
}

/* What is cut off gives no state. */
static void test_damaged(void)
{
    struct kept_row row = { .id = 1, .now = state(3) };
    struct buf older;

    buf_init(&older, 10000);
    kept_row_put_older(&row, 9, &older);
    for (size_t len = 0; len < older.len; len++) {
        row.now = state(4);
        row.older = (struct store_slice){ older.data, len };
        CHECK(!kept_row_step_back(&row));
        check_state(&row.now, 4);
    }
    buf_fini(&older);
}

static void test_flags(void)
{
    for (unsigned bits = 0; bits < 8; bits++) {
        struct kept_row_state s = { .reads = 5, .is_in_doubt = bits & 1, .is_deleted = bits & 2,
                                    .is_soft_deleted = bits & 4 };
        struct kept_row_state again = { 0 };

        EQUAL(kept_row_flags(&s), 5 << 3 | bits); /* files have these numbers */
        kept_row_set_flags(&again, kept_row_flags(&s));
        CHECK(again.reads == 5 && again.is_in_doubt == s.is_in_doubt &&
              again.is_deleted == s.is_deleted && again.is_soft_deleted == s.is_soft_deleted);
        kept_row_set_in_doubt(&s);
        EQUAL(kept_row_flags(&s), 5 << 3 | 1);
    }
}

const struct unit_case kept_row_cases[] = {
    { "kept_row_older", test_older },
    { "kept_row_no_columns", test_no_columns },
    { "kept_row_damaged", test_damaged },
    { "kept_row_flags", test_flags },
    { NULL, NULL },
};
