/* kept_table.c -- the rows of a source in the state file.
 * SPDX-License-Identifier: MIT */
#include "state/kept_table.h"

#include "state/writes.h"

#include <sqlite3.h>
#include <stdlib.h>

#define COLUMNS "id, hash, xid, digest, flags, note, sum, key, form"

struct kept_table {
    struct store *store; /* borrowed, like the next one */
    const char *name;
    struct buf row;      /* what was handed out: rows are written while it is needed */
    sqlite3_stmt *get, *put, *drop, *clear, *drop_deleted;
};

static bool step(struct kept_table *t, sqlite3_stmt *st, struct err *e)
{
    bool ok = sqlite3_step(st) == SQLITE_DONE || store_fail(t->store, e);

    sqlite3_reset(st);
    sqlite3_clear_bindings(st);
    return ok;
}

/* ---- birth and death ---- */

static bool make(struct kept_table *t, struct err *e)
{
    sqlite3_stmt *st = NULL;
    bool ok = store_prepare(t->store, "CREATE TABLE IF NOT EXISTS %s" STORE_ROWS, t->name,
                            &st, e) &&
              step(t, st, e);

    sqlite3_finalize(st);
    return ok;
}

static bool prepare(struct kept_table *t, const char *format, sqlite3_stmt **st, struct err *e)
{
    return store_prepare(t->store, format, t->name, st, e);
}

struct kept_table *kept_table_open(struct store *store, const char *name, struct err *e)
{
    struct kept_table *t = calloc(1, sizeof *t);

    if (t == NULL) {
        err_memory(e);
        return NULL;
    }
    t->store = store;
    t->name = name;
    buf_init(&t->row, SIZE_MAX / 2);
    if (make(t, e) &&
        prepare(t, "SELECT " COLUMNS ", row, older FROM %s WHERE id = ?1", &t->get, e) &&
        prepare(t, "INSERT OR REPLACE INTO %s (" COLUMNS ", row, older) VALUES"
                " (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)", &t->put, e) &&
        prepare(t, "DELETE FROM %s WHERE id = ?1", &t->drop, e) &&
        prepare(t, "DELETE FROM %s", &t->clear, e) &&
        prepare(t, "DELETE FROM %s WHERE flags & 2 AND note <= ?1", &t->drop_deleted, e))
        return t;
    kept_table_close(t);
    return NULL;
}

void kept_table_close(struct kept_table *t)
{
    if (t == NULL)
        return;
    sqlite3_finalize(t->get);
    sqlite3_finalize(t->put);
    sqlite3_finalize(t->drop);
    sqlite3_finalize(t->clear);
    sqlite3_finalize(t->drop_deleted);
    buf_fini(&t->row);
    free(t);
}

/* ---- reading ---- */

static struct store_slice read_slice(sqlite3_stmt *st, int i)
{
    struct store_slice s = { (const char *)sqlite3_column_blob(st, i),
                             (size_t)sqlite3_column_bytes(st, i) };

    if (s.p == NULL && sqlite3_column_type(st, i) != SQLITE_NULL)
        s.p = "";
    return s;
}

/* A row of `SELECT COLUMNS, row, older`. */
static bool read_row(struct kept_table *t, sqlite3_stmt *st, struct kept_row *r, struct err *e)
{
    r->id = sqlite3_column_int64(st, 0);
    r->hash = (uint64_t)sqlite3_column_int64(st, 1);
    r->now.xid = (uint64_t)sqlite3_column_int64(st, 2);
    r->now.digest = (uint64_t)sqlite3_column_int64(st, 3);
    kept_row_set_flags(&r->now, (uint64_t)sqlite3_column_int64(st, 4));
    r->now.change = (uint64_t)sqlite3_column_int64(st, 5);
    r->key = read_slice(st, 7);
    r->now.columns = (uint32_t)sqlite3_column_int64(st, 8);
    r->now.row = read_slice(st, 9);
    r->older = read_slice(st, 10);
    /* for the ids see struct kept_index_entry */
    return (r->id >= 1 && r->id <= UINT32_MAX && r->key.p != NULL &&
            (int32_t)sqlite3_column_int64(st, 6) == kept_row_sum(r)) ||
           store_damaged(t->store, "rows", e);
}

