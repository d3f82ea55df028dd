/* message.c -- what travels from a reader to the host.
 * SPDX-License-Identifier: MIT */
#include "capture/message.h"

#include <stdlib.h>
#include <string.h>

#define FULL_BYTES ((size_t)256 << 10)
#define FULL_ROWS 4096

struct message *message_new(enum message_kind kind, size_t source)
{
    struct message *b = calloc(1, sizeof *b);

    if (b == NULL)
        return NULL;
    b->kind = kind;
    b->source = source;
    b->retry_ms = -1;
    clock_utc(b->ts);
    return b;
}

void message_free(struct message *b)
{
    if (b == NULL)
        return;
    if (b->position != NULL)
        position_fini(b->position);
    free(b->position);
    rowtype_unref(b->rowtype);
    free(b->bytes);
    free(b->rows);
    free(b->sides);
    if (b->tally != NULL)
        free(b->tally->hashes);
    free(b->tally);
    free(b->old_signature);
    free(b->new_signature);
    free(b->text);
    free(b);
}

struct message *message_of(struct queue_item *item)
{
    return (struct message *)item;
}

static void *grow(void *p, size_t *cap, size_t need, size_t first, size_t size)
{
    size_t n = *cap == 0 ? first : *cap;

    while (n < need)
        n += n / 2 + 1;
    p = realloc(p, n * size);
    if (p != NULL)
        *cap = n;
    return p;
}

bool message_add_bytes(struct message *b, const char *bytes, size_t len, size_t *start)
{
    void *p;

    if (b->bytes == NULL || b->n_bytes + len > b->cap_bytes) { /* rows may have no bytes */
        if ((p = grow(b->bytes, &b->cap_bytes, b->n_bytes + len, 1024, 1)) == NULL)
            return false;
        b->bytes = p;
    }
    if (len > 0)
        memcpy(b->bytes + b->n_bytes, bytes, len);
    *start = b->n_bytes;
    b->n_bytes += len;
    return true;
}

bool message_add(struct message *b, const struct row *row, const char *bytes)
{
    size_t start;
    void *p;

    if (b->n_rows == b->cap_rows) {
        if ((p = grow(b->rows, &b->cap_rows, b->n_rows + 1, 8, sizeof *b->rows)) == NULL)
            return false;
        b->rows = p;
    }
    if (!message_add_bytes(b, bytes, row->len, &start))
        return false;
    b->rows[b->n_rows] = *row;
    b->rows[b->n_rows].start = start;
    b->n_rows++;
    return true;
}

bool message_add_hash(struct message *b, uint64_t hash)
{
    size_t start;

    b->has_hashes = true;
    return message_add_bytes(b, (const char *)&hash, sizeof hash, &start);
}

uint64_t message_hash(const struct message *b, const struct row *row)
{
    uint64_t hash;

    memcpy(&hash, b->bytes + row->start - sizeof hash, sizeof hash);
    return hash;
}

bool message_has_rows(const struct message *b)
{
    return b->kind == MESSAGE_ROWS || b->kind == MESSAGE_KEYS;
}

bool message_is_full(const struct message *b)
{
    return b->n_bytes >= FULL_BYTES || b->n_rows >= FULL_ROWS;
}

void message_seal(struct message *b, struct queue_lane *lane)
{
    b->item.lane = lane;
    b->item.bytes = !message_has_rows(b) ? 0
                    : sizeof *b + b->cap_bytes + b->cap_rows * sizeof *b->rows;
}

bool message_row_key(const struct message *b, const struct row *row, struct buf *key)
{
    return rowtype_put_key(b->rowtype, b->bytes + row->start, row->len, key);
}
