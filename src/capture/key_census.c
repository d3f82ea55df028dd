/* key_census.c -- which rows the server still has, counted.
 * SPDX-License-Identifier: MIT */
#include "capture/key_census.h"

#include "base/array.h"
#include "pg/copytext.h"

#include <stdlib.h>
#include <string.h>

#define MAX_HASHES ((size_t)512 << 10)
#define AFTER 16  /* so many tallies come after the poll that has rows, though one was before it */
#define NARROW 16 /* so many tallies are narrow after a wide one whose keys were asked for */

bool key_census_is_due(const struct key_census *c, const struct source *s)
{
    return source_counts_keys(s) &&
           (c->is_owed || c->check_ms == 0 || clock_mono_ms() - c->last_ms >= c->check_ms);
}

bool key_census_is_overdue(const struct key_census *c, const struct source *s)
{
    return (c->is_owed || c->is_behind) && key_census_is_due(c, s);
}

int64_t key_census_due_ms(const struct key_census *c, const struct source *s)
{
    if (!s->config->deletes || c->check_ms == 0)
        return INT64_MAX;
    return (c->is_behind ? c->last_ms : clock_mono_ms()) + c->check_ms;
}

/* True if every leaf that the position knows has another file now. */
static bool is_truncated(const struct position *p, const struct relation *now)
{
    for (size_t i = 0; i < p->n_leaves; i++) {
        const struct relation_leaf *leaf = relation_leaf(now, p->leaves[i].oid);

        if (leaf != NULL && leaf->filenode == p->leaves[i].filenode)
            return false;
    }
    return p->n_leaves > 0 && now->n_leaves > 0;
}

void key_census_begin(struct key_census *c, const struct source *s, bool is_start)
{
    c->is_start = is_start;
    c->learns_all = false;
    c->is_wanted = key_census_is_due(c, s);
    c->is_owed = c->is_owed || c->is_wanted;
    c->is_truncated = c->is_truncated || is_truncated(&s->position, &s->facts.table);
}

void key_census_drop(struct key_census *c)
{
    free(c->hashes);
    free(c->brought);
    free(c->asked);
    message_free(c->message);
    c->hashes = c->brought = NULL;
    c->asked = NULL;
    c->message = NULL;
    c->n_hashes = c->cap_hashes = c->n_brought = 0;
    c->is_wanted = c->is_skipped = c->is_answered = c->has_counts = false;
}

bool key_census_is_answered(const struct key_census *c)
{
    return c->is_wanted && !c->is_skipped && c->is_answered;
}

/* Of the next tally. */
static void choose_width(struct key_census *c)
{
    if (c->n_narrow > 0)
        c->n_narrow--;
    else if (c->asked != NULL && !c->asked->is_learning)
        c->n_narrow = NARROW;
}

void key_census_complete(struct key_census *c, const struct source *s)
{
    if (key_census_is_answered(c)) {
        choose_width(c);
        c->is_owed = c->is_behind = c->is_truncated = false;
        c->last_ms = clock_mono_ms();
    } else {
        c->is_behind = s->config->deletes;
    }
    key_census_drop(c);
}

/* Remembers the hash of a row of the poll, for the tally. False: out of memory. */
static bool add_hash(struct key_census *c, uint64_t hash)
{
    if (!c->is_wanted || c->is_skipped)
        return true;
    if (!ARRAY_PUSH(c->hashes, c->n_hashes, c->cap_hashes, hash))
        return false;
    c->is_skipped = c->n_hashes == MAX_HASHES;
    return true;
}

bool key_census_read_xmin(const char **p, const char *end, bool is_alone, uint32_t *xmin)
{
    const char *s = *p;
    uint64_t v;

    if (!copytext_read_u64(&s, end, &v) || v > UINT32_MAX || (s[-1] == '\t') == is_alone)
        return false;
    *p = s;
    *xmin = (uint32_t)v;
    return true;
}

bool key_census_read_hash(const char **p, const char *end, uint64_t *hash)
{
    const char *s = *p;
    int64_t v;

    if (!copytext_read_i64(&s, end, &v) || s[-1] != '\t')
        return false;
    *p = s;
    *hash = (uint64_t)v;
    return true;
}

static bool fail_row(struct err *e)
{
    return err_set(e, ERR_ANSWER, "a row of it cannot be read");
}

bool key_census_take_hash(struct key_census *c, struct chunk *chunk, const char **p,
                          const char *end, struct err *e)
{
    uint64_t hash;

    if (!key_census_read_hash(p, end, &hash))
        return fail_row(e);
    return (chunk_add_hash(chunk, hash) && add_hash(c, hash)) || err_memory(e);
}

bool key_census_leave(struct key_census *c, const char *p, const char *end, struct err *e)
{
    uint64_t hash;

    if (!c->is_wanted)
        return true;
    if (!key_census_read_hash(&p, end, &hash))
        return fail_row(e);
    return add_hash(c, hash) || err_memory(e);
}

/* ---- counts ---- */

unsigned key_census_width(const struct key_census *c)
{
    return c->n_narrow > 0 ? 1 : TALLY_WIDE;
}

/* Reads a line, "bucket\tcount\txor\tnew". Of n buckets the upper half is -n/2 to -1. */
static bool read_bucket(struct tally *t, const char *p, size_t len, uint64_t *n_new)
{
    const char *end = p + len;
    int64_t i, xor, n = TALLY_BUCKETS / t->width;
    uint64_t count, some;

    if (!copytext_read_i64(&p, end, &i) || i < -n / 2 || i >= n / 2 ||
        !copytext_read_u64(&p, end, &count) || !copytext_read_i64(&p, end, &xor) ||
        !copytext_read_u64(&p, end, &some) || p != end)
        return false;
    *n_new += some;
    t->buckets[i & (n - 1)] = (struct tally_bucket){ count, (uint64_t)xor };
    return true;
}

