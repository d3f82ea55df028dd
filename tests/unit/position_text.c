/* position_text.c -- unit tests of positions as text: what is written is read, and nothing else.
 * SPDX-License-Identifier: MIT */
#include "capture/position_text.h"

#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const hostile[] = {
    "", " ", "a", "a b", "\t", "\n", "\\", "\\n", "\\\\n", "n\\", "\n\n", "\n\\\n\\\\",
    "\r\n", "a\tb\nc\\N\td", "\nsum 0000000000000000\n", "sum 1\n", "\xff\xfe\x01", "é ✓",
    "leaf 1 2 3 4", "\ncut_xid 7\ncut_key x", "key\nseen 1-99999\nphase 2", "  spaces  ",
    "-", "\x7f\b\v\f",
};

#define N_HOSTILE (sizeof hostile / sizeof *hostile)

static char *copy(const char *text)
{
    char *s = strdup(text);

    CHECK(s != NULL);
    return s;
}

/* A position whose fields all differ from zero and from each other. */
static struct position make(const char *text, uint64_t big)
{
    struct position p = { .phase = POSITION_SNAPSHOT, .floor_lsn = big - 1, .table = 4294967295u,
                          .rows = big - 2 };
    struct identity *id = &p.identity;

    p.horizon.floor = big;
    for (uint64_t x = 5; x < 40; x += x % 3 + 1)
        CHECK(xidset_add(&p.horizon.seen, big - x));
    snprintf(id->system, sizeof id->system, "7564321098765432109");
    snprintf(id->started, sizeof id->started, "2026-11-23 00:50:57.7219+00");
    snprintf(id->stats, sizeof id->stats, "-");
    id->database = 16384;
    id->timeline = 3;
    id->in_recovery = true;
    id->xmax = big - 3;
    id->lsn = big - 4;
    id->durable_xmax = big - 5;
    id->durable_lsn = big - 6;
    p.increment.column = copy(text);
    p.increment.growth = 4;
    p.increment.since = big - 8;
    p.increment.base = INT64_MIN + 1;
    p.increment.rechecked_ms = 1795817285123;
    p.increment.is_rechecking = true;
    CHECK(increment_add_first(&p.increment.firsts, big - 9, INT64_MIN, INT64_MAX));
    CHECK(increment_add_first(&p.increment.firsts, big - 10, -5, 6));
    CHECK(increment_add_stretch(&p.increment, big - 11, -7));
    CHECK(increment_add_rung(&p.increment, big - 12, 8));
    p.pages.is_used = p.pages.has_top = true;
    p.pages.reached_key = copy(text);
    p.pages.reached = -11;
    p.pages.xmax = big - 13;
    p.pages.top = 12;
    CHECK(pages_rows_add(&p.pages.given, UINT64_MAX - 1, -13));
    CHECK(pages_rows_add(&p.pages.given, 5, INT64_MAX));
    p.logical.slot = copy(text);
    CHECK(logical_begin(&p.logical, big - 14, "748:757:748,752", big - 13, big - 15));
    p.logical.inside = (struct logical_inside){ big - 14, big - 16, big - 17 };
    p.signature = copy(text);
    p.columns = copy(text);
    p.declared = copy(text);
    CHECK(position_set_leaves(&p, 2));
    p.leaves[0] = (struct position_leaf){ 1, 2, 3, 4, 0 };
    p.leaves[1] = (struct position_leaf){ 4294967295u, 4294967294u, 4294967293u, 4294967292u,
                                             18446744073709551615u };
    CHECK(position_add_resume_point(&p, &(struct position_last){
        .xid = big - 7, .is_tombstone = false, .key = text, .len = strlen(text) }));
    CHECK(position_add_resume_point(&p, &(struct position_last){
        .xid = 12, .is_tombstone = true, .key = "x\ty", .len = 3 }));
    CHECK(position_add_resume_point(&p, &(struct position_last){
        .xid = 13, .is_tombstone = true, .order = ROW_ORDER_BY_BYTES, .key = text,
        .len = strlen(text) }));
    CHECK(position_add_resume_point(&p, &(struct position_last){
        .xid = 14, .order = ROW_ORDER_BY_FINGERPRINT, .fingerprint = INT64_MIN,
        .n = big - 1, .scope = UINT64_MAX - 1 }));
    p.done.leaf = 77;
    p.done.end = 4294967291u;
    p.done.keys = copy(text);
    return p;
}

