/* diff.c -- tells inserts, updates and deletes apart.
 * SPDX-License-Identifier: MIT */
#include "state/diff.h"

#include "base/array.h"
#include "base/hash.h"
#include "state/kept_columns.h"
#include "state/kept_fill.h"
#include "state/missing.h"

#include <stdlib.h>
#include <string.h>

#define MAX_DELETES 4096 /* in a chunk */
#define AHEAD 8 /* so many rows before one is recorded its place in the index is fetched */

/* A row that was not known, and the number of the change that it was recorded with. */
struct added {
    uint64_t change;
    int64_t id;
};

struct diff {
    struct store *store;        /* borrowed, like the next two */
    const struct config *config;
    const char *source;
    struct kept_rows *known;
    struct kept_columns *kept_columns;
    struct missing *missing;
    uint32_t columns;           /* of the rows in hand, see kept_columns.h */
    struct buf key;             /* scratch, like the next one */
    struct buf bytes;
    uint64_t change;            /* the number of the last one */
    bool is_learned;            /* every row that was there is known */
    bool is_fresh;              /* <is_learned> since this batch; of its rows nothing was known */
    bool is_partial;            /* see struct position */
    struct added *added;        /* rows of the chunk in hand that were not known before; owned */
    size_t n_added, cap_added;
    struct rowtype *rowtype;    /* of the last tally, or of what was truncated */
    bool is_truncated;
    struct chunk_row delete;    /* a delete that a tally tells, or, by the log, a TRUNCATE */
    /* of the log: the row that was deleted last, as a row of that type; it may have moved */
    struct buf moved;
    struct rowtype *moved_type; /* counted reference, or NULL */
    struct chunk_log moved_at;
    bool may_fill;              /* what is kept of it still holds */
};

static uint64_t saved_change(const struct diff *d)
{
    return store_saved_change(d->store, d->source);
}

/* ---- birth and death ---- */

struct diff *diff_open(struct store *store, const struct config *config,
                       const char *source, const struct position *p, struct err *e)
{
    struct diff *d = calloc(1, sizeof *d);

    if (d == NULL) {
        err_memory(e);
        return NULL;
    }
    d->store = store;
    d->config = config;
    d->source = source;
    buf_init(&d->key, SIZE_MAX / 2);
    buf_init(&d->bytes, SIZE_MAX / 2);
    buf_init(&d->moved, SIZE_MAX / 2);
    d->change = p != NULL ? p->last_change : 0;
    d->is_learned = p != NULL ? p->is_learned : config->start == CONFIG_START_SNAPSHOT;
    d->is_partial = p != NULL ? p->is_partial : config->start == CONFIG_START_SNAPSHOT;
    d->kept_columns = kept_columns_open(store, source, e);
    if (d->kept_columns != NULL)
        d->known = kept_rows_open(store, source, d->change, config->is_exact, e);
    if (d->known != NULL && (d->missing = missing_new(d->known)) == NULL)
        err_memory(e);
    /* without a position to go on from it begins anew */
    if (d->missing != NULL && ((p != NULL && d->is_learned) || kept_rows_clear(d->known, e)))
        return d;
    diff_close(d);
    return NULL;
}

void diff_close(struct diff *d)
{
    if (d == NULL)
        return;
    missing_free(d->missing);
    kept_rows_close(d->known);
    kept_columns_close(d->kept_columns);
    rowtype_unref(d->rowtype);
    rowtype_unref(d->moved_type);
    buf_fini(&d->moved);
    free(d->added);
    buf_fini(&d->key);
    buf_fini(&d->bytes);
    free(d);
}

bool diff_save_index(struct diff *d, struct err *e)
{
    return kept_rows_save_index(d->known, saved_change(d), e);
}

void diff_set_position(const struct diff *d, struct position *p, uint64_t last_change)
{
    p->last_change = last_change;
    p->is_learned = d->is_learned;
    p->is_partial = d->is_partial;
    if (p->reads == 0)
        p->reads = 1;
}

/* ---- rows ---- */

/* True if nobody can tell whether the row was there before. */
static bool may_have_been_there(const struct diff *d, const struct chunk *b,
                                const struct chunk_row *row, const struct kept_row *known)
{
    if (b->is_snapshot || (row->op == OP_READ && d->is_partial))
        return false;
    if (known->id == 0)
        return !d->is_learned || d->is_fresh || d->is_partial;
    return known->now.is_in_doubt && d->is_partial;
}

