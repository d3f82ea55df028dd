/* missing.c -- which of the known rows the server has no more.
 * SPDX-License-Identifier: MIT */
#include "state/missing.h"

#include "base/array.h"
#include "state/missing_pair.h"

#include <stdlib.h>
#include <string.h>

/* Numbers of known rows. */
struct ids {
    uint32_t *v;
    size_t n, cap;
};

/* A tally that is being compared. */
struct comparison {
    struct tally *server;         /* owned */
    struct tally_bucket *counted; /* owned: known rows, and the poll's new ones */
    struct tally_request asked;
    unsigned char empty[TALLY_BUCKETS / 8]; /* of which the server has nothing, and we have */
    bool has_empty;
    struct missing_pair *pairs;   /* owned: of the buckets in which two are missing */
    size_t n_pairs, cap_pairs;
    struct ids expected;          /* known rows in the buckets asked for, sorted */
    bool *has_come;               /* for each of these */
};

struct missing {
    struct kept_rows *rows;
    struct comparison *comparison; /* that waits for keys, or NULL */
    struct tally_bucket *extra;    /* what the server has more than is known where all keys were
                                    * looked at: keys that are not unique; NULL: nothing */
    struct ids found;
    size_t n_taken;
};

/* ---- birth and death ---- */

struct missing *missing_new(struct kept_rows *rows)
{
    struct missing *m = calloc(1, sizeof *m);

    if (m != NULL)
        m->rows = rows;
    return m;
}

static void end_comparison(struct missing *m)
{
    struct comparison *c = m->comparison;

    if (c == NULL)
        return;
    tally_free(c->server);
    free(c->counted);
    free(c->pairs);
    free(c->expected.v);
    free(c->has_come);
    free(c);
    m->comparison = NULL;
}

void missing_free(struct missing *m)
{
    if (m == NULL)
        return;
    end_comparison(m);
    free(m->extra);
    free(m->found.v);
    free(m);
}

/* ---- sets ---- */

static bool has_bit(const unsigned char *bits, size_t i)
{
    return bits[i / 8] >> i % 8 & 1;
}

static void set_bit(unsigned char *bits, size_t i)
{
    bits[i / 8] |= (unsigned char)(1 << i % 8);
}

static bool add_id(struct ids *ids, uint32_t id)
{
    return ARRAY_PUSH(ids->v, ids->n, ids->cap, id);
}

/* A kept_rows_visit. */
static bool visit_id(void *arg, uint32_t tag, uint32_t id)
{
    (void)tag;
    return add_id(arg, id);
}

