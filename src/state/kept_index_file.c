/* kept_index_file.c -- the index of known rows, saved from one run to the next.
 *
 * Parts of the table <rows>_image: the header, the buckets, then the index.
 *
 * SPDX-License-Identifier: MIT */
#include "state/kept_index_file.h"

#include "base/hash.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

/* Says the order of its bytes, too. It was ...01 when a header could be older than the rows. */
#define MAGIC UINT64_C(0x7067636469303102)

enum { HEADER, BUCKET_COUNTS, FIRST_PLACES };

struct header {
    uint64_t magic, n_v, n, last_change;
    int64_t last_id;
};

struct part {
    int number;
    void *p;
    size_t len;
};

static struct part part_of_buckets(struct kept_index *x)
{
    return (struct part){ BUCKET_COUNTS, x->buckets, sizeof x->buckets };
}

/* Of the places of the index, counted from 0. */
static struct part part_of_places(struct kept_index *x, size_t i)
{
    size_t from = i * KEPT_INDEX_PART, left = x->n_v - from;

    return (struct part){ FIRST_PLACES + (int)i, x->v + from,
                          (left < KEPT_INDEX_PART ? left : KEPT_INDEX_PART) * sizeof *x->v };
}

static int64_t sum(int number, const void *p, size_t len)
{
    return (int64_t)hash_words(hash_words(HASH_START, &number, sizeof number), p, len);
}

static bool run(struct kept_index_file *f, const char *format, struct err *e)
{
    char sql[256];

    sqlite3_snprintf(sizeof sql, sql, format, f->table);
    return sqlite3_exec(store_sqlite(f->store), sql, NULL, NULL, NULL) == SQLITE_OK ||
           store_fail(f->store, e);
}

/* ---- loading ---- */

/* Reads a part, which has just this size; *is_there false if it is not what it should be. */
static bool read_part(struct kept_index_file *f, sqlite3_stmt *st, struct part part,
                      bool *is_there, struct err *e)
{
    const void *data;
    bool ok = true;

    *is_there = false;
    switch (sqlite3_bind_int(st, 1, part.number) == SQLITE_OK ? sqlite3_step(st) : SQLITE_ERROR) {
    case SQLITE_ROW:
        data = sqlite3_column_blob(st, 1);
        *is_there = data != NULL && (size_t)sqlite3_column_bytes(st, 1) == part.len &&
                    sqlite3_column_int64(st, 0) == sum(part.number, data, part.len);
        if (*is_there)
            memcpy(part.p, data, part.len);
        break;
    case SQLITE_DONE:
        break;
    default:
        ok = store_fail(f->store, e);
    }
    sqlite3_reset(st);
    return ok;
}

/* True if the header fits the table and the position. */
static bool is_sound(const struct header *h, uint64_t last_change)
{
    return h->magic == MAGIC && h->last_change <= last_change && h->n <= h->n_v &&
           (h->n_v & (h->n_v - 1)) == 0 && h->n_v <= UINT64_C(1) << 33 && h->last_id >= 0 &&
           (uint64_t)h->last_id >= h->n;
}

/* True if the index has as many entries as it says. */
static bool adds_up(const struct kept_index *x)
{
    uint64_t in_places = 0, in_buckets = 0;

    for (size_t i = 0; i < x->n_v; i++)
        in_places += x->v[i].id != 0;
    for (size_t i = 0; i < TALLY_BUCKETS; i++)
        in_buckets += x->buckets[i].count;
    return in_places == x->n && in_buckets == x->n;
}

static bool read_index(struct kept_index_file *f, sqlite3_stmt *st, bool *is_there, struct err *e)
{
    struct kept_index *x = f->index;

    if (!read_part(f, st, part_of_buckets(x), is_there, e))
        return false;
    for (size_t i = 0; *is_there && i < kept_index_parts(x); i++)
        if (!read_part(f, st, part_of_places(x, i), is_there, e))
            return false;
    *is_there = *is_there && adds_up(x);
    return true;
}

/* Reads the header; all of it is 0 if it is not there, or does not fit. */
static bool read_header(struct kept_index_file *f, sqlite3_stmt *st, int64_t last_row,
                        uint64_t last_change, struct header *h, struct err *e)
{
    bool is_there;

    if (!read_part(f, st, (struct part){ HEADER, h, sizeof *h }, &is_there, e))
        return false;
    if (!is_there || !is_sound(h, last_change) || last_row > h->last_id)
        *h = (struct header){ 0 };
    return true;
}

bool kept_index_file_load(struct kept_index_file *f, int64_t last_row, uint64_t last_change,
                          bool *is_there, struct err *e)
{
    sqlite3_stmt *st = NULL;
    struct header h = { 0 };
    bool ok;

    *is_there = false;
    f->last_id = 0;
    f->last_change = 0;
    ok = run(f, "CREATE TABLE IF NOT EXISTS %s_image" STORE_IMAGE, e) &&
         store_prepare(f->store, "SELECT sum, data FROM %s_image WHERE part = ?1", f->table, &st,
                       e) &&
         read_header(f, st, last_row, last_change, &h, e);
    if (ok && h.magic == MAGIC) {
        ok = kept_index_init(f->index, h.n_v, e);
        f->index->n = ok ? h.n : 0;
        ok = ok && read_index(f, st, is_there, e);
        if (!ok || !*is_there)
            kept_index_fini(f->index);
    }
    sqlite3_finalize(st);
    *is_there = ok && *is_there;
    if (*is_there) {
        f->last_id = h.last_id;
        f->last_change = h.last_change;
    }
    return ok;
}

/* ---- changing ---- */

bool kept_index_file_drop(struct kept_index_file *f, struct err *e)
{
    return run(f, "DELETE FROM %s_image WHERE part = 0", e);
}

static bool write_part(struct kept_index_file *f, sqlite3_stmt *st, struct part part,
                       struct err *e)
{
    bool ok;

    /* a part that is not written leaves an older one, which is as sound */
    ok = (sqlite3_bind_int(st, 1, part.number) == SQLITE_OK &&
          sqlite3_bind_int64(st, 2, sum(part.number, part.p, part.len)) == SQLITE_OK &&
          sqlite3_bind_blob64(st, 3, part.p, part.len, SQLITE_STATIC) == SQLITE_OK &&
          sqlite3_step(st) == SQLITE_DONE) || store_fail(f->store, e);
    sqlite3_reset(st);
    return ok;
}

bool kept_index_file_save(struct kept_index_file *f, struct err *e)
{
    struct kept_index *x = f->index;
    struct header h = { MAGIC, x->n_v, x->n, f->last_change, f->last_id };
    sqlite3_stmt *st = NULL;
    bool ok;

    if (!store_begin(f->store, e))
        return false;
    ok = store_prepare(f->store, "INSERT OR REPLACE INTO %s_image VALUES (?1, ?2, ?3)", f->table,
                       &st, e) &&
         write_part(f, st, part_of_buckets(x), e);
    for (size_t i = 0; ok && i < kept_index_parts(x); i++)
        if (x->is_changed[i])
            ok = write_part(f, st, part_of_places(x, i), e);
    ok = ok && write_part(f, st, (struct part){ HEADER, &h, sizeof h }, e);
    sqlite3_finalize(st);
    ok = ok && store_commit(f->store, e);
    if (ok)
        kept_index_clean(x);
    else
        store_rollback(f->store);
    return ok;
}
