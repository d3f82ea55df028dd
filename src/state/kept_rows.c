/* kept_rows.c -- the rows of a source that were delivered and not deleted since.
 * SPDX-License-Identifier: MIT */
#include "state/kept_rows.h"

#include "base/array.h"
#include "base/hash.h"
#include "state/kept_index_file.h"
#include "state/kept_table.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_LISTED 65536 /* rows that are deleted and still in the file; beyond, it is searched */

/* A number of a row. */
struct listed {
    uint64_t change;
    int64_t id;
};

struct list {
    struct listed *v;
    size_t n, cap;
};

struct kept_rows {
    struct store *store; /* borrowed */
    char name[32];       /* of the table */
    struct kept_table *table;
    struct kept_index index;
    struct kept_index_file file; /* what of <index> is saved */
    struct list deleted;    /* in the order of their changes */
    bool has_more_deleted;  /* than are listed */
    struct buf older;       /* scratch */
    bool has_saved_index;   /* of the rows as they are, see kept_index_file.h */
    bool has_no_index;      /* in the file: the one that was there was dropped */
    unsigned rollbacks;     /* of the store, when that was done */
};

static bool add_listed(struct list *l, uint64_t change, int64_t id, struct err *e)
{
    return ARRAY_PUSH(l->v, l->n, l->cap, (struct listed){ change, id }) || err_memory(e);
}

/* ---- rows in the file ---- */

bool kept_rows_get(struct kept_rows *k, int64_t id, struct kept_row *row, struct err *e)
{
    return kept_table_get(k->table, id, row, e);
}

/* Before rows change: the saved index is none of them any more, nor will it ever be, whether or not
 * it was one when the file was opened. (A transaction that dropped it may have been undone.) */
static bool begin_change(struct kept_rows *k, struct err *e)
{
    if (k->has_no_index && k->rollbacks == store_rollbacks(k->store))
        return true;
    k->rollbacks = store_rollbacks(k->store);
    k->has_saved_index = false;
    k->has_no_index = kept_index_file_drop(&k->file, e);
    return k->has_no_index;
}

static void count_row(struct kept_rows *k, const struct kept_row *r)
{
    if (r->id > k->file.last_id)
        k->file.last_id = r->id;
    if (r->now.change > k->file.last_change)
        k->file.last_change = r->now.change;
}

static bool write_row(struct kept_rows *k, const struct kept_row *r, struct err *e)
{
    if (!begin_change(k, e) || !kept_table_put(k->table, r, e))
        return false;
    count_row(k, r);
    return true;
}

static bool drop_row(struct kept_rows *k, int64_t id, struct err *e)
{
    return begin_change(k, e) && kept_table_drop(k->table, id, e);
}

/* ---- opening ---- */

/* What is read when there is no saved index. */
struct reading {
    struct kept_rows *rows;
    uint64_t last_change;
    bool is_exact;
    struct list undone; /* rows that are not as they were at that change, or are deleted */
};

/* A kept_table_visit. */
static bool add_row(void *arg, const struct kept_row *r, struct err *e)
{
    struct reading *reading = arg;
    struct kept_rows *k = reading->rows;

    count_row(k, r);
    if (r->now.change > reading->last_change || r->now.is_deleted)
        return add_listed(&reading->undone, r->now.change, r->id, e);
    if (!kept_index_make_room(&k->index, e))
        return false;
    kept_index_add(&k->index, r->hash, r->id);
    return true;
}

/* Writes a row that was undone, without the states before. */
static bool restore(struct kept_rows *k, struct kept_row *r, struct err *e)
{
    if (!kept_index_make_room(&k->index, e))
        return false;
    kept_index_add(&k->index, r->hash, r->id);
    r->older = (struct store_slice){ NULL, 0 };
    return write_row(k, r, e);
}

/* Gives row <id> the state that it had at the change <last_change>. One that was not there then
 * may have been delivered or not: it is put on the list <doubtful>, unless it is known that it was
 * not. */
static bool undo(struct kept_rows *k, int64_t id, const struct reading *reading,
                 struct list *doubtful, struct err *e)
{
    uint64_t last_change = reading->last_change;
    struct kept_row r;

    if (!kept_rows_get(k, id, &r, e))
        return false;
    while (r.now.change > last_change && kept_row_step_back(&r))
        ;
    if (r.now.change > last_change && reading->is_exact)
        return drop_row(k, id, e);
    if (r.now.change > last_change || (r.now.is_in_doubt && !r.now.is_deleted))
        return add_listed(doubtful, 0, id, e);
    return r.now.is_deleted ? drop_row(k, id, e) : restore(k, &r, e);
}

/* A row that may have been delivered or not. It may have come in the place of one that was reported
 * deleted: now that this is undone, the older one stays. */
