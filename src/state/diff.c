/* diff.c -- who came, who went: deletes, and inserts told from updates.
 * SPDX-License-Identifier: MIT */
#include "state/diff.h"

#include "base/array.h"
#include "base/hash.h"
#include "state/kept_columns.h"

#include <stdlib.h>
#include <string.h>

#define GONE_ROWS 4096 /* in a batch */

/* What is found to be gone, while it is found. */
struct weighing {
    struct tally *tally;        /* of the server */
    struct tally_bucket *counted; /* known rows and the poll's new ones */
    unsigned char asked[TALLY_BUCKETS / 8], empty[TALLY_BUCKETS / 8];
    uint32_t *expected;         /* known rows in the buckets asked for, sorted */
    bool *is_seen;
    size_t n_expected, cap_expected;
    bool learns;
};

struct diff {
    struct store *store;        /* borrowed, like the next one */
    const struct config *config;
    struct kept_rows *known;
    struct kept_columns *kept_columns;
    uint32_t columns;           /* of the rows in hand, see kept_columns.h */
    struct buf key;             /* scratch, like the next one */
    struct buf bytes;
    uint64_t change;            /* the number of the last one */
    bool is_learned;
    bool is_fresh;              /* that is so since this poll, of whose rows nothing is known */
    struct rowtype *rowtype;        /* of the last tally */
    struct weighing *weighing;  /* that waits for keys, or NULL */
    struct tally_bucket *odd;   /* what the server has more than is known, where that was looked
                                 * into: keys that are not unique; NULL: nothing */
    bool is_truncated;
    uint32_t *gone;             /* to be reported */
    size_t n_gone, cap_gone, at_gone;
};

/* ---- birth and death ---- */

struct diff *diff_open(struct store *store, const struct config *config,
                       const char *source, const struct position *p, struct err *e)
{
    struct diff *l = calloc(1, sizeof *l);

    if (l == NULL) {
        err_memory(e);
        return NULL;
    }
    l->store = store;
    l->config = config;
    buf_init(&l->key, SIZE_MAX / 2);
    buf_init(&l->bytes, SIZE_MAX / 2);
    l->change = p != NULL ? p->last_change : 0;
    l->is_learned = p != NULL ? p->is_learned : config->start == CONFIG_START_SNAPSHOT;
    l->kept_columns = kept_columns_open(store, source, e);
    if (l->kept_columns != NULL)
        l->known = kept_rows_open(store, source, l->change, e);
    /* where it does not go on from there it begins anew */
    if (l->known != NULL && ((p != NULL && l->is_learned) || kept_rows_clear(l->known, e)))
        return l;
    diff_close(l);
    return NULL;
}

static void drop_weighing(struct diff *l)
{
    struct weighing *v = l->weighing;

    if (v == NULL)
        return;
    tally_free(v->tally);
    free(v->counted);
    free(v->expected);
    free(v->is_seen);
    free(v);
    l->weighing = NULL;
}

void diff_close(struct diff *l)
{
    if (l == NULL)
        return;
    drop_weighing(l);
    kept_rows_close(l->known);
    kept_columns_close(l->kept_columns);
    rowtype_unref(l->rowtype);
    buf_fini(&l->key);
    buf_fini(&l->bytes);
    free(l->odd);
    free(l->gone);
    free(l);
}

bool diff_keep(struct diff *l, uint64_t saved, struct err *e)
{
    return kept_rows_keep(l->known, saved, e);
}

void diff_mark(const struct diff *l, struct position *p, uint64_t noted)
{
    p->last_change = noted;
    p->is_learned = l->is_learned;
    if (p->reads == 0)
        p->reads = 1;
}

uint64_t diff_last(const struct diff *l)
{
    return l->change;
}

/* ---- noting ---- */

