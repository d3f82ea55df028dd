/* message.c -- unit tests of what travels from a reader to the host.
 * SPDX-License-Identifier: MIT */
#include "capture/message.h"

#include "unit.h"

#include <stdlib.h>
#include <string.h>

static void test_new(void)
{
    struct message *m = message_new(MESSAGE_KEYS, 3);

    CHECK(m != NULL && m->source == 3 && message_has_rows(m) && m->chunk.n_rows == 0);
    CHECK(m->chunk.ts[0] != '\0' && !m->is_taken_in && message_of(&m->item) == m);
    message_free(m);
    m = message_new(MESSAGE_NOTICE, 4);
    CHECK(m != NULL && !message_has_rows(m) && m->notice.retry_ms < 0);
    message_free(m);
    message_free(NULL);
}

/* The queue counts rows; news always finds room. */
static void test_seal(void)
{
    struct message *m = message_new(MESSAGE_ROWS, 0);
    struct queue_lane lane = { 0 };
    struct chunk_row row = { .len = 1 << 20 };
    char *big = calloc(1, 1 << 20);

    CHECK(m != NULL && big != NULL);
    CHECK(chunk_add(&m->chunk, &row, big));
    message_seal(m, &lane);
    CHECK(m->item.lane == &lane && m->item.bytes >= 1 << 20);
    message_free(m);
    m = message_new(MESSAGE_NOTICE, 0);
    CHECK(m != NULL);
    message_seal(m, &lane);
    EQUAL(m->item.bytes, 0);
    message_free(m);
    free(big);
}

/* All that a message owns goes with it. */
static void test_free(void)
{
    struct message *schema = message_new(MESSAGE_SCHEMA, 1), *text = message_new(MESSAGE_DONE, 1);
    struct message *tally = message_new(MESSAGE_TALLY, 1), *fault = message_new(MESSAGE_FAULT, 1);

    CHECK(schema != NULL && text != NULL && tally != NULL && fault != NULL);
    schema->schema.old_signature = strdup("old");
    schema->schema.new_signature = strdup("new");
    text->text = strdup("text");
    tally->tally.counts = calloc(1, sizeof *tally->tally.counts);
    CHECK(tally->tally.counts != NULL);
    tally->tally.counts->hashes = calloc(1, sizeof *tally->tally.counts->hashes);
    err_set(&fault->fault, ERR_INTERNAL, "fault");
    message_free(schema);
    message_free(text);
    message_free(tally);
    message_free(fault);
}

const struct unit_case message_cases[] = {
    { "message_new", test_new },
    { "message_seal", test_seal },
    { "message_free", test_free },
    { NULL, NULL },
};
