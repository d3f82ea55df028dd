/* position.c -- unit tests of positions: copies, resume_points, leaves.
 * SPDX-License-Identifier: MIT */
#include "capture/position.h"

#include "unit.h"

#include <stdlib.h>
#include <string.h>

static void end_early(struct position *p, const uint64_t *xids, uint64_t xid, const char *key)
{
    struct xidset delivered = { 0 };

    for (; *xids != 0; xids++)
        CHECK(xidset_add(&delivered, *xids));
    CHECK(position_end_early(p, &delivered,
                             &(struct position_last){ .xid = xid, .key = key,
                                                      .len = strlen(key) }));
    xidset_fini(&delivered);
}

static const char *resume_key(const struct position *p, uint64_t xid)
{
    for (size_t i = 0; i < p->n_resume_points; i++)
        if (p->resume_points[i].xid == xid)
            return p->resume_points[i].key;
    return NULL;
}

static void test_copy(void)
{
    struct position p = { .phase = POSITION_SNAPSHOT, .floor_lsn = 7, .rows = 9 }, copy,
        empty = { 0 };

    p.signature = strdup("a int\n");
    p.columns = strdup("1\t0\ta\tint\t\n");
    CHECK(p.signature != NULL && p.columns != NULL && position_set_leaves(&p, 2));
    p.leaves[1] = (struct position_leaf){ .oid = 5, .blocks = 10, .next = 4 };
    CHECK(xidset_add(&p.horizon.seen, 77));
    CHECK(position_add_resume_point(&p, &(struct position_last){
        .xid = 88, .is_tombstone = true, .key = "x\ty", .len = 3 }));
    CHECK(position_copy(&copy, &p));
    position_fini(&p);
    CHECK(p.phase == POSITION_NONE && p.leaves == NULL && p.resume_points == NULL &&
          p.n_resume_points == 0);
    CHECK(copy.phase == POSITION_SNAPSHOT && copy.floor_lsn == 7 && copy.rows == 9);
    EQUAL_TEXT(copy.signature, strlen(copy.signature), "a int\n");
    EQUAL_TEXT(copy.columns, strlen(copy.columns), "1\t0\ta\tint\t\n");
    CHECK(copy.n_leaves == 2 && copy.leaves[0].oid == 0 && copy.leaves[1].next == 4);
    CHECK(xidset_has(&copy.horizon.seen, 77));
    EQUAL_TEXT(resume_key(&copy, 88), strlen(resume_key(&copy, 88)), "x\ty");
    CHECK(copy.resume_points[0].is_tombstone);
    position_fini(&copy);
    CHECK(position_copy(&copy, &empty) && copy.n_leaves == 0 && copy.signature == NULL);
    position_fini(&copy);
}

static void test_leaves(void)
{
    struct position p = { 0 };
    uint64_t done, total;

    position_progress(&p, &done, &total);
    CHECK(done == 0 && total == 0 && position_leaf(&p, 1) == NULL);
    CHECK(position_set_leaves(&p, 3));
    p.leaves[0] = (struct position_leaf){ .oid = 1, .blocks = 10, .next = 10 };
    p.leaves[1] = (struct position_leaf){ .oid = 2, .blocks = 5, .next = 9 }; /* shrunk meanwhile */
    p.leaves[2] = (struct position_leaf){ .oid = 3, .blocks = 4000000000u, .next = 3000000000u };
    position_progress(&p, &done, &total);
    CHECK(done == 3000000015u && total == 4000000015u);
    CHECK(position_leaf(&p, 3) == &p.leaves[2] && position_leaf(&p, 4) == NULL);
    CHECK(position_set_leaves(&p, 0) && p.n_leaves == 0);
    position_fini(&p);
}

/* What is below the resume point is done, what is at it up to its key. */
static void test_end_early(void)
{
    struct position p = { .horizon.floor = 100 };

    end_early(&p, (uint64_t[]){ 100, 102, 105, 0 }, 105, "k1");
    CHECK(xidset_has(&p.horizon.seen, 100) && xidset_has(&p.horizon.seen, 102));
    CHECK(!xidset_has(&p.horizon.seen, 105) && p.n_resume_points == 1);
    EQUAL_TEXT(resume_key(&p, 105), strlen(resume_key(&p, 105)), "k1");
    position_fini(&p);
}

/* A second resume point, of another xid, once forgot what the first had delivered. */
static void test_end_early_again(void)
{
    struct position p = { .horizon.floor = 100 };
    struct xidset delivered = { 0 };

    end_early(&p, (uint64_t[]){ 105, 0 }, 105, "k1");
    end_early(&p, (uint64_t[]){ 105, 0 }, 105, "k2"); /* farther in the same */
    CHECK(p.n_resume_points == 1 && strcmp(resume_key(&p, 105), "k2") == 0);
    end_early(&p, (uint64_t[]){ 103, 0 }, 103, "k3"); /* an older one committed meanwhile */
    CHECK(p.n_resume_points == 2 && strcmp(resume_key(&p, 103), "k3") == 0);
    CHECK(strcmp(resume_key(&p, 105), "k2") == 0);
    CHECK(!xidset_has(&p.horizon.seen, 103) && !xidset_has(&p.horizon.seen, 105));
    end_early(&p, (uint64_t[]){ 107, 0 }, 107, "k4"); /* past both, no row of them was left */
    CHECK(p.n_resume_points == 1 && strcmp(resume_key(&p, 107), "k4") == 0);
    CHECK(xidset_has(&p.horizon.seen, 103) && xidset_has(&p.horizon.seen, 105));
    end_early(&p, (uint64_t[]){ 104, 0 }, 104, "k5");
    CHECK(xidset_add(&delivered, 109) && position_take_resume_points(&p, &delivered));
    CHECK(p.n_resume_points == 0 && delivered.n == 3 && xidset_has(&delivered, 104));
    CHECK(xidset_has(&delivered, 107) && xidset_has(&delivered, 109));
    xidset_fini(&delivered);
    position_forget_resume_points(&p);
    position_fini(&p);
}

/* The order of rows is another one since the key is not unique any more: both points hold. */
static void test_resume_in_another_order(void)
{
    struct position p = { .horizon.floor = 100 };
    struct xidset delivered = { 0 };
    struct position_last last = {
        .xid = 105, .order = ROW_ORDER_BY_FINGERPRINT, .fingerprint = -7, .n = 2, .scope = 9,
    };
    size_t n;

    CHECK(position_add_resume_point(&p, &(struct position_last){ .xid = 105, .key = "k",
                                                                 .len = 1 }));
    CHECK(xidset_add(&delivered, 105) && position_end_early(&p, &delivered, &last));
    CHECK(p.n_resume_points == 2 && !xidset_has(&p.horizon.seen, 105));
    last.n = 3; /* farther in the same order */
    CHECK(position_end_early(&p, &delivered, &last));
    CHECK(p.n_resume_points == 2 && p.resume_points[1].n == 3);
    position_forget_other_scopes(&p, 9, &n);
    EQUAL(n, 0);
    position_forget_other_scopes(&p, 8, &n);
    CHECK(n == 1 && p.n_resume_points == 1 && p.resume_points[0].key != NULL);
    xidset_fini(&delivered);
    position_fini(&p);
}

const struct unit_case position_cases[] = {
    { "position_copy", test_copy },
    { "position_leaves", test_leaves },
    { "position_end_early", test_end_early },
    { "position_end_early_again", test_end_early_again },
    { "position_resume_in_another_order", test_resume_in_another_order },
    { NULL, NULL },
};