static char *write(const struct position *p, const char *source)
{
    struct buf b;
    char *text;

    buf_init(&b, SIZE_MAX / 2);
    position_text_write(p, source, &b);
    CHECK(buf_ok(&b));
    text = buf_take(&b);
    buf_fini(&b);
    return text;
}

static void check_same_increment(const struct increment *a, const struct increment *b)
{
    CHECK(strcmp(a->column, b->column) == 0 && a->growth == b->growth && a->since == b->since);
    CHECK(a->base == b->base && a->rechecked_ms == b->rechecked_ms);
    CHECK(a->is_rechecking == b->is_rechecking && a->firsts.n == b->firsts.n);
    for (size_t i = 0; i < a->firsts.n; i++)
        CHECK(a->firsts.v[i].xid == b->firsts.v[i].xid &&
              a->firsts.v[i].base == b->firsts.v[i].base &&
              a->firsts.v[i].least == b->firsts.v[i].least);
    CHECK(a->n_stretches == 1 && b->n_stretches == 1 && a->n_rungs == 1 && b->n_rungs == 1);
    CHECK(a->stretches[0].below == b->stretches[0].below);
    CHECK(a->stretches[0].base == b->stretches[0].base);
    CHECK(a->rungs[0].xmax == b->rungs[0].xmax && a->rungs[0].top == b->rungs[0].top);
}

static void check_same_pages(const struct pages *a, const struct pages *b)
{
    CHECK(a->is_used == b->is_used && a->is_silent == b->is_silent && a->has_top == b->has_top);
    CHECK(strcmp(a->reached_key, b->reached_key) == 0 && a->reached == b->reached);
    CHECK(a->xmax == b->xmax && a->top == b->top && a->given.n == 2 && b->given.n == 2);
    for (size_t i = 0; i < 2; i++)
        CHECK(a->given.v[i].hash == b->given.v[i].hash &&
              a->given.v[i].value == b->given.v[i].value);
}

