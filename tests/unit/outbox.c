/* outbox.c -- unit tests of the way of a step's messages to the queue.
 * SPDX-License-Identifier: MIT */
#include "capture/outbox.h"

#include "unit.h"

#include <stdlib.h>
#include <string.h>

enum { CHUNKS = 70, BYTES = 256 << 10 }; /* more than an outbox keeps in memory */

static const char *folder(void)
{
    const char *tmp = getenv("TMPDIR");

    return tmp != NULL && *tmp != '\0' ? tmp : "/tmp";
}

static struct message *make_rows(size_t i, bool ends)
{
    struct message *m = message_new(MESSAGE_ROWS, 5);
    struct chunk_row row = { .len = BYTES, .xid = i, .op = OP_UPSERT };
    char *bytes = malloc(BYTES);

    CHECK(m != NULL && bytes != NULL);
    memset(bytes, 'a' + (int)(i % 26), BYTES);
    CHECK(chunk_add(&m->chunk, &row, bytes));
    m->chunk.begins = i == 0;
    m->chunk.ends = ends;
    m->chunk.is_ordered = true;
    m->chunk.reads = 3;
    free(bytes);
    return m;
}

static void check_rows(struct queue *q, size_t i, bool ends)
{
    struct queue_item *item = queue_take(q);
    struct message *m;

    CHECK(item != NULL);
    m = message_of(item);
    CHECK(m->kind == MESSAGE_ROWS && m->source == 5 && m->chunk.n_rows == 1);
    CHECK(m->chunk.begins == (i == 0) && m->chunk.ends == ends);
    CHECK(m->chunk.is_ordered && m->chunk.reads == 3);
    EQUAL(m->chunk.rows[0].xid, i);
    EQUAL(m->chunk.rows[0].len, BYTES);
    CHECK(m->chunk.bytes[m->chunk.rows[0].start] == 'a' + (int)(i % 26));
    CHECK(m->chunk.bytes[m->chunk.rows[0].start + BYTES - 1] == 'a' + (int)(i % 26));
    queue_done(q, item);
    message_free(m);
}

/* What is held, or finds no room, comes in its order, news after the rows that went before. */
static void run_step(size_t queue_bytes, bool is_held)
{
    struct err e = { 0 };
    struct queue *q = queue_new(queue_bytes, &e);
    struct queue_lane lane = { 0 };
    struct outbox o;
    struct queue_item *item;
    size_t taken = 0;

    CHECK(q != NULL);
    outbox_init(&o, q, &lane, folder(), OUTBOX_BYTES, is_held);
    CHECK(outbox_put(&o, message_new(MESSAGE_NOTICE, 5), &e)); /* at once */
    item = queue_take(q);
    CHECK(item != NULL && message_of(item)->kind == MESSAGE_NOTICE);
    queue_done(q, item);
    message_free(message_of(item));
    for (size_t i = 0; i < CHUNKS; i++)
        CHECK(outbox_put(&o, make_rows(i, i + 1 == CHUNKS), &e));
    CHECK(outbox_put(&o, message_new(MESSAGE_READY, 5), &e));
    CHECK(o.spool != NULL);
    while (!is_held && taken < CHUNKS && !queue_lane_is_empty(q, &lane))
        check_rows(q, taken++, false);
    queue_free(q);
    o.queue = q = queue_new(SIZE_MAX / 2, &e); /* a flush waits for room */
    CHECK(q != NULL && (is_held ? taken == 0 : taken > 0));
    CHECK(outbox_flush(&o, &e));
    for (; taken < CHUNKS; taken++)
        check_rows(q, taken, taken + 1 == CHUNKS);
    item = queue_take(q);
    CHECK(item != NULL && message_of(item)->kind == MESSAGE_READY && queue_take(q) == NULL);
    queue_done(q, item);
    message_free(message_of(item));
    outbox_fini(&o);
    queue_free(q);
}

static void test_held(void)
{
    run_step(SIZE_MAX / 2, true);
}

static void test_full(void)
{
    run_step((size_t)1 << 20, false);
}

/* What finds no room waits in the spool no longer than until there is room, and keeps its place. */
static void test_drained(void)
{
    struct err e = { 0 };
    struct queue *q = queue_new((size_t)1 << 20, &e);
    struct queue_lane lane = { 0 };
    struct outbox o;
    size_t taken = 0, put = 0;

    CHECK(q != NULL);
    outbox_init(&o, q, &lane, folder(), OUTBOX_BYTES, false);
    for (size_t round = 0; round < 5; round++) {
        for (size_t end = put + 8; put < end; put++)
            CHECK(outbox_put(&o, make_rows(put, false), &e));
        CHECK(outbox_spooled(&o) > 0);
        while (taken < put - 1) { /* the last one may be in the spool until the next one comes */
            CHECK(!queue_lane_is_empty(q, &lane));
            while (!queue_lane_is_empty(q, &lane))
                check_rows(q, taken++, false);
            CHECK(outbox_put(&o, make_rows(put++, false), &e));
        }
    }
    CHECK(taken > 30);
    CHECK(outbox_put(&o, make_rows(put++, true), &e));
    while (!queue_lane_is_empty(q, &lane))
        check_rows(q, taken++, false);
    CHECK(outbox_flush(&o, &e) && outbox_spooled(&o) == 0);
    while (taken < put) {
        check_rows(q, taken, taken + 1 == put);
        taken++;
    }
    CHECK(queue_take(q) == NULL);
    outbox_fini(&o);
    queue_free(q);
}

/* A step that failed: what was not sent is freed. */
static void test_dropped(void)
{
    struct err e = { 0 };
    struct queue *q = queue_new(SIZE_MAX / 2, &e);
    struct queue_lane lane = { 0 };
    struct outbox o;

    CHECK(q != NULL);
    outbox_init(&o, q, &lane, folder(), OUTBOX_BYTES, true);
    for (size_t i = 0; i < CHUNKS; i++)
        CHECK(outbox_put(&o, make_rows(i, i + 1 == CHUNKS), &e));
    outbox_fini(&o);
    CHECK(queue_take(q) == NULL);
    queue_close(q);
    CHECK(!outbox_put(&o, message_new(MESSAGE_READY, 5), &e) && e.code == ERR_STOPPED);
    outbox_fini(&o);
    queue_free(q);
}

/* News has no chunk. The text of a notice was once read as the end of one, so that the notice took
 * the place of the chunk that ends the step. */
static void test_news(void)
{
    struct err e = { 0 };
    struct queue *q = queue_new(SIZE_MAX / 2, &e);
    struct queue_lane lane = { 0 };
    struct message *notice = message_new(MESSAGE_NOTICE, 5);
    struct outbox o;

    CHECK(q != NULL && notice != NULL);
    outbox_init(&o, q, &lane, folder(), OUTBOX_BYTES, true);
    for (size_t i = 0; i + 1 < CHUNKS; i++)
        CHECK(outbox_put(&o, make_rows(i, false), &e));
    CHECK(o.spool != NULL);
    memset(notice->notice.err.msg, 1, sizeof notice->notice.err.msg - 1);
    CHECK(outbox_put(&o, notice, &e) && o.last == NULL);
    CHECK(outbox_put(&o, make_rows(CHUNKS - 1, true), &e) && o.last != NULL && o.last != notice);
    outbox_fini(&o);
    queue_free(q);
}

const struct unit_case outbox_cases[] = {
    { "outbox_held", test_held },
    { "outbox_full", test_full },
    { "outbox_drained", test_drained },
    { "outbox_dropped", test_dropped },
    { "outbox_news", test_news },
    { NULL, NULL },
};
