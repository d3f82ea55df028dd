/* kept_rows.c -- the rows of a source that were delivered and not deleted since.
 * SPDX-License-Identifier: MIT */
#include "state/kept_rows.h"

#include "base/array.h"
#include "base/hash.h"
#include "state/kept_index_file.h"

#include <inttypes.h>
#include <sqlite3.h>
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
    char table[32];
    struct kept_index index;
    struct kept_index_file_facts facts;
    struct list deleted;    /* in the order of their changes */
    bool has_more_deleted;  /* than are listed */
    struct buf held;     /* what was handed out: rows are written while it is needed */
    struct buf older;    /* scratch */
    bool has_image;      /* of the rows as they are, see kept_index_file.h */
    unsigned rollbacks;  /* of the store, when the image was taken away */
    sqlite3_stmt *get, *put, *drop, *clear, *drop_deleted;
};

/* ---- states before ---- */

/* Numbers in the file: the flags, and above them how often the snapshot had been begun. */
enum { IN_DOUBT = 1, DELETED = 2, SOFT_DELETED = 4, FLAG_BITS = 3 };

static uint64_t flag_bits(const struct kept_row_state *s)
{
    return (s->is_in_doubt ? IN_DOUBT : 0) | (s->is_deleted ? DELETED : 0) |
           (s->is_soft_deleted ? SOFT_DELETED : 0);
}

static uint64_t flags_of(const struct kept_row_state *s)
{
    return flag_bits(s) | s->reads << FLAG_BITS;
}

static void take_flags(struct kept_row_state *s, uint64_t flags)
{
    s->is_in_doubt = (flags & IN_DOUBT) != 0;
    s->is_deleted = (flags & DELETED) != 0;
    s->is_soft_deleted = (flags & SOFT_DELETED) != 0;
    s->reads = flags >> FLAG_BITS;
}

static void set_in_doubt(struct kept_row_state *s)
{
    s->is_in_doubt = true;
    s->is_deleted = s->is_soft_deleted = false;
}

/* In the column `older` a state is numbers of seven bits a byte, lowest first, then its row. */
static void put_number(struct buf *b, uint64_t n)
{
    for (; n > 127; n >>= 7)
        buf_putc(b, (char)(n | 128));
    buf_putc(b, (char)n);
}

static bool take_number(struct store_slice *s, uint64_t *n)
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

static void put_older(struct buf *b, const struct kept_row_state *s)
{
    put_number(b, s->change);
    put_number(b, s->xid);
    put_number(b, s->digest);
    put_number(b, flags_of(s));
    put_number(b, s->row.p != NULL ? s->row.len + 1 : 0);
    if (s->row.p == NULL)
        return;
    put_number(b, s->columns);
    buf_add(b, s->row.p, s->row.len);
}

/* Takes the newest state off <older>. False: there is none. */
static bool take_older(struct store_slice *older, struct kept_row_state *s)
{
    uint64_t flags, len, columns = 0;

    *s = (struct kept_row_state){ 0 };
    if (older->p == NULL || !take_number(older, &s->change) || !take_number(older, &s->xid) ||
        !take_number(older, &s->digest) || !take_number(older, &flags) ||
        !take_number(older, &len) || (len > 0 && !take_number(older, &columns)) ||
        (len > 0 && len - 1 > older->len))
        return false;
    take_flags(s, flags);
    s->columns = (uint32_t)columns;
    if (len > 0) {
        s->row = (struct store_slice){ older->p, len - 1 };
        older->p += len - 1;
        older->len -= len - 1;
    }
    return true;
}

/* What is to stand in `older` when <row> gets another state: the one that it has and those
 * before, back to the newest that was saved. */
static bool make_older(struct kept_rows *k, const struct kept_row *row, uint64_t saved,
                       struct err *e)
{
    struct kept_row_state s = row->now;
    struct store_slice rest = row->older;

    buf_clear(&k->older);
    do {
        put_older(&k->older, &s);
    } while (s.change > saved && take_older(&rest, &s));
    return buf_ok(&k->older) || err_memory(e);
}

/* ---- rows in the file ---- */

/* A flipped bit must not pass for a row. (Columns are no part of it: to open the file
 * they need not be read.) */
static int32_t sum_row(const struct kept_row *r)
{
    const uint64_t numbers[] = { r->hash, r->now.change, r->now.xid, r->now.digest, r->now.reads,
                                 flag_bits(&r->now) };
    uint64_t h = hash_words(hash_words(HASH_START, numbers, sizeof numbers), r->key.p, r->key.len);

    return (int32_t)(uint32_t)(h ^ h >> 32);
}

#define COLUMNS "id, hash, xid, digest, flags, note, sum, key, form"

static struct store_slice read_slice(sqlite3_stmt *st, int i)
{
    struct store_slice s = { (const char *)sqlite3_column_blob(st, i),
                             (size_t)sqlite3_column_bytes(st, i) };