static void check_same(const struct position *a, const struct position *b)
{
    CHECK((a->increment.column == NULL) == (b->increment.column == NULL));
    if (a->increment.column != NULL)
        check_same_increment(&a->increment, &b->increment);
    CHECK(a->logical.lsn == b->logical.lsn && a->logical.until == b->logical.until);
    EQUAL(a->logical.published, b->logical.published);
    CHECK(a->logical.inside.commit == b->logical.inside.commit &&
          a->logical.inside.lsn == b->logical.inside.lsn &&
          a->logical.inside.n == b->logical.inside.n);
    if (a->logical.lsn != 0)
        CHECK(strcmp(a->logical.slot, b->logical.slot) == 0 &&
              strcmp(a->logical.shown, b->logical.shown) == 0);
    CHECK(a->pages.is_used == b->pages.is_used);
    if (a->pages.is_used)
        check_same_pages(&a->pages, &b->pages);
    CHECK(a->phase == b->phase);
    EQUAL(a->horizon.floor, b->horizon.floor);
    EQUAL(a->floor_lsn, b->floor_lsn);
    EQUAL(a->horizon.seen.n, b->horizon.seen.n);
    for (size_t i = 0; i < a->horizon.seen.n; i++)
        EQUAL(a->horizon.seen.v[i], b->horizon.seen.v[i]);
    CHECK(strcmp(a->identity.system, b->identity.system) == 0);
    CHECK(strcmp(a->identity.started, b->identity.started) == 0);
    CHECK(strcmp(a->identity.stats, b->identity.stats) == 0);
    EQUAL(a->identity.database, b->identity.database);
    EQUAL(a->identity.timeline, b->identity.timeline);
    CHECK(a->identity.in_recovery == b->identity.in_recovery);
    EQUAL(a->identity.xmax, b->identity.xmax);
    EQUAL(a->identity.lsn, b->identity.lsn);
    EQUAL(a->identity.durable_xmax, b->identity.durable_xmax);
    EQUAL(a->identity.durable_lsn, b->identity.durable_lsn);
    EQUAL(a->table, b->table);
    EQUAL(a->rows, b->rows);
    CHECK((a->signature == NULL) == (b->signature == NULL));
    CHECK(a->signature == NULL || strcmp(a->signature, b->signature) == 0);
    CHECK((a->columns == NULL) == (b->columns == NULL));
    CHECK(a->columns == NULL || strcmp(a->columns, b->columns) == 0);
    CHECK((a->declared == NULL) == (b->declared == NULL));
    CHECK(a->declared == NULL || strcmp(a->declared, b->declared) == 0);
    EQUAL(a->n_leaves, b->n_leaves);
    for (size_t i = 0; i < a->n_leaves; i++)
        CHECK(a->leaves[i].oid == b->leaves[i].oid && a->leaves[i].next == b->leaves[i].next &&
              a->leaves[i].filenode == b->leaves[i].filenode &&
              a->leaves[i].blocks == b->leaves[i].blocks);
    EQUAL(a->n_resume_points, b->n_resume_points);
    for (size_t i = 0; i < a->n_resume_points; i++)
        CHECK(a->resume_points[i].xid == b->resume_points[i].xid &&
              a->resume_points[i].is_tombstone == b->resume_points[i].is_tombstone &&
              a->resume_points[i].order == b->resume_points[i].order &&
              a->resume_points[i].fingerprint == b->resume_points[i].fingerprint &&
              a->resume_points[i].n == b->resume_points[i].n &&
              a->resume_points[i].scope == b->resume_points[i].scope &&
              (a->resume_points[i].key == NULL) == (b->resume_points[i].key == NULL) &&
              (a->resume_points[i].key == NULL ||
               strcmp(a->resume_points[i].key, b->resume_points[i].key) == 0));
    EQUAL(a->done.leaf, b->done.leaf);
    EQUAL(a->done.end, b->done.end);
    CHECK((a->done.keys == NULL) == (b->done.keys == NULL));
    CHECK(a->done.keys == NULL || strcmp(a->done.keys, b->done.keys) == 0);
}

static void check_round_trip(struct position *p, const char *source)
{
    struct position back;
    char *text = write(p, source), *again;

    CHECK(position_text_read(&back, source, text));
    check_same(p, &back);
    again = write(&back, source);
    CHECK(strcmp(text, again) == 0);
    free(again);
    free(text);
    position_fini(&back);
    position_fini(p);
}

static void test_round_trip(void)
{
    const uint64_t bigs[] = { 100, (uint64_t)1 << 32, UINT64_MAX / 2, UINT64_MAX };

    for (size_t i = 0; i < N_HOSTILE; i++)
        for (size_t k = 0; k < sizeof bigs / sizeof *bigs; k++) {
            struct position p = make(hostile[i], bigs[k]);

            check_round_trip(&p, hostile[N_HOSTILE - 1 - i]);
        }
}

/* What was stored by an earlier version is read, and written alike. */
static void test_stored_tombstone(void)
{
    struct position p = { .phase = POSITION_POLL };
    char *text;

    p.stamps = (struct position_stamps){ true, 44, 55 };
    CHECK(position_add_resume_point(&p, &(struct position_last){
        .xid = 77, .is_tombstone = true, .key = "1\ta\\\\b", .len = 6 }));
    CHECK(position_add_resume_point(&p, &(struct position_last){
        .xid = 78, .is_tombstone = false, .key = "d2", .len = 2 }));
    text = write(&p, "s");
    CHECK(strstr(text, "\nstamped_since 44\ngone_floor 55\n") != NULL);
    CHECK(strstr(text, "\ncut_xid 77\ncut_key \\\\d1\ta\\\\\\\\b\n") != NULL);
    CHECK(strstr(text, "\ncut_xid 78\ncut_key d2\n") != NULL);
    free(text);
    check_round_trip(&p, "s");
}