static int compare_ids(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

static void sort_ids(struct ids *ids)
{
    if (ids->n > 0)
        qsort(ids->v, ids->n, sizeof *ids->v, compare_ids);
}

/* ---- comparing ---- */

/* What is known, and the rows of the poll that are not known yet. */
static bool count_known(struct missing *m, struct comparison *c, struct err *e)
{
    const struct tally_bucket *known = kept_rows_buckets(m->rows);

    for (size_t i = 0; i < TALLY_BUCKETS; i++) {
        c->counted[i].count = known[i].count + (m->extra != NULL ? m->extra[i].count : 0);
        c->counted[i].xor = known[i].xor ^ (m->extra != NULL ? m->extra[i].xor : 0);
    }
    for (size_t i = 0; i < c->server->n_hashes; i++) {
        uint64_t hash = c->server->hashes[i];
        uint32_t id;
        size_t n;

        if (!kept_rows_count_hash(m->rows, hash, &n, &id, e))
            return false;
        if (n == 0) {
            c->counted[hash >> TALLY_SHIFT].count++;
            c->counted[hash >> TALLY_SHIFT].xor ^= hash;
        }
    }
    return true;
}

/* How many buckets the server's tally has. */
static size_t n_theirs(const struct comparison *c)
{
    return TALLY_BUCKETS / c->server->width;
}

/* What was counted of bucket <k> of the server's, which is as wide as that. */
static struct tally_bucket counted(const struct comparison *c, size_t k)
{
    struct tally_bucket sum = { 0, 0 };

    for (size_t i = k * c->server->width; i < (k + 1) * c->server->width; i++) {
        sum.count += c->counted[i].count;
        sum.xor ^= c->counted[i].xor;
    }
    return sum;
}

/* Sets the bits of what is in bucket <k> of the server's. */
static void set_bits(unsigned char *bits, const struct comparison *c, size_t k)
{
    for (size_t i = k * c->server->width; i < (k + 1) * c->server->width; i++)
        set_bit(bits, i);
}

/* True if the server may have several rows with a key of this bucket of its: then nobody can tell
 * by counts whether one of these is missing or the last one. */
static bool has_extra(const struct missing *m, const struct comparison *c, size_t k)
{
    for (size_t i = k * c->server->width; m->extra != NULL && i < (k + 1) * c->server->width; i++)
        if (m->extra[i].count > 0)
            return true;
    return false;
}

static bool add_pair(struct comparison *c, size_t first, uint64_t xor)
{
    const struct missing_pair pair = { .first = first, .width = c->server->width, .xor = xor };

    return ARRAY_PUSH(c->pairs, c->n_pairs, c->cap_pairs, pair);
}

/* Compares bucket <k> of the server's. Finds what is missing in it, or asks for its keys. */
static bool compare_bucket(struct missing *m, struct comparison *c, size_t k, struct err *e)
{
    const struct tally_bucket *theirs = &c->server->buckets[k], ours = counted(c, k);
    uint64_t xor = ours.xor ^ theirs->xor;
    size_t n, first = k * c->server->width;
    uint32_t id;

    if (ours.count == theirs->count && xor == 0)
        return true;
    if (theirs->count == 0) {
        set_bits(c->empty, c, k);
        c->has_empty = true;
        if (m->extra != NULL)
            memset(m->extra + first, 0, c->server->width * sizeof *m->extra);
        return true;
    }
    if (ours.count == theirs->count + 2 && !has_extra(m, c, k))
        return add_pair(c, first, xor) || err_memory(e);
    if (ours.count == theirs->count + 1 && !has_extra(m, c, k)) {
        if (!kept_rows_count_hash(m->rows, xor, &n, &id, e))
            return false;
        if (n == 1)
            return add_id(&m->found, id) || err_memory(e);
    }
    set_bits(c->asked.buckets, c, k);
    return true;
}

/* Finds the rows of the pairs, or asks for the keys of their buckets. */
static bool find_pairs(struct missing *m, struct comparison *c, struct err *e)
{
    if (!missing_pair_find(m->rows, c->pairs, c->n_pairs, e))
        return false;
    for (size_t i = 0; i < c->n_pairs; i++) {
        const struct missing_pair *pair = &c->pairs[i];

        if (!pair->is_found)
            set_bits(c->asked.buckets, c, pair->first / c->server->width);
        else if (!add_id(&m->found, pair->ids[0]) || !add_id(&m->found, pair->ids[1]))
            return err_memory(e);
    }
    return true;
}

/* All that is missing is known. */
static bool conclude(struct missing *m, struct err *e)
{
    bool ok = !m->comparison->has_empty ||
              kept_rows_each(m->rows, m->comparison->empty, visit_id, &m->found);

    sort_ids(&m->found);
    end_comparison(m);
    return ok || err_memory(e);
}

static bool begin_comparison(struct missing *m, struct tally *tally, bool is_learning)
{
    struct comparison *c = m->comparison = calloc(1, sizeof *c);

    if (c == NULL) {
        tally_free(tally);
        return false;
    }
    c->server = tally;
    c->asked.is_learning = is_learning;
    c->counted = malloc(TALLY_BUCKETS * sizeof *c->counted);
    return c->counted != NULL;
}

/* The known rows that keys are expected of. */
static bool expect_keys(struct missing *m, struct comparison *c)
{
    if (!kept_rows_each(m->rows, c->asked.buckets, visit_id, &c->expected))
        return false;
    sort_ids(&c->expected);
    c->has_come = calloc(c->expected.n + 1, sizeof *c->has_come);
    return c->has_come != NULL;
}

bool missing_compare(struct missing *m, struct tally *tally, bool is_learning,
                     const struct tally_request **asked, struct err *e)
{
    static const unsigned char nothing[TALLY_BUCKETS / 8];
    struct comparison *c;

    *asked = NULL;
    end_comparison(m); /* one whose keys never came */
    m->found.n = m->n_taken = 0;
    if (!begin_comparison(m, tally, is_learning))
        return err_memory(e);
    c = m->comparison;
    if (!count_known(m, c, e))
        return false;
    for (size_t k = 0; k < n_theirs(c); k++)
        if (is_learning)
            set_bits(c->asked.buckets, c, k);
        else if (!compare_bucket(m, c, k, e))
            return false;
    if (!find_pairs(m, c, e))
        return false;
    if (memcmp(c->asked.buckets, nothing, sizeof nothing) == 0)
        return conclude(m, e);
    if (!expect_keys(m, c))
        return err_memory(e);
    *asked = &c->asked;
    return true;
}

bool missing_find_all(struct missing *m, struct err *e)
{
    unsigned char all[TALLY_BUCKETS / 8];

    memset(all, 0xff, sizeof all);
    end_comparison(m);
    m->found.n = m->n_taken = 0;
    free(m->extra);
    m->extra = NULL;
    if (!kept_rows_each(m->rows, all, visit_id, &m->found))
        return err_memory(e);
    sort_ids(&m->found);
    return true;
}

/* ---- keys ---- */

bool missing_is_asking(const struct missing *m)
{
    return m->comparison != NULL;
}

bool missing_is_learning(const struct missing *m)
{
    return m->comparison != NULL && m->comparison->asked.is_learning;
}

void missing_take_key(struct missing *m, uint32_t id)
{
    struct comparison *c = m->comparison;
    uint32_t *at = c->expected.n > 0 ? bsearch(&id, c->expected.v, c->expected.n, sizeof id,
                                               compare_ids) : NULL;

    if (at != NULL)
        c->has_come[at - c->expected.v] = true;
}

/* A bucket whose keys were looked at still differs, and always will: keys are not unique. */
static bool add_extra(struct missing *m, size_t i, uint64_t n, uint64_t xor, struct err *e)
{
    if (m->extra == NULL && n == 0 && xor == 0)
        return true;
    if (m->extra == NULL && (m->extra = calloc(TALLY_BUCKETS, sizeof *m->extra)) == NULL)
        return err_memory(e);
    m->extra[i].count += n;
    m->extra[i].xor ^= xor;
    return true;
}

bool missing_end_keys(struct missing *m, struct err *e)
{
    struct comparison *c = m->comparison;

    for (size_t i = 0; i < c->expected.n; i++) {
        struct kept_row row;
        struct tally_bucket *ours;

        if (c->has_come[i])
            continue;
        if (!add_id(&m->found, c->expected.v[i]))
            return err_memory(e);
        if (!kept_rows_get(m->rows, c->expected.v[i], &row, e))
            return false;
        ours = &c->counted[row.hash >> TALLY_SHIFT];
        ours->count--;
        ours->xor ^= row.hash;
    }
    for (size_t k = 0; !c->asked.is_learning && k < n_theirs(c); k++) {
        const struct tally_bucket *theirs = &c->server->buckets[k], ours = counted(c, k);
        size_t first = k * c->server->width; /* of a wide bucket it stands there, whatever it is */

        if (has_bit(c->asked.buckets, first) &&
            !add_extra(m, first, theirs->count - ours.count, theirs->xor ^ ours.xor, e))
            return false;
    }
    return conclude(m, e);
}

void missing_do_without_keys(struct missing *m)
{
    struct err e;

    if (m->comparison != NULL && !conclude(m, &e))
        m->found.n = 0; /* no memory: the next tally tells again */
}

/* ---- what was found ---- */

size_t missing_take(struct missing *m, size_t max, const uint32_t **ids)
{
    size_t n = m->found.n - m->n_taken;

    n = n < max ? n : max;
    *ids = n > 0 ? m->found.v + m->n_taken : NULL;
    m->n_taken += n;
    return n;
}
