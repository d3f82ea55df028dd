/* hints.c -- unit tests of the rule of hints.
 * SPDX-License-Identifier: MIT */
#include "unit.h"

#include "capture/hints.h"

#define EPOCH ((uint64_t)1 << 32)

/* N is the next xid, wherever 32 bits wrap. */
static void test_next_xid(void)
{
    CHECK(hints_next_xid(1000, 1002 - 3) == 1002);
    CHECK(hints_next_xid(1000, 1000 - 3) == 1000);
    CHECK(hints_next_xid(EPOCH - 1, 4 - 3) == EPOCH + 4);
    CHECK(hints_next_xid(3 * EPOCH + 7, 9 - 3) == 3 * EPOCH + 9);
    CHECK(hints_next_xid(0x90000000, (int32_t)(0x90000005 - 3)) == 0x90000005);
}

/* Xids of the WAL may lie before the floor and after it. */
static void test_widen(void)
{
    CHECK(hints_widen(1005, 1000) == 1005);
    CHECK(hints_widen(995, 1000) == 995);
    CHECK(hints_widen(5, 2 * EPOCH - 5) == 2 * EPOCH + 5);
    CHECK(hints_widen(0xfffffff0, 2 * EPOCH + 5) == 2 * EPOCH - 16);
    CHECK(hints_widen(0xfffffff0, 5) == 0); /* before the first one */
}

static bool has_range(const struct hints *h, size_t i, uint32_t filenode, uint32_t block,
                      uint32_t end)
{
    return i < h->n_ranges && h->ranges[i].filenode == filenode && h->ranges[i].block == block &&
           h->ranges[i].end == end;
}

/* Blocks of xids that are done are not read; blocks beside each other are one range. */
static void test_plan(void)
{
    struct hints h = { 0 };
    struct horizon horizon = { .floor = 100 };
    uint64_t blocks, xid = 0, lsn = 0;
    const struct hints_pair pairs[] = {
        { 100, 7, 5 }, { 101, 7, 4 }, { 99, 7, 90 }, { 103, 6, 9 }, { 103, 7, 5 }, { 105, 7, 8 },
        { 105, 7, 8 }, { 104, 7, 50 },
    };

    CHECK(xidset_add(&horizon.seen, 104));
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        CHECK(hints_add(&h, pairs[i].xid, pairs[i].filenode, pairs[i].block));
    CHECK(hints_plan(&h, &horizon, &blocks) && blocks == 4 && h.n_ranges == 3);
    CHECK(has_range(&h, 0, 6, 9, 10) && has_range(&h, 1, 7, 4, 6) && has_range(&h, 2, 7, 8, 9));
    CHECK(h.n_pairs == 5);
    horizon.floor = 105;
    hints_forget(&h, &horizon, &xid, &lsn);
    CHECK(h.n_pairs == 1 && xid == 0);
    hints_fini(&h);
    horizon_fini(&horizon);
}

/* A note is kept once nothing is left that is older; then a younger one. */
static void test_notes(void)
{
    struct hints h = { 0 };
    struct horizon horizon = { .floor = 9 };
    const struct identity server = { .system = "1", .timeline = 1 };
    struct identity other = server;
    uint64_t xid = 0, lsn = 0;
    bool is_other;

    hints_begin_note(&h, 500, &server);
    hints_end_note(&h, 10);
    CHECK(h.read_to == 500 && !hints_is_armed(&h, &horizon));
    hints_forget(&h, &horizon, &xid, &lsn);
    CHECK(xid == 0);
    horizon.floor = 10;
    CHECK(hints_is_armed(&h, &horizon));
    hints_forget(&h, &horizon, &xid, &lsn);
    CHECK(xid == 10 && lsn == 500);
    h.next_xid = 20;
    h.next_lsn = 900;
    hints_forget(&h, &horizon, &xid, &lsn);
    CHECK(xid == 10);
    horizon.floor = 21;
    hints_forget(&h, &horizon, &xid, &lsn);
    CHECK(xid == 20 && lsn == 900 && h.next_xid == 0);
    hints_forget(&h, &horizon, &xid, &lsn);
    CHECK(xid == 20);
    CHECK(hints_is_of(&h, &other, &is_other) && !is_other);
    other.started[0] = '2';
    CHECK(!hints_is_of(&h, &other, &is_other) && !is_other);
    other = server;
    other.timeline = 2;
    CHECK(!hints_is_of(&h, &other, &is_other) && is_other);
    hints_fini(&h);
}

/* E of a standby is not what the facts say. */
static void test_end(void)
{
    struct identity now = { .lsn = 70, .flush_lsn = 60 };

    CHECK(hints_end(&now, 65) == 70);
    now.in_recovery = true;
    CHECK(hints_end(&now, 65) == 65);
}

/* Only a table whose leaves are all in the note, with these files, is read by it. */
static void test_leaves(void)
{
    struct hints h = { 0 };
    struct relation_leaf leaves[] = { { .oid = 1, .filenode = 11 }, { .oid = 2, .filenode = 12 } };
    const struct relation t = { .leaves = leaves, .n_leaves = 2 };

    CHECK(hints_add_leaf(&h, 2, 12) && !hints_has_leaves(&h, &t));
    CHECK(hints_add_leaf(&h, 1, 11) && hints_has_leaves(&h, &t));
    leaves[0].filenode = 13;
    CHECK(!hints_has_leaves(&h, &t));
    CHECK(hints_must_wait(9, 10) && !hints_must_wait(10, 10));
    hints_fini(&h);
}

const struct unit_case hints_cases[] = {
    { "hints_next_xid", test_next_xid },
    { "hints_widen", test_widen },
    { "hints_plan", test_plan },
    { "hints_notes", test_notes },
    { "hints_end", test_end },
    { "hints_leaves", test_leaves },
    { NULL, NULL },
};