static bool undo_doubtful(struct kept_rows *k, int64_t id, struct err *e)
{
    struct kept_row r, other;
    char *key;
    bool ok;

    if (!kept_rows_get(k, id, &r, e))
        return false;
    if ((key = malloc(r.key.len + 1)) == NULL) /* kept_rows_find reads other rows */
        return err_memory(e);
    memcpy(key, r.key.p, r.key.len);
    ok = kept_rows_find(k, r.hash, (struct store_slice){ key, r.key.len }, &other, e);
    free(key);
    if (!ok)
        return false;
    if (other.id != 0)
        return drop_row(k, id, e);
    if (!kept_rows_get(k, id, &r, e))
        return false;
    kept_row_set_in_doubt(&r.now);
    return restore(k, &r, e);
}

static bool undo_all(struct kept_rows *k, const struct reading *reading, struct err *e)
{
    struct list doubtful = { NULL, 0, 0 };
    bool ok = true;

    if (reading->undone.n == 0)
        return true;
    if (!store_begin(k->store, e))
        return false;
    for (size_t i = 0; ok && i < reading->undone.n; i++)
        ok = undo(k, reading->undone.v[i].id, reading, &doubtful, e);
    for (size_t i = 0; ok && i < doubtful.n; i++)
        ok = undo_doubtful(k, doubtful.v[i].id, e);
    free(doubtful.v);
    if (ok && kept_table_flush(k->table, e) && store_commit(k->store, e))
        return true;
    store_rollback(k->store);
    return false;
}

/* Reads all rows, and undoes what was written after the change <last_change>. */
static bool read_all(struct kept_rows *k, uint64_t last_change, bool is_exact, struct err *e)
{
    struct reading reading = { .rows = k, .last_change = last_change, .is_exact = is_exact };
    bool ok = kept_table_each(k->table, add_row, &reading, e) && undo_all(k, &reading, e);

    free(reading.undone.v);
    return ok;
}

struct kept_rows *kept_rows_open(struct store *store, const char *source, uint64_t last_change,
                                 bool is_exact, struct err *e)
{
    struct kept_rows *k = calloc(1, sizeof *k);
    int64_t last_row;

    if (k == NULL) {
        err_memory(e);
        return NULL;
    }
    k->store = store;
    buf_init(&k->older, SIZE_MAX / 2);
    snprintf(k->name, sizeof k->name, "known_%016" PRIx64,
             hash_words(HASH_START, source, strlen(source)));
    k->file = (struct kept_index_file){ .store = store, .table = k->name, .index = &k->index };
    k->table = kept_table_open(store, k->name, e);
    if (k->table != NULL && kept_table_last(k->table, &last_row, e) &&
        kept_index_file_load(&k->file, last_row, last_change, &k->has_saved_index, e) &&
        (k->has_saved_index || read_all(k, last_change, is_exact, e)))
        return k;
    kept_rows_close(k);
    return NULL;
}

void kept_rows_close(struct kept_rows *k)
{
    if (k == NULL)
        return;
    kept_table_close(k->table);
    buf_fini(&k->older);
    free(k->deleted.v);
    kept_index_fini(&k->index);
    free(k);
}

/* Purges in one transaction. */
static bool purge_all(struct kept_rows *k, uint64_t saved, struct err *e)
{
    if (!store_begin(k->store, e))
        return false;
    if (kept_rows_purge(k, saved, e) && kept_rows_flush(k, e) && store_commit(k->store, e))
        return true;
    store_rollback(k->store);
    return false;
}

bool kept_rows_flush(struct kept_rows *k, struct err *e)
{
    return kept_table_flush(k->table, e);
}

bool kept_rows_save_index(struct kept_rows *k, uint64_t saved, struct err *e)
{
    if (k->has_saved_index)
        return true;
    if (k->deleted.n > 0 && !purge_all(k, saved, e))
        return false;
    if (k->deleted.n > 0 || k->has_more_deleted)
        return true; /* these rows are in no index: only a reading of all rows finds them */
    k->has_no_index = false;
    k->has_saved_index = kept_index_file_save(&k->file, e);
    return k->has_saved_index;
}

bool kept_rows_clear(struct kept_rows *k, struct err *e)
{
    if (!begin_change(k, e) || !kept_table_clear(k->table, e))
        return false;
    kept_index_fini(&k->index);
    k->deleted.n = 0;
    k->has_more_deleted = false;
    return true;
}

size_t kept_rows_count(const struct kept_rows *k)
{
    return k->index.n;
}

const struct tally_bucket *kept_rows_buckets(const struct kept_rows *k)
{
    return k->index.buckets;
}

/* ---- finding ---- */

#define NONE SIZE_MAX

/* Where rows with this tag may stand, one after the other. */
static size_t occupied(const struct kept_rows *k, size_t i)
{
    return k->index.v[i].id != 0 ? i : NONE;
}

static size_t first(const struct kept_rows *k, uint32_t tag)
{
    return k->index.n > 0 ? occupied(k, kept_index_home(&k->index, tag)) : NONE;
}