/* What a row is called, given what is known of it. */
static enum op choose_op(const struct diff *d, const struct chunk *b, const struct chunk_row *row,
                         const struct kept_row *known)
{
    bool is_there = known->id != 0 && !known->now.is_in_doubt &&
                    !known->now.is_soft_deleted;

    if (row->op == OP_DELETE || b->is_reread) /* softly; what is read again is read */
        return row->op;
    if (is_there)
        return OP_UPDATE;
    if (may_have_been_there(d, b, row, known))
        return OP_UPSERT;
    return row->op == OP_READ && (b->reads <= 1 || d->is_partial) ? OP_READ : OP_INSERT;
}

/* Counted from 1; a source that began with start = "now" has none. */
static uint64_t reads_of(const struct chunk *b)
{
    return b->reads > 0 ? b->reads : 1;
}

/* True if the row is as it was delivered last, and nobody wants to hear that. A row with the same
 * xid comes again because it is not known whether it came, or since the table is read again. */
static bool is_unchanged(const struct diff *d, const struct chunk *b, const struct chunk_row *row,
                         const struct kept_row *known, uint64_t sum)
{
    if (known->id == 0 || known->now.is_in_doubt || b->is_reread ||
        (known->now.digest != sum &&
         !kept_columns_is_old_digest(d->kept_columns, known->now.digest, b->bytes + row->start,
                                     row->len)))
        return false;
    return known->now.reads < reads_of(b) ||
           (d->config->skips_unchanged && known->now.xid != row->xid);
}

/* Keeps the row before beside row <i>. */
static bool keep_old(struct diff *d, struct chunk *b, size_t i, const struct kept_row_state *old)
{
    buf_clear(&d->bytes);
    if (!kept_columns_map(d->kept_columns, old->columns, old->row, b->rowtype, &d->bytes) ||
        !chunk_add_bytes(b, d->bytes.data, d->bytes.len, &b->sides[i].old_start))
        return false;
    b->sides[i].old_len = (uint32_t)d->bytes.len;
    return true;
}

/* Rows of this type are to come. If they have another key than before, forgets all that is known of
 * rows: the rows that are there will be learned, or, where the snapshot was read (see alter.h), the
 * table is read again. */
static bool enter_rowtype(struct diff *d, struct rowtype *rowtype, struct err *e)
{
    bool is_other_key;

    if (!kept_columns_enter(d->kept_columns, rowtype, &d->columns, &is_other_key, e))
        return false;
    if (!is_other_key)
        return true;
    d->is_learned = false;
    d->is_partial = d->config->start == CONFIG_START_SNAPSHOT;
    return kept_rows_clear(d->known, e);
}

/* Gives a row of the change in hand its state. */
static bool put_row(struct diff *d, struct kept_row *known, const struct kept_row_state *state,
                    uint64_t saved, struct err *e)
{
    bool is_new = known->id == 0;

    return kept_rows_put(d->known, known, state, saved, e) &&
           (!is_new || ARRAY_PUSH(d->added, d->n_added, d->cap_added,
                                  ((struct added){ d->change, known->id })) || err_memory(e));
}

/* Records row <from>, which becomes row <to> of the chunk. *is_wanted: it is to be delivered. */
static bool record_row(struct diff *d, struct chunk *b, size_t from, size_t to, uint64_t saved,
                       bool *is_wanted, struct err *e)
{
    struct chunk_row row = b->rows[from];
    struct kept_row known;
    struct kept_row_state state = { .change = d->change + 1, .xid = row.xid,
                                 .reads = reads_of(b) };

    buf_clear(&d->key);
    if (!chunk_row_key(b, &row, &d->key))
        return err_memory(e);
    if (!kept_rows_find(d->known, chunk_hash(b, &row),
                        (struct store_slice){ d->key.data, d->key.len }, &known, e))
        return false;
    state.digest = kept_columns_digest(d->kept_columns, b->bytes + row.start, row.len);
    *is_wanted = !is_unchanged(d, b, &row, &known, state.digest);
    row.op = choose_op(d, b, &row, &known);
    state.is_soft_deleted = row.op == OP_DELETE;
    d->change++;
    b->rows[to] = row;
    b->sides[to] = (struct chunk_side){ .change = d->change };
    if (*is_wanted && d->config->keeps_old && known.now.row.p != NULL &&
        (row.op == OP_UPDATE || row.op == OP_DELETE) && !keep_old(d, b, to, &known.now))
        return err_memory(e);
    state.columns = d->columns;
    if (d->config->keeps_old)
        state.row = (struct store_slice){ b->bytes + row.start, row.len };
    return put_row(d, &known, &state, saved, e);
}

