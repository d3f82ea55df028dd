/* kept_index_file.c -- the index of known rows, kept from one run to the next.
 *
 * Parts of the table: the header, the buckets, then the index.
 *
 * SPDX-License-Identifier: MIT */
#include "state/kept_index_file.h"

#include "base/hash.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC UINT64_C(0x7067636469303101) /* says the order of its bytes, too */

enum { HEADER, BUCKET_COUNTS, FIRST_PART };

struct header {
    uint64_t magic, n_v, n, last_change;
    int64_t last_id;
};

static bool run(struct store *store, const char *format, const char *table, struct err *e)
{
    char sql[256];

    sqlite3_snprintf(sizeof sql, sql, format, table);
    return sqlite3_exec(store_sqlite(store), sql, NULL, NULL, NULL) == SQLITE_OK ||
           store_fail(store, e);
}

static bool prepare(struct store *store, const char *format, const char *table, sqlite3_stmt **st,
                    struct err *e)
{
    char sql[256];

    sqlite3_snprintf(sizeof sql, sql, format, table);
    return sqlite3_prepare_v2(store_sqlite(store), sql, -1, st, NULL) == SQLITE_OK ||
           store_fail(store, e);
}

static int64_t sum(int part, const void *p, size_t len)
{
    return (int64_t)hash_words(hash_words(HASH_START, &part, sizeof part), p, len);
}

static size_t part_bytes(const struct kept_index *s, size_t i)
{
    size_t left = s->n_v - i * KEPT_INDEX_PART;

    return (left < KEPT_INDEX_PART ? left : KEPT_INDEX_PART) * sizeof *s->v;
}

/* ---- loading ---- */

/* Reads a part of just this size; *is_there false if it is not what it should be. */
static bool read_part(struct store *store, sqlite3_stmt *st, int part, void *to, size_t len,
                      bool *is_there, struct err *e)
{
    const void *data;
    bool ok = true;

    *is_there = false;
    switch (sqlite3_bind_int(st, 1, part) == SQLITE_OK ? sqlite3_step(st) : SQLITE_ERROR) {
    case SQLITE_ROW:
        data = sqlite3_column_blob(st, 1);
        *is_there = data != NULL && (size_t)sqlite3_column_bytes(st, 1) == len &&
                    sqlite3_column_int64(st, 0) == sum(part, data, len);
        if (*is_there)
            memcpy(to, data, len);
        break;
    case SQLITE_DONE:
        break;
    default:
        ok = store_fail(store, e);
    }
    sqlite3_reset(st);
    return ok;
}

/* Does the header fit the table and the position? */
static bool is_sound(const struct header *h, uint64_t last_change)
{
    return h->magic == MAGIC && h->last_change <= last_change && h->n <= h->n_v &&
           (h->n_v & (h->n_v - 1)) == 0 && h->n_v <= UINT64_C(1) << 33 && h->last_id >= 0 &&
           (uint64_t)h->last_id >= h->n;
}

/* The number of the last row is found by the way. */
static bool find_last(struct store *store, const char *table, int64_t *last, struct err *e)
{
    sqlite3_stmt *st = NULL;
    bool ok = prepare(store, "SELECT coalesce(max(id), 0) FROM %s", table, &st, e);

    if (ok && sqlite3_step(st) == SQLITE_ROW)
        *last = sqlite3_column_int64(st, 0);
    else if (ok)
        ok = store_fail(store, e);
    sqlite3_finalize(st);
    return ok;
}

static bool is_counted(const struct kept_index *s)
{
    uint64_t in_index = 0, in_buckets = 0;

    for (size_t i = 0; i < s->n_v; i++)
        in_index += s->v[i].id != 0;
    for (size_t i = 0; i < TALLY_BUCKETS; i++)
        in_buckets += s->buckets[i].count;
    return in_index == s->n && in_buckets == s->n;
}

