/* chunk.c -- unit tests of a block of rows.
 * SPDX-License-Identifier: MIT */
#include "capture/message.h"

#include "unit.h"

#include <stdlib.h>
#include <string.h>

/* Columns a, b, c, d of which d and b, in this order, are the key. */
static struct rowtype *make_rowtype(void)
{
    struct rowtype *s = calloc(1, sizeof *s);

    CHECK(s != NULL);
    atomic_init(&s->refs, 1);
    s->columns = calloc(4, sizeof *s->columns);
    s->key = calloc(2, sizeof *s->key);
    CHECK(s->columns != NULL && s->key != NULL);
    s->n_columns = s->n_row = 4;
    for (size_t i = 0; i < 4; i++) {
        char name[2] = { (char)('a' + i), '\0' };

        s->columns[i].name = strdup(name);
    }
    s->key[0] = 3;
    s->key[1] = 1;
    s->n_key = 2;
    return s;
}

static void add(struct chunk *c, const char *text, uint64_t xid)
{
    struct chunk_row row = { .len = (uint32_t)strlen(text), .xid = xid };

    CHECK(chunk_add(c, &row, text));
}

static void test_rows(void)
{
    struct chunk *b = chunk_new();
    char text[32];

    CHECK(b != NULL && b->n_rows == 0);
    CHECK(strlen(b->ts) > 0 && strlen(b->ts) < sizeof b->ts);
    for (uint64_t i = 0; i < 1000; i++) {
        memset(text, 'a' + (int)(i % 26), sizeof text);
        text[i % 31] = '\0';
        add(b, text, i);
    }
    EQUAL(b->n_rows, 1000);
    for (size_t i = 0; i < 1000; i++) {
        EQUAL(b->rows[i].xid, i);
        EQUAL(b->rows[i].len, i % 31);
        for (size_t k = 0; k < b->rows[i].len; k++)
            CHECK(b->bytes[b->rows[i].start + k] == 'a' + (int)(i % 26));
    }
    chunk_free(b);
    chunk_free(NULL);
}

static void test_full(void)
{
    struct chunk *b = chunk_new();
    char *big = calloc(1, 1 << 20);
    struct chunk_row row = { .len = 1 << 20 };
    size_t n = 0;

    CHECK(b != NULL && big != NULL && !chunk_is_full(b));
    for (; !chunk_is_full(b); n++)
        add(b, "", 1);
    CHECK(n > 1 && n <= 100000); /* empty rows fill it too */
    CHECK(chunk_size(b) > n * sizeof(struct chunk_row));
    chunk_free(b);
    b = chunk_new();
    CHECK(b != NULL && chunk_add(b, &row, big) && chunk_is_full(b));
    CHECK(chunk_size(b) >= 1 << 20);
    chunk_free(b);
    free(big);
}

static void test_hashes(void)
{
    struct chunk *b = chunk_new();

    CHECK(b != NULL && chunk_add_hash(b, 1));
    add(b, "one", 1);
    CHECK(chunk_add_hash(b, UINT64_MAX));
    add(b, "", 2);
    EQUAL(chunk_hash(b, &b->rows[0]), 1);
    EQUAL(chunk_hash(b, &b->rows[1]), UINT64_MAX);
    EQUAL_TEXT(b->bytes + b->rows[0].start, b->rows[0].len, "one");
    chunk_free(b);
}

static void test_key(void)
{
    struct chunk *b = chunk_new();
    struct buf key;

    CHECK(b != NULL);
    b->rowtype = make_rowtype();
    add(b, "1\tbee\t3\tdee", 1);
    add(b, "1\t\t3\t\\N", 1);
    add(b, "too\tfew", 1);
    buf_init(&key, 1000);
    CHECK(chunk_row_key(b, &b->rows[0], &key));
    EQUAL_TEXT(key.data, key.len, "dee\tbee");
    buf_clear(&key);
    CHECK(chunk_row_key(b, &b->rows[1], &key));
    EQUAL_TEXT(key.data, key.len, "\\N\t");
    CHECK(!chunk_row_key(b, &b->rows[2], &key));
    buf_fini(&key);
    buf_init(&key, 3);
    CHECK(!chunk_row_key(b, &b->rows[0], &key));
    buf_fini(&key);
    chunk_free(b);
}

/* One like another has what belongs to all chunks of a poll, and none of its rows. */
static void test_like(void)
{
    struct rowtype *s = make_rowtype();
    struct chunk *a = chunk_new(), b;

    CHECK(a != NULL);
    a->rowtype = s;
    a->reads = 7;
    a->is_snapshot = a->begins = a->ends = true;
    a->leaf = 16384;
    a->end = 99;
    add(a, "1\t2\t3\t4", 1);
    chunk_init_like(&b, a);
    EQUAL(atomic_load(&s->refs), 2);
    CHECK(b.rowtype == s && b.reads == 7 && b.is_snapshot && b.begins && !b.is_ordered);
    CHECK(b.leaf == 16384 && b.end == 99 && b.n_rows == 0 && !b.ends && b.position == NULL);
    CHECK(strcmp(b.ts, a->ts) == 0);
    chunk_free(a);
    EQUAL(atomic_load(&s->refs), 1);
    chunk_fini(&b);
}

/* All that a chunk owns goes with it; the row type when the last one lets go. */
static void test_free(void)
{
    struct rowtype *s = make_rowtype();
    struct message *a = message_new(MESSAGE_ROWS, 0), *b = message_new(MESSAGE_TALLY, 1);

    CHECK(a != NULL && b != NULL);
    a->chunk.rowtype = s;
    b->tally.rowtype = rowtype_ref(s);
    a->chunk.position = calloc(1, sizeof *a->chunk.position);
    CHECK(a->chunk.position != NULL && xidset_add(&a->chunk.position->horizon.seen, 5));
    message_free(a);
    EQUAL(atomic_load(&s->refs), 1);
    message_free(b);
}

const struct unit_case chunk_cases[] = {
    { "chunk_rows", test_rows },
    { "chunk_full", test_full },
    { "chunk_hashes", test_hashes },
    { "chunk_key", test_key },
    { "chunk_like", test_like },
    { "chunk_free", test_free },
    { NULL, NULL },
};