/* ---- rows of the log ---- */

/* Becomes the row before row <i>, unless the log has that. */
static bool set_old(struct diff *d, struct chunk *b, size_t i, const struct kept_row *known)
{
    return b->sides[i].old_len > 0 || known->id == 0 || known->now.row.p == NULL ||
           keep_old(d, b, i, &known->now);
}

/* True if values that an update of the row left as they were are those that are kept. */
static bool may_fill(const struct diff *d, const struct chunk *b, const struct kept_row *known)
{
    return known->id != 0 && known->now.row.p != NULL && !known->now.is_in_doubt &&
           !b->may_be_altered && known->now.change > kept_columns_altered(d->kept_columns);
}

/* What is kept of the row before row <i> gives what that lacks. */
static bool fill_from(struct diff *d, struct chunk *b, size_t i, const struct kept_row *known)
{
    struct buf mapped;
    bool ok = true;

    buf_init(&mapped, SIZE_MAX / 2);
    if (b->rows[i].op == OP_INSERT && d->may_fill && d->moved_type == b->rowtype &&
        d->moved_at.lsn == b->rows[i].log.lsn)
        ok = kept_fill_row(b, i, (struct store_slice){ d->moved.data, d->moved.len }, &d->bytes);
    else if (b->rows[i].op != OP_INSERT && may_fill(d, b, known))
        ok = kept_columns_map(d->kept_columns, known->now.columns, known->now.row, b->rowtype,
                              &mapped) &&
             kept_fill_row(b, i, (struct store_slice){ mapped.data, mapped.len },
                           &d->bytes);
    buf_fini(&mapped);
    return ok;
}

/* A row was deleted, or does not pass the condition any more. */
static bool record_end(struct diff *d, struct chunk *b, size_t i, struct kept_row *known,
                       uint64_t saved, bool *is_wanted, struct err *e)
{
    struct kept_row_state state = known->now;

    *is_wanted = known->id == 0 ? !d->is_learned || d->is_partial || d->config->where == NULL
                                : !known->now.is_soft_deleted; /* which was told */
    d->may_fill = false;
    if (known->id == 0)
        return true;
    if (!set_old(d, b, i, known))
        return err_memory(e);
    if (b->sides[i].old_len > 0) {
        buf_clear(&d->moved);
        buf_add(&d->moved, b->bytes + b->sides[i].old_start, b->sides[i].old_len);
        d->moved_at = b->rows[i].log;
        rowtype_unref(d->moved_type);
        d->moved_type = rowtype_ref(b->rowtype);
        d->may_fill = buf_ok(&d->moved) && may_fill(d, b, known);
    }
    state.change = d->change;
    state.is_deleted = true;
    return kept_rows_put(d->known, known, &state, saved, e);
}

/* Records row <from>, which becomes row <to> of the chunk, as record_row does. */
static bool record_log_row(struct diff *d, struct chunk *b, size_t from, size_t to, uint64_t saved,
                           bool *is_wanted, struct err *e)
{
    struct chunk_row *row = &b->rows[to];
    struct kept_row known;
    struct kept_row_state state = { .change = ++d->change, .reads = reads_of(b) };

    *row = b->rows[from];
    b->sides[to] = b->sides[from];
    b->sides[to].change = d->change;
    *is_wanted = true;
    buf_clear(&d->key);
    if (!chunk_row_key(b, row, &d->key))
        return err_memory(e);
    if (!kept_rows_find(d->known, chunk_hash(b, row),
                        (struct store_slice){ d->key.data, d->key.len }, &known, e))
        return false;
    if (row->op == OP_DELETE && row->is_key_only)
        return record_end(d, b, to, &known, saved, is_wanted, e);
    if (row->op == OP_UPSERT && d->is_learned && !d->is_partial)
        row->op = known.id != 0 && !known.now.is_soft_deleted ? OP_UPDATE : OP_INSERT;
    if ((row->has_unknown && !fill_from(d, b, to, &known)) ||
        (row->op != OP_INSERT && !set_old(d, b, to, &known)))
        return err_memory(e);
    d->may_fill = false;
    state.xid = row->xid;
    state.digest = kept_columns_digest(d->kept_columns, b->bytes + row->start, row->len);
    state.is_soft_deleted = row->op == OP_DELETE;
    state.columns = d->columns;
    if (!row->has_unknown)
        state.row = (struct store_slice){ b->bytes + row->start, row->len };
    return put_row(d, &known, &state, saved, e);
}