/* Copies what <r> points to, since a write may change what SQLite has handed out. */
static bool own_slices(struct kept_table *t, struct kept_row *r, struct err *e)
{
    struct store_slice *slices[] = { &r->key, &r->now.row, &r->older };
    size_t at = 0;

    buf_clear(&t->row);
    for (size_t i = 0; i < 3; i++)
        buf_add(&t->row, slices[i]->p, slices[i]->p != NULL ? slices[i]->len : 0);
    sqlite3_reset(t->get);
    if (!buf_ok(&t->row))
        return err_memory(e);
    for (size_t i = 0; i < 3; i++)
        if (slices[i]->p != NULL) {
            slices[i]->p = t->row.data + at;
            at += slices[i]->len;
        }
    return true;
}

bool kept_table_get(struct kept_table *t, int64_t id, struct kept_row *r, struct err *e)
{
    sqlite3_reset(t->get);
    switch (sqlite3_bind_int64(t->get, 1, id) == SQLITE_OK ? sqlite3_step(t->get)
                                                           : SQLITE_ERROR) {
    case SQLITE_ROW:
        return read_row(t, t->get, r, e) && own_slices(t, r, e);
    case SQLITE_DONE:
        return store_damaged(t->store, "rows", e);
    default:
        return store_fail(t->store, e);
    }
}

bool kept_table_each(struct kept_table *t, kept_table_visit *visit, void *arg, struct err *e)
{
    sqlite3_stmt *st = NULL;
    bool ok = prepare(t, "SELECT " COLUMNS ", NULL, NULL FROM %s ORDER BY id", &st, e);
    int got = SQLITE_DONE;

    while (ok && (got = sqlite3_step(st)) == SQLITE_ROW) {
        struct kept_row r;

        ok = read_row(t, st, &r, e) && visit(arg, &r, e);
    }
    if (ok && got != SQLITE_DONE)
        ok = store_fail(t->store, e);
    sqlite3_finalize(st);
    return ok;
}

/* ---- writing ---- */

/* Runs a statement that changes rows, after the same was told to the database, if there is one. */
static bool change(struct kept_table *t, sqlite3_stmt *st, struct err *e)
{
    return step(t, st, e) && store_save_alone(t->store, e);
}

static bool bind_slice(sqlite3_stmt *st, int i, struct store_slice s)
{
    return s.p == NULL || sqlite3_bind_blob64(st, i, s.p, s.len, SQLITE_STATIC) == SQLITE_OK;
}

static bool bind_number(sqlite3_stmt *st, int i, uint64_t n)
{
    return sqlite3_bind_int64(st, i, (sqlite3_int64)n) == SQLITE_OK;
}

bool kept_table_put(struct kept_table *t, const struct kept_row *r, struct err *e)
{
    sqlite3_stmt *st = t->put;
    struct writes *w = store_writes(t->store);

    /* what could not be bound would be NULL, a row too long for SQLite for one */
    if (bind_number(st, 1, (uint64_t)r->id) && bind_number(st, 2, r->hash) &&
        bind_number(st, 3, r->now.xid) && bind_number(st, 4, r->now.digest) &&
        bind_number(st, 5, kept_row_flags(&r->now)) && bind_number(st, 6, r->now.change) &&
        bind_number(st, 7, (uint64_t)(int64_t)kept_row_sum(r)) && bind_slice(st, 8, r->key) &&
        (r->now.row.p == NULL || bind_number(st, 9, r->now.columns)) &&
        bind_slice(st, 10, r->now.row) && bind_slice(st, 11, r->older)) {
        if (w != NULL)
            writes_row_put(w, t->name, r);
        return change(t, st, e);
    }
    return store_fail(t->store, e);
}

bool kept_table_drop(struct kept_table *t, int64_t id, struct err *e)
{
    struct writes *w = store_writes(t->store);

    if (w != NULL)
        writes_row_drop(w, t->name, id);
    return bind_number(t->drop, 1, (uint64_t)id) ? change(t, t->drop, e) : store_fail(t->store, e);
}

bool kept_table_clear(struct kept_table *t, struct err *e)
{
    struct writes *w = store_writes(t->store);

    if (w != NULL)
        writes_rows_clear(w, t->name);
    return change(t, t->clear, e);
}

bool kept_table_drop_deleted(struct kept_table *t, uint64_t saved, struct err *e)
{
    struct writes *w = store_writes(t->store);

    if (w != NULL)
        writes_rows_drop_deleted(w, t->name, saved);
    return bind_number(t->drop_deleted, 1, saved) ? change(t, t->drop_deleted, e)
                                                  : store_fail(t->store, e);
}
