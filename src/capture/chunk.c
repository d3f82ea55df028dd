/* chunk.c -- a block of rows on its way through the queue.
 * SPDX-License-Identifier: MIT */
#include "capture/chunk.h"

#include "base/array.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define FULL_BYTES ((size_t)256 << 10)
#define FULL_ROWS 4096

void chunk_init(struct chunk *c)
{
    *c = (struct chunk){ 0 };
    c->read_us = clock_wall_us();
    clock_write(c->read_us, c->ts);
}

void chunk_fini(struct chunk *c)
{
    if (c->position != NULL)
        position_fini(c->position);
    free(c->position);
    rowtype_unref(c->rowtype);
    free(c->bytes);
    free(c->rows);
    free(c->sides);
    *c = (struct chunk){ 0 };
}

struct chunk *chunk_new(void)
{
    struct chunk *c = malloc(sizeof *c);

    if (c != NULL)
        chunk_init(c);
    return c;
}

void chunk_free(struct chunk *c)
{
    if (c != NULL)
        chunk_fini(c);
    free(c);
}

void chunk_init_like(struct chunk *c, const struct chunk *like)
{
    *c = (struct chunk){
        .rowtype = like->rowtype != NULL ? rowtype_ref(like->rowtype) : NULL,
        .is_snapshot = like->is_snapshot,
        .is_reread = like->is_reread,
        .is_ordered = like->is_ordered,
        .is_recheck = like->is_recheck,
        .is_log = like->is_log,
        .reads = like->reads,
        .read_us = like->read_us,
        .leaf = like->leaf,
        .end = like->end,
        .begins = like->begins,
    };
    memcpy(c->ts, like->ts, sizeof c->ts);
}

bool chunk_reserve(struct chunk *c, size_t rows, size_t bytes)
{
    bool ok = true;

    if (rows > c->cap_rows)
        ok = ARRAY_RESERVE(c->rows, c->n_rows, c->cap_rows, rows - c->n_rows);
    if (bytes > c->cap_bytes)
        ok = ok && ARRAY_RESERVE(c->bytes, c->n_bytes, c->cap_bytes, bytes - c->n_bytes);
    return ok;
}

bool chunk_add_bytes(struct chunk *c, const char *bytes, size_t len, size_t *start)
{
    /* rows may have no bytes */
    if (!ARRAY_RESERVE(c->bytes, c->n_bytes, c->cap_bytes, len + 1))
        return false;
    if (len > 0)
        memcpy(c->bytes + c->n_bytes, bytes, len);
    *start = c->n_bytes;
    c->n_bytes += len;
    return true;
}

/* Makes room for the sides of <n> rows. */
static bool cover_rows(struct chunk *c, size_t n)
{
    size_t before = c->cap_sides;

    if (n <= before)
        return true;
    if (!ARRAY_RESERVE(c->sides, before, c->cap_sides, n - before))
        return false;
    memset(c->sides + before, 0, (c->cap_sides - before) * sizeof *c->sides);
    return true;
}

bool chunk_add(struct chunk *c, const struct chunk_row *row, const char *bytes)
{
    struct chunk_row *to;

    if (!ARRAY_RESERVE(c->rows, c->n_rows, c->cap_rows, 1) ||
        (c->cap_sides > 0 && !cover_rows(c, c->n_rows + 1)))
        return false;
    to = &c->rows[c->n_rows];
    *to = *row;
    if (!chunk_add_bytes(c, bytes, row->len, &to->start))
        return false;
    c->n_rows++;
    return true;
}

bool chunk_add_hash(struct chunk *c, uint64_t hash)
{
    size_t start;

    return chunk_add_bytes(c, (const char *)&hash, sizeof hash, &start);
}

uint64_t chunk_hash(const struct chunk *c, const struct chunk_row *row)
{
    uint64_t hash;

    memcpy(&hash, c->bytes + row->start - sizeof hash, sizeof hash);
    return hash;
}

bool chunk_add_old(struct chunk *c, const char *old, size_t len)
{
    struct chunk_side *side;

    if (len > UINT32_MAX || !cover_rows(c, c->n_rows))
        return false;
    side = &c->sides[c->n_rows - 1];
    side->old_len = (uint32_t)len;
    return chunk_add_bytes(c, old, len, &side->old_start);
}

bool chunk_set_position(struct chunk *c, const struct position *p)
{
    c->position = calloc(1, sizeof *c->position);
    if (c->position != NULL && position_copy(c->position, p))
        return true;
    free(c->position);
    c->position = NULL;
    return false;
}

bool chunk_is_full(const struct chunk *c)
{
    return c->n_bytes >= FULL_BYTES || c->n_rows >= FULL_ROWS;
}

size_t chunk_size(const struct chunk *c)
{
    return sizeof *c + c->cap_bytes + c->cap_rows * sizeof *c->rows +
           c->cap_sides * sizeof *c->sides;
}

bool chunk_put_place(const struct chunk_place *place, struct buf *mark)
{
    buf_printf(mark, "\\p%" PRIu32 " %" PRIu32 " %" PRIu32, place->filenode, place->block,
               place->line);
    return buf_ok(mark);
}

bool chunk_row_mark(const struct chunk *c, const struct chunk_row *row, struct buf *mark)
{
    return c->rowtype->has_place ? chunk_put_place(&row->place, mark) : chunk_row_key(c, row, mark);
}

bool chunk_row_key(const struct chunk *c, const struct chunk_row *row, struct buf *key)
{
    return rowtype_put_key(c->rowtype, c->bytes + row->start, row->len, key);
}