static int compare_hashes(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* Keeps the hashes of the poll's rows, which are about to be sent. */
static bool keep_brought(struct key_census *c)
{
    if (!c->learns_all || c->n_hashes == 0)
        return true;
    if ((c->brought = malloc(c->n_hashes * sizeof *c->brought)) == NULL)
        return false;
    memcpy(c->brought, c->hashes, c->n_hashes * sizeof *c->brought);
    qsort(c->brought, c->n_hashes, sizeof *c->brought, compare_hashes);
    c->n_brought = c->n_hashes;
    return true;
}

/* True if a row that is there is one of the poll's. */
static bool is_brought(const struct key_census *c, const struct source *s, uint64_t hash,
                       uint64_t xid)
{
    if (!c->learns_all)
        return !c->is_start && horizon_is_new(&s->position.horizon, xid);
    return c->n_brought > 0 && bsearch(&hash, c->brought, c->n_brought, sizeof hash,
                                       compare_hashes) != NULL;
}

bool key_census_goes_first(const struct key_census *c)
{
    return c->is_wanted && c->n_after == 0;
}

/* Of the tally in hand. */
static bool read_counts(const struct key_census *c, struct tally *tally, struct conn *conn,
                        uint64_t *n_new, struct err *e)
{
    const char *text;
    enum conn_copy got;
    uint64_t rows = 0;
    size_t len;

    *n_new = 0;
    tally->width = key_census_width(c);
    while ((got = conn_copy_next(conn, &text, &len, e)) == CONN_COPY_LINE)
        if (!read_bucket(tally, text, len, n_new)) {
            fail_row(e);
            return conn_fail_answer(conn, e);
        }
    for (size_t i = 0; i < TALLY_BUCKETS; i++)
        rows += tally->buckets[i].count;
    tally->is_truncated = c->is_truncated && rows == 0;
    return got != CONN_COPY_FAILED;
}

bool key_census_read_tally(struct key_census *c, const struct source *s, struct conn *conn,
                           uint64_t *n_new, struct err *e)
{
    struct message *m = c->message = message_new(MESSAGE_TALLY, s->number);

    if (m == NULL || (m->tally.counts = calloc(1, sizeof *m->tally.counts)) == NULL)
        return err_memory(e);
    m->tally.rowtype = rowtype_ref(s->facts.rowtype);
    if (!read_counts(c, m->tally.counts, conn, n_new, e))
        return false;
    c->has_counts = true;
    c->n_after = *n_new > 0 ? AFTER : c->n_after > 0 ? c->n_after - 1 : 0;
    return true;
}

struct message *key_census_take_tally(struct key_census *c)
{
    struct message *m = c->message;

    if (!keep_brought(c))
        return NULL;
    m->tally.counts->hashes = c->hashes; /* moves */
    m->tally.counts->n_hashes = c->n_hashes;
    c->hashes = NULL;
    c->n_hashes = c->cap_hashes = 0;
    c->message = NULL;
    c->has_counts = false;
    return m;
}

/* ---- keys ---- */

bool key_census_answer(struct key_census *c, const struct tally_request *asked)
{
    c->is_answered = true;
    if (asked == NULL)
        return true;
    if ((c->asked = malloc(sizeof *c->asked)) == NULL)
        return false;
    *c->asked = *asked;
    return true;
}

bool key_census_wants_rows(const struct key_census *c, const struct source *s)
{
    return c->asked != NULL && c->asked->is_learning &&
           (s->config->keeps_old || s->config->skips_unchanged);
}

/* Takes a line, "xmin\thash\tkey", or a row in the place of the key. */
static bool take_key(const struct key_census *c, struct chunk *chunk, const struct source *s,
                     const char *p, size_t len, struct err *e)
{
    const char *end = p + len;
    uint64_t hash;
    uint32_t xmin;
    struct chunk_row row = { .op = OP_READ };
    bool is_doubtful;

    if (!key_census_read_xmin(&p, end, false, &xmin) || !key_census_read_hash(&p, end, &hash) ||
        len > UINT32_MAX)
        return fail_row(e);
    row.xid = horizon_widen_visible(xmin, &s->facts.snapshot, &s->facts.in_doubt, &is_doubtful);
    if (is_doubtful || is_brought(c, s, hash, row.xid))
        row.op = OP_UPSERT;
    row.len = (uint32_t)(end - p);
    return (chunk_add_hash(chunk, hash) && chunk_add(chunk, &row, p)) || err_memory(e);
}

bool key_census_read_keys(struct key_census *c, const struct source *s, struct conn *conn,
                          struct message **message, struct err *e)
{
    struct chunk *chunk;
    const char *text;
    size_t len;

    if ((c->message = message_new(MESSAGE_KEYS, s->number)) == NULL)
        return err_memory(e);
    chunk = &c->message->chunk;
    if (key_census_wants_rows(c, s))
        chunk->rowtype = rowtype_ref(s->facts.rowtype);
    while (!chunk->ends && !chunk_is_full(chunk)) {
        switch (conn_copy_next(conn, &text, &len, e)) {
        case CONN_COPY_LINE:
            if (!take_key(c, chunk, s, text, len, e))
                return conn_fail_answer(conn, e);
            break;
        case CONN_COPY_END:
            chunk->ends = true;
            break;
        case CONN_COPY_FAILED:
            return false;
        }
    }
    *message = c->message;
    c->message = NULL;
    return true;
}
