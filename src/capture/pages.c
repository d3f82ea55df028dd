/* pages.c -- where a source is that has no xids: pages, by value and key.
 * SPDX-License-Identifier: MIT */
#include "capture/pages.h"

#include "base/array.h"
#include "base/hash.h"
#include "base/text.h"

#include <stdlib.h>
#include <string.h>

static size_t lower_bound(const struct pages_rows *g, uint64_t hash)
{
    size_t i;

    ARRAY_LOWER_BOUND(i, g->n, g->v[i].hash < hash);
    return i;
}

bool pages_rows_has(const struct pages_rows *g, uint64_t hash)
{
    size_t i = lower_bound(g, hash);

    return i < g->n && g->v[i].hash == hash;
}

bool pages_rows_add(struct pages_rows *g, uint64_t hash, int64_t value)
{
    size_t i = lower_bound(g, hash);

    return (i < g->n && g->v[i].hash == hash) ||
           ARRAY_INSERT(g->v, g->n, g->cap, i, (struct pages_row){ hash, value });
}

bool pages_rows_merge(struct pages_rows *g, const struct pages_rows *more)
{
    struct pages_rows all = { .cap = g->n + more->n };
    size_t a = 0, b = 0;

    if (more->n == 0)
        return true;
    all.v = malloc(all.cap * sizeof *all.v);
    if (all.v == NULL)
        return false;
    while (a < g->n || b < more->n) {
        bool is_old = b == more->n || (a < g->n && g->v[a].hash <= more->v[b].hash);

        b += is_old && b < more->n && g->v[a].hash == more->v[b].hash;
        all.v[all.n++] = is_old ? g->v[a++] : more->v[b++];
    }
    free(g->v);
    *g = all;
    return true;
}

void pages_rows_fini(struct pages_rows *g)
{
    free(g->v);
    *g = (struct pages_rows){ 0 };
}

void pages_fini(struct pages *p)
{
    free(p->reached_key);
    pages_rows_fini(&p->given);
    *p = (struct pages){ 0 };
}

bool pages_copy(struct pages *to, const struct pages *from)
{
    bool ok;

    *to = *from;
    to->reached_key = from->reached_key != NULL ? strdup(from->reached_key) : NULL;
    ok = (from->reached_key == NULL) == (to->reached_key == NULL);
    to->given.v = array_copy(from->given.v, from->given.n, sizeof *from->given.v, &ok);
    to->given.cap = from->given.n;
    if (!ok)
        pages_fini(to);
    return ok;
}

void pages_forget(struct pages *p, int64_t base)
{
    size_t n = 0;

    for (size_t i = 0; i < p->given.n; i++)
        if (p->given.v[i].value >= base)
            p->given.v[n++] = p->given.v[i];
    p->given.n = n;
}

bool pages_hash(const char *row, size_t len, uint64_t *hash)
{
    char text[HASH_TEXT];

    if (!hash_sha256(row, len, text))
        return false;
    *hash = 0;
    for (size_t i = 0; i < 16; i++)
        *hash = *hash << 4 | (uint64_t)text_hex_digit(text[i]);
    return true;
}