    if (s.p == NULL && sqlite3_column_type(st, i) != SQLITE_NULL)
        s.p = "";
    return s;
}

/* A row of `SELECT COLUMNS, row, older`. */
static bool read_row(struct kept_rows *k, sqlite3_stmt *st, struct kept_row *r, struct err *e)
{
    r->id = sqlite3_column_int64(st, 0);
    r->hash = (uint64_t)sqlite3_column_int64(st, 1);
    r->now.xid = (uint64_t)sqlite3_column_int64(st, 2);
    r->now.digest = (uint64_t)sqlite3_column_int64(st, 3);
    take_flags(&r->now, (uint64_t)sqlite3_column_int64(st, 4));
    r->now.change = (uint64_t)sqlite3_column_int64(st, 5);
    r->key = read_slice(st, 7);
    r->now.columns = (uint32_t)sqlite3_column_int64(st, 8);
    r->now.row = read_slice(st, 9);
    r->older = read_slice(st, 10);
    /* for the ids see struct kept_index_entry */
    return (r->id >= 1 && r->id <= UINT32_MAX && r->key.p != NULL &&
            (int32_t)sqlite3_column_int64(st, 6) == sum_row(r)) ||
           store_damaged(k->store, "rows", e);
}

/* Copies what <r> points to, since a write may change what SQLite has handed out. */
static bool hold(struct kept_rows *k, struct kept_row *r, struct err *e)
{
    struct store_slice *slices[] = { &r->key, &r->now.row, &r->older };
    size_t at = 0;

    buf_clear(&k->held);
    for (size_t i = 0; i < 3; i++)
        buf_add(&k->held, slices[i]->p, slices[i]->p != NULL ? slices[i]->len : 0);
    sqlite3_reset(k->get);
    if (!buf_ok(&k->held))
        return err_memory(e);
    for (size_t i = 0; i < 3; i++)
        if (slices[i]->p != NULL) {
            slices[i]->p = k->held.data + at;
            at += slices[i]->len;
        }
    return true;
}

bool kept_rows_get(struct kept_rows *k, int64_t id, struct kept_row *r, struct err *e)
{
    sqlite3_reset(k->get);
    switch (sqlite3_bind_int64(k->get, 1, id) == SQLITE_OK ? sqlite3_step(k->get)
                                                           : SQLITE_ERROR) {
    case SQLITE_ROW:
        return read_row(k, k->get, r, e) && hold(k, r, e);
    case SQLITE_DONE:
        return store_damaged(k->store, "rows", e);
    default:
        return store_fail(k->store, e);
    }
}

/* Before rows change: the image is one of them no more. (A transaction that took it away may have
 * been undone.) */
static bool begin_change(struct kept_rows *k, struct err *e)
{
    if (!k->has_image && k->rollbacks == store_rollbacks(k->store))
        return true;
    k->rollbacks = store_rollbacks(k->store);
    k->has_image = false;
    return kept_index_file_drop(k->store, k->table, e);
}

static bool step(struct kept_rows *k, sqlite3_stmt *st, struct err *e)
{
    bool ok = sqlite3_step(st) == SQLITE_DONE || store_fail(k->store, e);

    sqlite3_reset(st);
    sqlite3_clear_bindings(st);
    return ok;
}

static bool bind_slice(sqlite3_stmt *st, int i, struct store_slice s)
{
    return s.p == NULL || sqlite3_bind_blob64(st, i, s.p, s.len, SQLITE_STATIC) == SQLITE_OK;
}

static bool bind_number(sqlite3_stmt *st, int i, uint64_t n)
{
    return sqlite3_bind_int64(st, i, (sqlite3_int64)n) == SQLITE_OK;
}

static void add_facts(struct kept_rows *k, const struct kept_row *r)
{
    if (r->id > k->facts.last_id)
        k->facts.last_id = r->id;
    if (r->now.change > k->facts.last_change)
        k->facts.last_change = r->now.change;
}

/* Writes a row, in the place of the one with its id. */
static bool write_row(struct kept_rows *k, const struct kept_row *r, struct err *e)
{
    sqlite3_stmt *st = k->put;

    if (!begin_change(k, e))
        return false;
    add_facts(k, r);
    /* what could not be bound would be NULL, a row too long for SQLite for one */
    if (bind_number(st, 1, (uint64_t)r->id) && bind_number(st, 2, r->hash) &&
        bind_number(st, 3, r->now.xid) && bind_number(st, 4, r->now.digest) &&
        bind_number(st, 5, flags_of(&r->now)) &&
        bind_number(st, 6, r->now.change) && bind_number(st, 7, (uint64_t)(int64_t)sum_row(r)) &&
        bind_slice(st, 8, r->key) &&
        (r->now.row.p == NULL || bind_number(st, 9, r->now.columns)) &&
        bind_slice(st, 10, r->now.row) && bind_slice(st, 11, r->older))
        return step(k, st, e);
    return store_fail(k->store, e);
}