static bool commit(struct diff *d, bool ok, struct err *e)
{
    if (ok && kept_rows_flush(d->known, e) && store_commit(d->store, e))
        return true;
    store_rollback(d->store);
    return false;
}

/* Row <i> is recorded next: fetches what rows after it will need. (Another processor has written
 * the chunk, and where a row stands in the index is random. That was a fifth of the time.) */
static void expect_rows(const struct diff *d, const struct chunk *b, size_t i)
{
    if (i + 2 * AHEAD < b->n_rows)
        __builtin_prefetch(b->bytes + b->rows[i + 2 * AHEAD].start - sizeof(uint64_t));
    if (i + AHEAD < b->n_rows)
        kept_rows_expect(d->known, chunk_hash(b, &b->rows[i + AHEAD]));
}

bool diff_record(struct diff *d, struct chunk *b, struct err *e)
{
    uint64_t saved = saved_change(d);
    bool ok, is_wanted = true;
    size_t n = 0;

    if (b->is_recorded || b->n_rows == 0 || (b->is_log && !b->has_hashes))
        return true;
    b->is_recorded = true;
    if (b->sides == NULL && (b->sides = calloc(b->n_rows, sizeof *b->sides)) == NULL)
        return err_memory(e);
    d->n_added = 0;
    if (!store_begin(d->store, e))
        return false;
    ok = enter_rowtype(d, b->rowtype, e) && kept_rows_purge(d->known, saved, e);
    for (size_t i = 0; ok && i < b->n_rows; i++) {
        expect_rows(d, b, i);
        ok = b->is_log ? record_log_row(d, b, i, n, saved, &is_wanted, e)
                       : record_row(d, b, i, n, saved, &is_wanted, e);
        n += is_wanted;
    }
    if (ok && b->is_log && b->may_be_altered)
        ok = kept_columns_set_altered(d->kept_columns, d->change, e);
    b->n_rows = ok ? n : b->n_rows;
    return commit(d, ok, e);
}

bool diff_begin_anew(struct diff *d, struct err *e)
{
    d->is_learned = d->is_partial = true;
    return store_begin(d->store, e) && commit(d, kept_rows_clear(d->known, e), e);
}

bool diff_undo_after(struct diff *d, uint64_t change, struct err *e)
{
    bool ok = true;

    if (d->n_added == 0 || d->added[d->n_added - 1].change <= change)
        return true;
    if (!store_begin(d->store, e))
        return false;
    for (; ok && d->n_added > 0 && d->added[d->n_added - 1].change > change; d->n_added--) {
        struct kept_row row;

        ok = kept_rows_get(d->known, d->added[d->n_added - 1].id, &row, e) &&
             kept_rows_forget(d->known, &row, e);
    }
    return commit(d, ok, e);
}

void diff_end_batch(struct diff *d, bool is_all, struct position *p)
{
    d->is_fresh = false;
    d->is_partial = d->is_partial && !is_all;
    diff_set_position(d, p, d->change);
}

/* ---- tallies and keys ---- */

/* Deletes of rows of this type are to be found. */
static bool find_deletes(struct diff *d, struct rowtype *rowtype, struct err *e)
{
    rowtype_unref(d->rowtype);
    d->rowtype = rowtype_ref(rowtype);
    d->delete = (struct chunk_row){ .op = OP_DELETE, .is_key_only = true };
    return store_begin(d->store, e) && commit(d, enter_rowtype(d, d->rowtype, e), e);
}

bool diff_compare(struct diff *d, struct message_tally *tally, const struct tally_request **asked,
                  struct err *e)
{
    struct tally *counts = tally->counts;

    if (!find_deletes(d, tally->rowtype, e))
        return false;
    d->is_truncated = counts->is_truncated && kept_rows_count(d->known) > 0;
    tally->counts = NULL; /* moves */
    return missing_compare(d->missing, counts, !d->is_learned, asked, e);
}

bool diff_truncate(struct diff *d, struct rowtype *rowtype, const struct message_log *log,
                   struct err *e)
{
    if (!find_deletes(d, rowtype, e))
        return false;
    d->delete.xid = log->xid;
    d->delete.log = (struct chunk_log){ .lsn = log->lsn, .us = log->us,
                                        .nth = (uint32_t)log->count };
    return missing_find_all(d->missing, e);
}

void diff_do_without_keys(struct diff *d)
{
    missing_do_without_keys(d->missing);
}