/* What a row is called, given what is known of it. */
static enum op choose_op(const struct diff *l, const struct chunk *b, const struct chunk_row *row,
                         const struct kept_row *known)
{
    bool is_there = known->id != 0 && !known->now.is_in_doubt &&
                    !known->now.is_soft_deleted;

    if (row->op == OP_DELETE) /* softly */
        return OP_DELETE;
    if (is_there)
        return OP_UPDATE;
    if (!b->is_snapshot && known->id == 0 && (!l->is_learned || l->is_fresh))
        return OP_UPSERT;
    return row->op == OP_READ && b->reads <= 1 ? OP_READ : OP_INSERT;
}

/* Counted from 1; a source that began with start = "now" has none. */
static uint64_t reads_of(const struct chunk *b)
{
    return b->reads > 0 ? b->reads : 1;
}

/* True if the row is as it was delivered last, and nobody wants to hear that. A row with the same
 * xid comes again because it is not known whether it came, or since the table is read again. */
static bool is_unchanged(const struct diff *l, const struct chunk *b, const struct chunk_row *row,
                         const struct kept_row *known, uint64_t sum)
{
    if (known->id == 0 || known->now.is_in_doubt || known->now.digest != sum)
        return false;
    return known->now.reads < reads_of(b) ||
           (l->config->skips_unchanged && known->now.xid != row->xid);
}

/* Keeps the row before beside row <i>. */
static bool keep_old(struct diff *l, struct chunk *b, size_t i, const struct kept_row_state *old)
{
    buf_clear(&l->bytes);
    if (!kept_columns_map(l->kept_columns, old->columns, old->row, b->rowtype, &l->bytes) ||
        !chunk_add_bytes(b, l->bytes.data, l->bytes.len, &b->sides[i].old_start))
        return false;
    b->sides[i].old_len = (uint32_t)l->bytes.len;
    return true;
}

/* Rows of this shape are to be noted. Where their key is another one than before, nothing is
 * known any more: what there is will be learned. */
static bool enter_shape(struct diff *l, struct rowtype *rowtype, struct err *e)
{
    bool is_other_key;

    if (!kept_columns_enter(l->kept_columns, rowtype, &l->columns, &is_other_key, e))
        return false;
    if (!is_other_key)
        return true;
    l->is_learned = false;
    return kept_rows_clear(l->known, e);
}

/* Notes a row, which becomes row <to> of the batch. *is_wanted: it is to be delivered. */
static bool note_row(struct diff *l, struct chunk *b, size_t from, size_t to, uint64_t saved,
                     bool *is_wanted, struct err *e)
{
    struct chunk_row row = b->rows[from];
    struct kept_row known;
    struct kept_row_state state = { .change = l->change + 1, .xid = row.xid,
                                 .reads = reads_of(b) };

    buf_clear(&l->key);
    if (!chunk_row_key(b, &row, &l->key))
        return err_memory(e);
    if (!kept_rows_find(l->known, chunk_hash(b, &row),
                        (struct store_slice){ l->key.data, l->key.len }, &known, e))
        return false;
    state.digest = hash_digest(b->bytes + row.start, row.len);
    *is_wanted = !is_unchanged(l, b, &row, &known, state.digest);
    row.op = choose_op(l, b, &row, &known);
    state.is_soft_deleted = row.op == OP_DELETE;
    l->change++;
    b->rows[to] = row;
    b->sides[to] = (struct chunk_side){ .seq = l->change };
    if (*is_wanted && l->config->keeps_old && known.now.row.p != NULL && row.op != OP_INSERT &&
        row.op != OP_READ && !keep_old(l, b, to, &known.now))
        return err_memory(e);
    state.columns = l->columns;
    if (l->config->keeps_old)
        state.row = (struct store_slice){ b->bytes + row.start, row.len };
    return kept_rows_put(l->known, &known, &state, saved, e);
}

static bool commit(struct diff *l, bool ok, struct err *e)
{
    if (ok && store_commit(l->store, e))
        return true;
    store_rollback(l->store);
    return false;
}