static bool drop_row(struct kept_rows *k, int64_t id, struct err *e)
{
    return begin_change(k, e) &&
           (bind_number(k->drop, 1, (uint64_t)id) ? step(k, k->drop, e) : store_fail(k->store, e));
}

/* ---- opening ---- */

static bool add_listed(struct list *l, uint64_t change, int64_t id, struct err *e)
{
    return ARRAY_PUSH(l->v, l->n, l->cap, (struct listed){ change, id }) || err_memory(e);
}

static bool prepare(struct kept_rows *k, const char *format, sqlite3_stmt **st, struct err *e)
{
    char sql[400];

    sqlite3_snprintf(sizeof sql, sql, format, k->table);
    return sqlite3_prepare_v3(store_sqlite(k->store), sql, -1, SQLITE_PREPARE_PERSISTENT, st,
                              NULL) == SQLITE_OK || store_fail(k->store, e);
}

static bool make_table(struct kept_rows *k, struct err *e)
{
    sqlite3_stmt *st = NULL;
    bool ok = prepare(k, "CREATE TABLE IF NOT EXISTS %s (id INTEGER PRIMARY KEY, hash INTEGER NOT"
                      " NULL, xid INTEGER NOT NULL, digest INTEGER NOT NULL, flags INTEGER NOT"
                      " NULL, note INTEGER NOT NULL, sum INTEGER NOT NULL, key BLOB NOT NULL,"
                      " form INTEGER, row BLOB, older BLOB)", &st, e) &&
              step(k, st, e);

    sqlite3_finalize(st);
    return ok;
}

/* Reads all rows, where there is no image. Those that are not as they were at the change
 * <last_change>, or are deleted, are put on the list <odd> instead of the index. */
static bool load(struct kept_rows *k, uint64_t last_change, struct list *odd, struct err *e)
{
    sqlite3_stmt *st = NULL;
    bool ok = prepare(k, "SELECT " COLUMNS ", NULL, NULL FROM %s ORDER BY id", &st, e);
    int got = SQLITE_DONE;

    while (ok && (got = sqlite3_step(st)) == SQLITE_ROW) {
        struct kept_row r;

        ok = read_row(k, st, &r, e);
        if (!ok)
            break;
        add_facts(k, &r);
        if (r.now.change > last_change || r.now.is_deleted) {
            ok = add_listed(odd, r.now.change, r.id, e);
        } else {
            ok = kept_index_make_room(&k->index, e);
            if (ok)
                kept_index_add(&k->index, r.hash, r.id);
        }
    }
    if (ok && got != SQLITE_DONE)
        ok = store_fail(k->store, e);
    sqlite3_finalize(st);
    return ok;
}

/* Row <id> as it was at the change <last_change>. <is_late>: rows that then were not there are
 * looked at now, others were before. (A row may have come in the place of one that was reported
 * deleted: where that is undone, the older one stays.) */
static bool undo(struct kept_rows *k, int64_t id, uint64_t last_change, bool is_late, bool *is_done,
                 struct err *e)
{
    struct kept_row r, other;
    struct kept_row_state before;
    struct store_slice key;
    bool ok;

    if (!kept_rows_get(k, id, &r, e))
        return false;
    while (r.now.change > last_change && take_older(&r.older, &before))
        r.now = before;
    if (r.now.change > last_change) {
        r.now.change = 0;
        set_in_doubt(&r.now);
    }
    *is_done = r.now.is_in_doubt == is_late;
    if (!*is_done)
        return true;
    if (r.now.is_deleted)
        return drop_row(k, id, e);
    if (is_late) {
        char *copy = malloc(r.key.len + 1); /* kept_rows_find reads other rows by the way */

        if (copy == NULL)
            return err_memory(e);
        memcpy(copy, r.key.p, r.key.len);
        key = (struct store_slice){ copy, r.key.len };
        ok = kept_rows_find(k, r.hash, key, &other, e);
        free(copy);
        if (!ok)
            return false;
        if (other.id != 0)
            return drop_row(k, id, e);
        if (!kept_rows_get(k, id, &r, e))
            return false;
        r.now.change = 0;
        set_in_doubt(&r.now);
    }
    if (!kept_index_make_room(&k->index, e))
        return false;
    kept_index_add(&k->index, r.hash, id);
    r.older = (struct store_slice){ NULL, 0 };
    return write_row(k, &r, e);
}