static bool read_parts(struct store *store, sqlite3_stmt *st, struct kept_index *s, bool *is_there,
                       struct err *e)
{
    if (!read_part(store, st, BUCKET_COUNTS, s->buckets, sizeof s->buckets, is_there, e))
        return false;
    for (size_t i = 0; *is_there && i < kept_index_parts(s); i++)
        if (!read_part(store, st, FIRST_PART + (int)i, s->v + i * KEPT_INDEX_PART, part_bytes(s,
                                                                                               i),
                       is_there, e))
            return false;
    *is_there = *is_there && is_counted(s);
    return true;
}

bool kept_index_file_load(struct store *store, const char *table, uint64_t last_change,
                          struct kept_index *index,
                          struct kept_index_file_facts *facts, bool *is_there, struct err *e)
{
    sqlite3_stmt *st = NULL;
    struct header h;
    int64_t last = 0;
    bool ok;

    *is_there = false;
    ok = run(store, "CREATE TABLE IF NOT EXISTS %s_image (part INTEGER PRIMARY KEY, sum INTEGER NOT"
             " NULL, data BLOB NOT NULL)", table, e) &&
         prepare(store, "SELECT sum, data FROM %s_image WHERE part = ?1", table, &st, e) &&
         read_part(store, st, HEADER, &h, sizeof h, is_there, e);
    if (ok && *is_there)
        ok = find_last(store, table, &last, e);
    *is_there = ok && *is_there && is_sound(&h, last_change) && last <= h.last_id;
    if (*is_there) {
        ok = kept_index_init(index, h.n_v, e);
        index->n = ok ? h.n : 0;
        ok = ok && read_parts(store, st, index, is_there, e);
        if (!ok || !*is_there)
            kept_index_fini(index);
        *facts = (struct kept_index_file_facts){ h.last_id, h.last_change };
    }
    *is_there = ok && *is_there;
    if (!*is_there)
        *facts = (struct kept_index_file_facts){ 0, 0 };
    sqlite3_finalize(st);
    return ok;
}

/* ---- changing ---- */

bool kept_index_file_drop(struct store *store, const char *table, struct err *e)
{
    return run(store, "DELETE FROM %s_image WHERE part = 0", table, e);
}

static bool write_part(struct store *store, sqlite3_stmt *st, int part, const void *p, size_t len,
                       struct err *e)
{
    bool ok;

    /* a part that is not written leaves an older one, which is as sound */
    ok = (sqlite3_bind_int(st, 1, part) == SQLITE_OK &&
          sqlite3_bind_int64(st, 2, sum(part, p, len)) == SQLITE_OK &&
          sqlite3_bind_blob64(st, 3, p, len, SQLITE_STATIC) == SQLITE_OK &&
          sqlite3_step(st) == SQLITE_DONE) || store_fail(store, e);
    sqlite3_reset(st);
    return ok;
}

bool kept_index_file_save(struct store *store, const char *table, struct kept_index *index,
                          const struct kept_index_file_facts *facts, struct err *e)
{
    const struct header h = { MAGIC, index->n_v, index->n, facts->last_change, facts->last_id };
    sqlite3_stmt *st = NULL;
    bool ok;

    if (!store_begin(store, e))
        return false;
    ok = prepare(store, "INSERT OR REPLACE INTO %s_image VALUES (?1, ?2, ?3)", table, &st, e) &&
         write_part(store, st, BUCKET_COUNTS, index->buckets, sizeof index->buckets, e);
    for (size_t i = 0; ok && i < kept_index_parts(index); i++)
        if (index->is_changed[i])
            ok = write_part(store, st, FIRST_PART + (int)i, index->v + i * KEPT_INDEX_PART,
                            part_bytes(index, i), e);
    ok = ok && write_part(store, st, HEADER, &h, sizeof h, e);
    sqlite3_finalize(st);
    ok = ok && store_commit(store, e);
    if (ok)
        kept_index_clean(index);
    else
        store_rollback(store);
    return ok;
}