bool diff_note(struct diff *l, struct chunk *b, uint64_t saved, struct err *e)
{
    size_t n = 0;
    bool ok, is_wanted = true;

    if (b->last_seq > 0 || b->n_rows == 0) {
        b->last_seq = l->change;
        return true;
    }
    b->sides = calloc(b->n_rows, sizeof *b->sides);
    if (b->sides == NULL)
        return err_memory(e);
    if (!store_begin(l->store, e))
        return false;
    ok = enter_shape(l, b->rowtype, e) && kept_rows_purge(l->known, saved, e);
    for (size_t i = 0; ok && i < b->n_rows; i++) {
        ok = note_row(l, b, i, n, saved, &is_wanted, e);
        n += is_wanted;
    }
    b->n_rows = ok ? n : b->n_rows;
    b->last_seq = l->change;
    return commit(l, ok, e);
}

/* ---- weighing ---- */

static bool has_bit(const unsigned char *bits, size_t i)
{
    return bits[i / 8] >> i % 8 & 1;
}

static void set_bit(unsigned char *bits, size_t i)
{
    bits[i / 8] |= (unsigned char)(1 << i % 8);
}

static bool add_gone(void *arg, uint32_t id)
{
    struct diff *l = arg;

    return ARRAY_PUSH(l->gone, l->n_gone, l->cap_gone, id);
}

static bool add_expected(void *arg, uint32_t id)
{
    struct weighing *v = arg;

    return ARRAY_PUSH(v->expected, v->n_expected, v->cap_expected, id);
}

/* What is known, and the rows of the poll that are not known yet. */
static bool count_known(struct diff *l, struct weighing *v, struct err *e)
{
    const struct tally_bucket *known = kept_rows_buckets(l->known);

    for (size_t i = 0; i < TALLY_BUCKETS; i++) {
        v->counted[i].count = known[i].count + (l->odd != NULL ? l->odd[i].count : 0);
        v->counted[i].xor = known[i].xor ^ (l->odd != NULL ? l->odd[i].xor : 0);
    }
    for (size_t i = 0; i < v->tally->n_hashes; i++) {
        uint64_t hash = v->tally->hashes[i];
        uint32_t id;
        size_t n;

        if (!kept_rows_count_hash(l->known, hash, &n, &id, e))
            return false;
        if (n == 0) {
            v->counted[hash >> TALLY_SHIFT].count++;
            v->counted[hash >> TALLY_SHIFT].xor ^= hash;
        }
    }
    return true;
}

/* What is gone of a bucket that differs, if that can be told from here, or it is asked for. */
static bool weigh_bucket(struct diff *l, struct weighing *v, size_t i, struct err *e)
{
    const struct tally_bucket *theirs = &v->tally->buckets[i], *ours = &v->counted[i];
    uint64_t xor = ours->xor ^ theirs->xor;
    size_t n;
    uint32_t id;

    if (theirs->count == 0) {
        set_bit(v->empty, i);
        if (l->odd != NULL)
            l->odd[i] = (struct tally_bucket){ 0 };
        return true;
    }
    if (ours->count == theirs->count + 1) {
        if (!kept_rows_count_hash(l->known, xor, &n, &id, e))
            return false;
        if (n == 1)
            return add_gone(l, id) || err_memory(e);
    }
    set_bit(v->asked, i);
    return true;
}