static size_t after(const struct kept_rows *k, size_t i)
{
    return occupied(k, kept_index_next(&k->index, i));
}

void kept_rows_expect(const struct kept_rows *k, uint64_t hash)
{
    if (k->index.n_v > 0)
        __builtin_prefetch(&k->index.v[kept_index_home(&k->index, (uint32_t)(hash >> 32))], 1);
    __builtin_prefetch(&k->index.buckets[hash >> TALLY_SHIFT], 1);
}

bool kept_rows_find(struct kept_rows *k, uint64_t hash, struct store_slice key,
                    struct kept_row *row, struct err *e)
{
    uint32_t tag = (uint32_t)(hash >> 32);

    for (size_t i = first(k, tag); i < NONE; i = after(k, i)) {
        if (k->index.v[i].tag != tag)
            continue;
        if (!kept_rows_get(k, k->index.v[i].id, row, e))
            return false;
        if (row->hash == hash && row->key.len == key.len &&
            memcmp(row->key.p, key.p, key.len) == 0)
            return true;
    }
    *row = (struct kept_row){ .hash = hash, .key = key };
    return true;
}

bool kept_rows_count_hash(struct kept_rows *k, uint64_t hash, size_t *n, uint32_t *id,
                          struct err *e)
{
    uint32_t tag = (uint32_t)(hash >> 32);
    struct kept_row row;

    *n = 0;
    for (size_t i = first(k, tag); i < NONE; i = after(k, i)) {
        if (k->index.v[i].tag != tag)
            continue;
        if (!kept_rows_get(k, k->index.v[i].id, &row, e))
            return false;
        if (row.hash != hash)
            continue;
        ++*n;
        *id = k->index.v[i].id;
    }
    return true;
}

bool kept_rows_each(const struct kept_rows *k, const unsigned char *buckets, kept_rows_visit *visit,
                    void *arg)
{
    for (size_t i = 0; i < k->index.n_v; i++) {
        const struct kept_index_entry *s = &k->index.v[i];
        uint32_t bucket = s->tag >> (TALLY_SHIFT - 32);

        if (s->id != 0 && (buckets[bucket / 8] >> bucket % 8 & 1) && !visit(arg, s->tag, s->id))
            return false;
    }
    return true;
}

/* ---- changing ---- */

static bool list_deleted(struct kept_rows *k, uint64_t change, int64_t id, struct err *e)
{
    if (k->deleted.n < MAX_LISTED)
        return add_listed(&k->deleted, change, id, e);
    k->has_more_deleted = true;
    return true;
}

/* A row that is not known yet. */
static bool add_new(struct kept_rows *k, struct kept_row *row, struct err *e)
{
    if (k->file.last_id >= UINT32_MAX)
        return err_set(e, ERR_STATE, "the state file has numbered four billion rows of a "
                       "source; start it anew with --reset");
    if (!kept_index_make_room(&k->index, e))
        return false;
    row->id = k->file.last_id + 1;
    row->older = (struct store_slice){ NULL, 0 };
    if (!write_row(k, row, e))
        return false;
    kept_index_add(&k->index, row->hash, row->id);
    return true;
}

bool kept_rows_put(struct kept_rows *k, struct kept_row *row, const struct kept_row_state *to,
                   uint64_t saved, struct err *e)
{
    if (row->id == 0) {
        row->now = *to;
        if (!add_new(k, row, e))
            return false;
    } else {
        buf_clear(&k->older);
        kept_row_put_older(row, saved, &k->older);
        if (!buf_ok(&k->older))
            return err_memory(e);
        row->older = (struct store_slice){ k->older.data, k->older.len };
        row->now = *to;
        if (!write_row(k, row, e))
            return false;
    }
    if (!to->is_deleted)
        return true;
    kept_index_drop(&k->index, row->hash, row->id);
    return list_deleted(k, to->change, row->id, e);
}

bool kept_rows_forget(struct kept_rows *k, const struct kept_row *row, struct err *e)
{
    kept_index_drop(&k->index, row->hash, row->id);
    return drop_row(k, row->id, e);
}

bool kept_rows_purge(struct kept_rows *k, uint64_t saved, struct err *e)
{
    size_t n = 0;

    if (k->has_more_deleted && k->deleted.n > 0 &&
        k->deleted.v[k->deleted.n - 1].change <= saved) {
        k->deleted.n = 0;
        k->has_more_deleted = false; /* what is left of them is dropped when the file is opened */
        return begin_change(k, e) && kept_table_drop_deleted(k->table, saved, e);
    }
    while (n < k->deleted.n && k->deleted.v[n].change <= saved)
        if (!drop_row(k, k->deleted.v[n++].id, e))
            return false;
    if (n == 0)
        return true;
    memmove(k->deleted.v, k->deleted.v + n, (k->deleted.n - n) * sizeof *k->deleted.v);
    k->deleted.n -= n;
    return true;
}
