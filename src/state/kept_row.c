/* kept_row.c -- a row that was delivered, as the state file keeps it.
 * SPDX-License-Identifier: MIT */
#include "state/kept_row.h"

#include "base/hash.h"

/* ---- flags ---- */

enum { IN_DOUBT = 1, DELETED = 2, SOFT_DELETED = 4, BITS = 3 };

static uint64_t flag_bits(const struct kept_row_state *s)
{
    return (s->is_in_doubt ? IN_DOUBT : 0) | (s->is_deleted ? DELETED : 0) |
           (s->is_soft_deleted ? SOFT_DELETED : 0);
}

uint64_t kept_row_flags(const struct kept_row_state *s)
{
    return flag_bits(s) | s->reads << BITS;
}

void kept_row_set_flags(struct kept_row_state *s, uint64_t flags)
{
    s->is_in_doubt = (flags & IN_DOUBT) != 0;
    s->is_deleted = (flags & DELETED) != 0;
    s->is_soft_deleted = (flags & SOFT_DELETED) != 0;
    s->reads = flags >> BITS;
}

void kept_row_set_in_doubt(struct kept_row_state *s)
{
    s->change = 0;
    s->is_in_doubt = true;
    s->is_deleted = s->is_soft_deleted = false;
}

int32_t kept_row_sum(const struct kept_row *r)
{
    const uint64_t numbers[] = { r->hash, r->now.change, r->now.xid, r->now.digest, r->now.reads,
                                 flag_bits(&r->now) };
    uint64_t h = hash_words(hash_words(HASH_START, numbers, sizeof numbers), r->key.p, r->key.len);

    return (int32_t)(uint32_t)(h ^ h >> 32);
}

/* ---- states before ---- */

void kept_row_put_number(struct buf *b, uint64_t n)
{
    for (; n > 127; n >>= 7)
        buf_putc(b, (char)(n | 128));
    buf_putc(b, (char)n);
}

bool kept_row_take_number(struct store_slice *s, uint64_t *n)
{
    *n = 0;
    for (unsigned shift = 0; shift < 64 && s->len > 0; shift += 7) {
        unsigned char c = (unsigned char)*s->p++;

        s->len--;
        *n |= (uint64_t)(c & 127) << shift;
        if (c < 128)
            return true;
    }
    return false;
}

/* A state is numbers, then its row. */
static void put_state(struct buf *b, const struct kept_row_state *s)
{
    kept_row_put_number(b, s->change);
    kept_row_put_number(b, s->xid);
    kept_row_put_number(b, s->digest);
    kept_row_put_number(b, kept_row_flags(s));
    kept_row_put_number(b, s->row.p != NULL ? s->row.len + 1 : 0);
    if (s->row.p == NULL)
        return;
    kept_row_put_number(b, s->columns);
    buf_add(b, s->row.p, s->row.len);
}

/* Takes the newest state off <older>. False: there is none. */
static bool take_state(struct store_slice *older, struct kept_row_state *s)
{
    uint64_t flags, len, columns = 0;

    *s = (struct kept_row_state){ 0 };
    if (older->p == NULL || !kept_row_take_number(older, &s->change) ||
        !kept_row_take_number(older, &s->xid) || !kept_row_take_number(older, &s->digest) ||
        !kept_row_take_number(older, &flags) ||
        !kept_row_take_number(older, &len) || (len > 0 && !kept_row_take_number(older, &columns)) ||
        (len > 0 && len - 1 > older->len))
        return false;
    kept_row_set_flags(s, flags);
    s->columns = (uint32_t)columns;
    if (len > 0) {
        s->row = (struct store_slice){ older->p, len - 1 };
        older->p += len - 1;
        older->len -= len - 1;
    }
    return true;
}

void kept_row_put_older(const struct kept_row *row, uint64_t saved, struct buf *b)
{
    struct kept_row_state s = row->now;
    struct store_slice rest = row->older;

    do {
        put_state(b, &s);
    } while (s.change > saved && take_state(&rest, &s));
}

bool kept_row_step_back(struct kept_row *row)
{
    struct kept_row_state before;

    if (!take_state(&row->older, &before))
        return false;
    row->now = before;
    return true;
}