/* What is missing stays missing: NULL is not an empty text. */
static void test_sparse(void)
{
    struct position p = { .phase = POSITION_POLL };

    check_round_trip(&p, "s");
    p = (struct position){ .phase = POSITION_POLL };
    for (uint64_t x = 3; x < 2000; x += 2)
        CHECK(xidset_add(&p.horizon.seen, x));
    check_round_trip(&p, "s");
    p = (struct position){ .phase = POSITION_SNAPSHOT };
    p.done.keys = copy("");
    p.signature = copy("");
    check_round_trip(&p, "");
}

/* Random texts of the bytes that matter. */
static void test_random_texts(void)
{
    uint64_t seed = 7;

    for (int i = 0; i < 3000; i++) {
        char text[24];
        size_t n = unit_random(&seed) % sizeof text;

        for (size_t k = 0; k < n; k++)
            text[k] = "\n\\n\t \x01s"[unit_random(&seed) % 7];
        text[n == sizeof text ? n - 1 : n] = '\0';
        struct position p = make(text, 1000);

        check_round_trip(&p, text);
    }
}

static void check_refused(const char *source, const char *text)
{
    struct position p;

    CHECK(!position_text_read(&p, source, text));
    CHECK(p.phase == POSITION_NONE && p.signature == NULL && p.columns == NULL &&
          p.leaves == NULL &&
          p.resume_points == NULL && p.done.keys == NULL && p.horizon.seen.n == 0);
}

/* Each flipped bit, each truncation, each byte that is one too many, another source's name. */
static void test_damage(void)
{
    struct position p = make("id\tint8\nname \\\ttext\n", 100000);
    char *text = write(&p, "public.t"), *more;
    size_t len = strlen(text);

    for (size_t i = 0; i < len; i++)
        for (int bit = 0; bit < 8; bit++) {
            text[i] ^= (char)(1 << bit);
            check_refused("public.t", text);
            text[i] ^= (char)(1 << bit);
        }
    for (size_t i = 0; i < len; i++) {
        char c = text[i];

        text[i] = '\0';
        check_refused("public.t", text);
        text[i] = c;
    }
    more = malloc(len + 2);
    CHECK(more != NULL);
    for (size_t i = 0; i <= len; i++) {
        memcpy(more, text, i);
        memcpy(more + i + 1, text + i, len - i + 1);
        for (const char *c = "0 \n\\a"; *c != '\0'; c++) {
            more[i] = *c;
            check_refused("public.t", more);
        }
    }
    free(more);
    for (size_t i = 0; i < N_HOSTILE; i++)
        check_refused(hostile[i], text);
    check_refused("public.", text);
    check_refused("public.tt", text);
    check_refused("Public.t", text);
    position_fini(&p);
    CHECK(position_text_read(&p, "public.t", text)); /* unharmed, it reads */
    position_fini(&p);
    free(text);
}

/* Texts that were never a position. */
static void test_rubbish(void)
{
    static const char *const rubbish[] = {
        "", "\n", "sum", "\nsum ", "\nsum \n", "\nsum 0\n", "phase 2\n", "phase 2\nsum 0\n",
        "phase 2\nsum 0000000000000000\n", "sum cbf29ce484222325\n", "\nsum cbf29ce484222325\n",
    };

    for (size_t i = 0; i < sizeof rubbish / sizeof *rubbish; i++)
        check_refused("", rubbish[i]);
    for (size_t i = 0; i < N_HOSTILE; i++)
        check_refused("t", hostile[i]);
}

const struct unit_case position_text_cases[] = {
    { "position_text_round_trip", test_round_trip },
    { "position_text_sparse", test_sparse },
    { "position_text_stored_tombstone", test_stored_tombstone },
    { "position_text_random_texts", test_random_texts },
    { "position_text_damage", test_damage },
    { "position_text_rubbish", test_rubbish },
    { NULL, NULL },
};