static bool undo_all(struct kept_rows *k, uint64_t last_change, struct list *odd, struct err *e)
{
    bool is_done;

    if (odd->n == 0)
        return true;
    if (!store_begin(k->store, e))
        return false;
    for (int is_late = 0; is_late <= 1; is_late++)
        for (size_t i = 0; i < odd->n; i++) {
            if (odd->v[i].id == 0)
                continue;
            if (!undo(k, odd->v[i].id, last_change, is_late != 0, &is_done, e)) {
                store_rollback(k->store);
                return false;
            }
            if (is_done)
                odd->v[i].id = 0;
        }
    return store_commit(k->store, e);
}

struct kept_rows *kept_rows_open(struct store *store, const char *source, uint64_t last_change,
                                 struct err *e)
{
    struct kept_rows *k = calloc(1, sizeof *k);
    struct list odd = { NULL, 0, 0 };
    bool ok;

    if (k == NULL) {
        err_memory(e);
        return NULL;
    }
    k->store = store;
    buf_init(&k->held, SIZE_MAX / 2);
    buf_init(&k->older, SIZE_MAX / 2);
    snprintf(k->table, sizeof k->table, "known_%016" PRIx64,
             hash_words(HASH_START, source, strlen(source)));
    ok = make_table(k, e) &&
         prepare(k, "SELECT " COLUMNS ", row, older FROM %s WHERE id = ?1", &k->get, e) &&
         prepare(k, "INSERT OR REPLACE INTO %s (" COLUMNS ", row, older) VALUES"
                 " (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)", &k->put, e) &&
         prepare(k, "DELETE FROM %s WHERE id = ?1", &k->drop, e) &&
         prepare(k, "DELETE FROM %s", &k->clear, e) &&
         prepare(k, "DELETE FROM %s WHERE flags & 2 AND note <= ?1", &k->drop_deleted, e) &&
         kept_index_file_load(k->store, k->table, last_change, &k->index, &k->facts, &k->has_image,
                              e) &&
         (k->has_image || (load(k, last_change, &odd, e) && undo_all(k, last_change, &odd, e)));
    free(odd.v);
    if (ok)
        return k;
    kept_rows_close(k);
    return NULL;
}

void kept_rows_close(struct kept_rows *k)
{
    if (k == NULL)
        return;
    sqlite3_finalize(k->get);
    sqlite3_finalize(k->put);
    sqlite3_finalize(k->drop);
    sqlite3_finalize(k->clear);
    sqlite3_finalize(k->drop_deleted);
    buf_fini(&k->held);
    buf_fini(&k->older);
    free(k->deleted.v);
    kept_index_fini(&k->index);
    free(k);
}

bool kept_rows_save_index(struct kept_rows *k, uint64_t saved, struct err *e)
{
    if (k->has_image)
        return true;
    if (!kept_rows_purge(k, saved, e))
        return false;
    if (k->deleted.n > 0 || k->has_more_deleted)
        return true; /* these rows are in no index: it takes a look at all to know of them */
    k->has_image = kept_index_file_save(k->store, k->table, &k->index, &k->facts, e);
    return k->has_image;
}

bool kept_rows_clear(struct kept_rows *k, struct err *e)
{
    if (!begin_change(k, e) || !step(k, k->clear, e))
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

        if (s->id != 0 && (buckets[bucket / 8] >> bucket % 8 & 1) && !visit(arg, s->id))
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

bool kept_rows_put(struct kept_rows *k, struct kept_row *row, const struct kept_row_state *to,
                   uint64_t saved, struct err *e)
{
    bool is_new = row->id == 0, is_deleted = to->is_deleted;

    if (is_new) {
        if (k->facts.last_id >= UINT32_MAX)
            return err_set(e, ERR_STATE, "the state file has numbered four billion rows of a "
                           "source; start it anew with --reset");
        if (!kept_index_make_room(&k->index, e))
            return false;
        row->id = k->facts.last_id + 1;
        row->older = (struct store_slice){ NULL, 0 };
    } else {
        if (!make_older(k, row, saved, e))
            return false;
        row->older = (struct store_slice){ k->older.data, k->older.len };
    }
    row->now = *to;
    if (!write_row(k, row, e))
        return false;
    if (is_new) {
        k->facts.last_id = row->id;
        kept_index_add(&k->index, row->hash, row->id);
    }
    if (!is_deleted)
        return true;
    kept_index_drop(&k->index, row->hash, row->id);
    return list_deleted(k, to->change, row->id, e);
}

bool kept_rows_purge(struct kept_rows *k, uint64_t saved, struct err *e)
{
    size_t n = 0;

    if (k->has_more_deleted && k->deleted.n > 0 && k->deleted.v[k->deleted.n - 1].change <= saved) {
        if (!begin_change(k, e))
            return false;
        if (!bind_number(k->drop_deleted, 1, saved))
            return store_fail(k->store, e);
        k->deleted.n = 0;
        k->has_more_deleted = false; /* what is left of them is dropped when the file is opened */
        return step(k, k->drop_deleted, e);
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
