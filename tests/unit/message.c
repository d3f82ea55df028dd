/* message.c -- unit tests of what travels from a reader to the host.
 * SPDX-License-Identifier: MIT */
#include "capture/message.h"

#include "unit.h"

#include <stdlib.h>
#include <string.h>

/* Columns a, b, c, d of which d and b, in this order, are the key. */
static struct rowtype *make_shape(void)
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

static void add(struct message *b, const char *text, uint64_t xid)
{
    struct row row = { .len = (uint32_t)strlen(text), .xid = xid };

    CHECK(message_add(b, &row, text));
}

static void test_rows(void)
{
    struct message *b = message_new(MESSAGE_ROWS, 3);
    char text[32];

    CHECK(b != NULL && b->source == 3 && b->retry_ms < 0 && b->n_rows == 0);
    CHECK(strlen(b->ts) > 0 && strlen(b->ts) < sizeof b->ts && message_of(&b->item) == b);
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
    message_free(b);
    message_free(NULL);
}

static void test_full(void)
{
    struct message *b = message_new(MESSAGE_ROWS, 0);
    struct queue_lane lane = { 0 };
    char *big = calloc(1, 1 << 20);
    struct row row = { .len = 1 << 20 };
    size_t n = 0;

    CHECK(b != NULL && big != NULL && !message_is_full(b));
    for (; !message_is_full(b); n++)
        add(b, "", 1);
    CHECK(n > 1 && n <= 100000); /* empty rows fill it too */
    message_seal(b, &lane);
    CHECK(b->item.lane == &lane && b->item.bytes > n * sizeof(struct row));
    message_free(b);
    b = message_new(MESSAGE_ROWS, 0);
    CHECK(b != NULL && message_add(b, &row, big) && message_is_full(b));
    message_seal(b, &lane);
    CHECK(b->item.bytes >= 1 << 20);
    message_free(b);
    b = message_new(MESSAGE_NOTICE, 0);
    CHECK(b != NULL);
    message_seal(b, &lane);
    EQUAL(b->item.bytes, 0); /* words always find room */
    message_free(b);
    free(big);
}

static void test_key(void)
{
    struct message *b = message_new(MESSAGE_ROWS, 0);
    struct buf key;

    CHECK(b != NULL);
    b->rowtype = make_shape();
    add(b, "1\tbee\t3\tdee", 1);
    add(b, "1\t\t3\t\\N", 1);
    add(b, "too\tfew", 1);
    buf_init(&key, 1000);
    CHECK(message_row_key(b, &b->rows[0], &key));
    EQUAL_TEXT(key.data, key.len, "dee\tbee");
    buf_clear(&key);
    CHECK(message_row_key(b, &b->rows[1], &key));
    EQUAL_TEXT(key.data, key.len, "\\N\t");
    CHECK(!message_row_key(b, &b->rows[2], &key));
    buf_fini(&key);
    buf_init(&key, 3);
    CHECK(!message_row_key(b, &b->rows[0], &key));
    buf_fini(&key);
    message_free(b);
}

/* All that a batch owns goes with it; the shape when the last one lets go. */
static void test_free(void)
{
    struct rowtype *s = make_shape();
    struct message *a = message_new(MESSAGE_ROWS, 0), *b = message_new(MESSAGE_SCHEMA, 1);

    CHECK(a != NULL && b != NULL);
    a->rowtype = s;
    b->rowtype = rowtype_ref(s);
    a->position = calloc(1, sizeof *a->position);
    CHECK(a->position != NULL && xidset_add(&a->position->horizon.seen, 5));
    b->old_signature = strdup("old");
    b->new_signature = strdup("new");
    b->text = strdup("text");
    message_free(a);
    EQUAL(atomic_load(&s->refs), 1);
    message_free(b);
}

const struct unit_case message_cases[] = {
    { "message_rows", test_rows },
    { "message_full", test_full },
    { "message_key", test_key },
    { "message_free", test_free },
    { NULL, NULL },
};