static int compare_ids(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

/* All that is gone is known: in the order in which the rows came. */
static bool conclude(struct diff *l, struct err *e)
{
    bool ok = kept_rows_each(l->known, l->weighing->empty, add_gone, l);

    if (l->n_gone > 0)
        qsort(l->gone, l->n_gone, sizeof *l->gone, compare_ids);
    drop_weighing(l);
    return ok || err_memory(e);
}

bool diff_weigh(struct diff *l, struct message_tally *tally, const unsigned char **asked,
                struct err *e)
{
    static const unsigned char nothing[TALLY_BUCKETS / 8];
    struct weighing *v;

    *asked = NULL;
    drop_weighing(l); /* one whose keys never came */
    l->n_gone = l->at_gone = 0;
    rowtype_unref(l->rowtype);
    l->rowtype = rowtype_ref(tally->rowtype);
    if (!store_begin(l->store, e) || !commit(l, enter_shape(l, l->rowtype, e), e))
        return false;
    l->weighing = v = calloc(1, sizeof *v);
    if (v == NULL || (v->counted = malloc(TALLY_BUCKETS * sizeof *v->counted)) == NULL)
        return err_memory(e);
    v->tally = tally->counts; /* moves */
    tally->counts = NULL;
    l->is_truncated = v->tally->is_truncated && kept_rows_count(l->known) > 0;
    v->learns = !l->is_learned;
    l->is_fresh = false;
    if (!count_known(l, v, e))
        return false;
    for (size_t i = 0; i < TALLY_BUCKETS; i++)
        if (v->learns)
            set_bit(v->asked, i);
        else if ((v->counted[i].count != v->tally->buckets[i].count ||
                  v->counted[i].xor != v->tally->buckets[i].xor) && !weigh_bucket(l, v, i, e))
            return false;
    if (memcmp(v->asked, nothing, sizeof nothing) == 0)
        return conclude(l, e);
    if (!kept_rows_each(l->known, v->asked, add_expected, v))
        return err_memory(e);
    if (v->n_expected > 0)
        qsort(v->expected, v->n_expected, sizeof *v->expected, compare_ids);
    v->is_seen = calloc(v->n_expected + 1, sizeof *v->is_seen);
    if (v->is_seen == NULL)
        return err_memory(e);
    *asked = v->asked;
    return true;
}

void diff_do_without(struct diff *l)
{
    struct err e;

    if (l->weighing != NULL && !conclude(l, &e))
        l->n_gone = 0; /* no memory: the next tally tells again */
}

/* ---- keys ---- */

/* A row that was there before deletes were looked for. */
static bool learn(struct diff *l, const struct chunk *b, const struct chunk_row *row,
                  struct kept_row *known, uint64_t saved, struct err *e)
{
    struct kept_row_state state = { .xid = row->xid, .change = ++l->change,
                                 .reads = reads_of(b) };

    return kept_rows_put(l->known, known, &state, saved, e);
}

static bool take_key(struct diff *l, const struct chunk *b, const struct chunk_row *row,
                     uint64_t saved, struct err *e)
{
    struct weighing *v = l->weighing;
    struct store_slice key = { b->bytes + row->start, row->len };
    struct kept_row known;
    uint32_t id, *at;

    if (!kept_rows_find(l->known, chunk_hash(b, row), key, &known, e))
        return false;
    if (known.id == 0)
        return !v->learns || row->op != OP_READ || learn(l, b, row, &known, saved, e);
    id = (uint32_t)known.id;
    at = v->n_expected > 0
             ? bsearch(&id, v->expected, v->n_expected, sizeof id, compare_ids) : NULL;
    if (at != NULL)
        v->is_seen[at - v->expected] = true;
    return true;
}

/* A bucket that was looked into and still differs will go on to: its keys are not unique. */
static bool note_odd(struct diff *l, size_t i, uint64_t n, uint64_t xor, struct err *e)
{
    if (l->odd == NULL && n == 0 && xor == 0)
        return true;
    if (l->odd == NULL && (l->odd = calloc(TALLY_BUCKETS, sizeof *l->odd)) == NULL)
        return err_memory(e);
    l->odd[i].count += n;
    l->odd[i].xor ^= xor;
    return true;
}

/* The last key was taken. */
static bool judge(struct diff *l, struct err *e)
{
    struct weighing *v = l->weighing;

    for (size_t i = 0; i < v->n_expected; i++) {
        struct kept_row known;
        struct tally_bucket *ours;

        if (v->is_seen[i])
            continue;
        if (!add_gone(l, v->expected[i]))
            return err_memory(e);
        if (!kept_rows_get(l->known, v->expected[i], &known, e))
            return false;
        ours = &v->counted[known.hash >> TALLY_SHIFT];
        ours->count--;
        ours->xor ^= known.hash;
    }
    for (size_t i = 0; i < TALLY_BUCKETS; i++)
        if (!v->learns && has_bit(v->asked, i) &&
            !note_odd(l, i, v->tally->buckets[i].count - v->counted[i].count,
                      v->tally->buckets[i].xor ^ v->counted[i].xor, e))
            return false;
    l->is_fresh = !l->is_learned;
    l->is_learned = true;
    return conclude(l, e);
}

bool diff_take_keys(struct diff *l, const struct chunk *b, uint64_t saved, struct err *e)
{
    bool ok = true;

    if (l->weighing == NULL)
        return true;
    if (!store_begin(l->store, e))
        return false;
    for (size_t i = 0; ok && i < b->n_rows; i++)
        ok = take_key(l, b, &b->rows[i], saved, e);
    if (!commit(l, ok, e))
        return false;
    if (!b->ends)
        return true;
    ok = judge(l, e);
    return ok;
}

/* ---- what is gone ---- */

bool diff_take_truncated(struct diff *l)
{
    bool was = l->is_truncated;

    l->is_truncated = false;
    return was;
}

/* Builds a row of which only the key is there. */
static bool put_gone(struct buf *b, const struct rowtype *s, struct store_slice key)
{
    buf_clear(b);
    for (size_t i = 0; i < s->n_columns; i++) {
        const char *p = key.p, *end = key.p + key.len, *tab = NULL;
        bool is_key = false;

        if (i > 0)
            buf_putc(b, '\t');
        for (size_t k = 0; k < s->n_key && !is_key; k++) {
            tab = memchr(p, '\t', (size_t)(end - p));
            if ((is_key = s->key[k] == i) || tab == NULL)
                break;
            p = tab + 1;
        }
        if (is_key)
            buf_add(b, p, (size_t)((tab != NULL ? tab : end) - p));
        else
            buf_puts(b, "\\N");
    }
    return buf_ok(b);
}

/* Notes that row <id> is gone, and adds it to <b>. */
static bool note_gone(struct diff *l, struct chunk *b, uint32_t id, uint64_t saved,
                      struct err *e)
{
    struct kept_row known;
    struct kept_row_state state;
    struct chunk_row row = { .op = OP_DELETE, .is_key_only = true };
    struct chunk_side *side = &b->sides[b->n_rows];

    if (!kept_rows_get(l->known, id, &known, e))
        return false;
    state = known.now;
    state.change = ++l->change;
    state.is_deleted = true;
    if (!known.now.is_soft_deleted) { /* that was told */
        row.xid = known.now.xid;
        if (!put_gone(&l->bytes, l->rowtype, known.key))
            return err_memory(e);
        row.len = (uint32_t)l->bytes.len;
        if (!chunk_add(b, &row, l->bytes.data))
            return err_memory(e);
        *side = (struct chunk_side){ .seq = l->change };
        if (l->config->keeps_old && known.now.row.p != NULL &&
            !keep_old(l, b, b->n_rows - 1, &known.now))
            return err_memory(e);
    }
    return kept_rows_put(l->known, &known, &state, saved, e);
}

bool diff_next_gone(struct diff *l, uint64_t saved, struct chunk **chunk, struct err *e)
{
    size_t n = l->n_gone - l->at_gone;
    struct chunk *b;
    bool ok = true;

    *chunk = NULL;
    n = n < GONE_ROWS ? n : GONE_ROWS;
    if (n == 0)
        return true;
    b = chunk_new();
    if (b == NULL || (b->sides = calloc(n, sizeof *b->sides)) == NULL) {
        chunk_free(b);
        return err_memory(e);
    }
    b->rowtype = rowtype_ref(l->rowtype);
    ok = store_begin(l->store, e);
    if (ok) {
        ok = kept_rows_purge(l->known, saved, e);
        for (size_t i = 0; ok && i < n; i++)
            ok = note_gone(l, b, l->gone[l->at_gone + i], saved, e);
        ok = commit(l, ok, e);
    }
    if (!ok) {
        chunk_free(b);
        return false;
    }
    l->at_gone += n;
    b->last_seq = l->change;
    *chunk = b;
    return true;
}