/* A row that was there before deletes were looked for. */
static bool learn(struct diff *d, const struct chunk *b, const struct chunk_row *row,
                  struct kept_row *known, uint64_t saved, struct err *e)
{
    struct kept_row_state state = { .xid = row->xid, .change = ++d->change,
                                 .reads = reads_of(b) };

    if (b->rowtype != NULL) { /* it came whole */
        state.digest = kept_columns_digest(d->kept_columns, b->bytes + row->start, row->len);
        state.columns = d->columns;
        if (d->config->keeps_old)
            state.row = (struct store_slice){ b->bytes + row->start, row->len };
    }
    return kept_rows_put(d->known, known, &state, saved, e);
}

static bool take_key(struct diff *d, const struct chunk *b, const struct chunk_row *row,
                     uint64_t saved, struct err *e)
{
    struct store_slice key = { b->bytes + row->start, row->len };
    struct kept_row known;

    if (b->rowtype != NULL) {
        buf_clear(&d->key);
        if (!chunk_row_key(b, row, &d->key))
            return err_memory(e);
        key = (struct store_slice){ d->key.data, d->key.len };
    }
    if (!kept_rows_find(d->known, chunk_hash(b, row), key, &known, e))
        return false;
    if (known.id != 0)
        missing_take_key(d->missing, (uint32_t)known.id);
    else if (missing_is_learning(d->missing) && row->op == OP_READ)
        return learn(d, b, row, &known, saved, e);
    return true;
}

bool diff_take_keys(struct diff *d, const struct chunk *b, struct err *e)
{
    uint64_t saved = saved_change(d);
    bool ok = true;

    if (!missing_is_asking(d->missing))
        return true;
    if (!store_begin(d->store, e))
        return false;
    for (size_t i = 0; ok && i < b->n_rows; i++)
        ok = take_key(d, b, &b->rows[i], saved, e);
    if (!commit(d, ok, e))
        return false;
    if (!b->ends)
        return true;
    if (!missing_end_keys(d->missing, e))
        return false;
    d->is_fresh = !d->is_learned;
    d->is_learned = true;
    return true;
}

/* ---- deletes ---- */

bool diff_take_truncated(struct diff *d)
{
    bool was = d->is_truncated;

    d->is_truncated = false;
    return was;
}

/* Builds a row of which only the key is there. */
static bool put_key_only(struct buf *b, const struct rowtype *s, struct store_slice key)
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

/* Records that row <id> was deleted, and adds that to <b>. */
static bool record_delete(struct diff *d, struct chunk *b, uint32_t id, uint64_t saved,
                          struct err *e)
{
    struct kept_row known;
    struct kept_row_state state;
    struct chunk_row row = d->delete;
    struct chunk_side *side = &b->sides[b->n_rows];

    if (!kept_rows_get(d->known, id, &known, e))
        return false;
    state = known.now;
    state.change = ++d->change;
    state.is_deleted = true;
    if (!known.now.is_soft_deleted) { /* which was reported */
        if (row.log.lsn == 0)
            row.xid = known.now.xid;
        if (!put_key_only(&d->bytes, d->rowtype, known.key))
            return err_memory(e);
        row.len = (uint32_t)d->bytes.len;
        if (!chunk_add(b, &row, d->bytes.data))
            return err_memory(e);
        *side = (struct chunk_side){ .change = d->change };
        if (d->config->keeps_old && known.now.row.p != NULL &&
            !keep_old(d, b, b->n_rows - 1, &known.now))
            return err_memory(e);
    }
    return kept_rows_put(d->known, &known, &state, saved, e);
}

bool diff_next_deletes(struct diff *d, struct chunk **chunk, struct err *e)
{
    uint64_t saved = saved_change(d);
    const uint32_t *ids;
    size_t n = missing_take(d->missing, MAX_DELETES, &ids);
    struct chunk *b;
    bool ok;

    *chunk = NULL;
    if (n == 0)
        return true;
    b = chunk_new();
    if (b == NULL || (b->sides = calloc(n, sizeof *b->sides)) == NULL) {
        chunk_free(b);
        return err_memory(e);
    }
    b->rowtype = rowtype_ref(d->rowtype);
    b->is_log = d->delete.log.lsn != 0;
    ok = store_begin(d->store, e);
    if (ok) {
        ok = kept_rows_purge(d->known, saved, e);
        for (size_t i = 0; ok && i < n; i++)
            ok = record_delete(d, b, ids[i], saved, e);
        ok = commit(d, ok, e);
    }
    if (!ok) {
        chunk_free(b);
        return false;
    }
    *chunk = b;
    return true;
}
