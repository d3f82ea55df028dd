/* kept_table.c -- the rows of a source in the state file.
 *
 * In pages (kept_page.h), which are known by their first ids. One of them is in hand, and may have
 * changed: it is written before another one is taken, and by kept_table_flush. Where no transaction
 * is open each change is one, and written at once.
 *
 * Before there were pages each row was one of SQLite's, in a table <name>. What such a file has is
 * moved when it is opened.
 *
 * SPDX-License-Identifier: MIT */
#include "state/kept_table.h"

#include "state/kept_page.h"
#include "state/writes.h"

#include <assert.h>
#include <sqlite3.h>
#include <stdlib.h>

#define NUMBERS 48 /* more than those of a row take in a page, as a rule */

struct kept_table {
    struct store *store; /* borrowed, like the next one */
    const char *name;
    struct kept_page page;  /* the one in hand */
    bool has_page;
    bool is_changed;        /* since it was read, or it is new */
    bool is_in_file;
    int64_t tail;           /* the first id of the last page; 0: not known, or there is none */
    struct kept_page upper; /* scratch: of a page that is split */
    struct buf row;         /* what was handed out: rows are written while it is needed */
    unsigned rollbacks;     /* of the store, when the page in hand was read */
    sqlite3_stmt *get, *next, *put, *drop, *last, *clear;
};

static bool step(struct kept_table *t, sqlite3_stmt *st, struct err *e)
{
    bool ok = sqlite3_step(st) == SQLITE_DONE || store_fail(t->store, e);

    sqlite3_reset(st);
    sqlite3_clear_bindings(st);
    return ok;
}

static bool bind_number(sqlite3_stmt *st, int i, int64_t n)
{
    return sqlite3_bind_int64(st, i, n) == SQLITE_OK;
}

/* ---- pages ---- */

static void forget_page(struct kept_table *t)
{
    t->has_page = t->is_changed = t->is_in_file = false;
    t->tail = 0;
}

/* What was in hand when a transaction was undone is not what the file has. */
static void look_at_rollbacks(struct kept_table *t)
{
    if (t->rollbacks != store_rollbacks(t->store))
        forget_page(t);
    t->rollbacks = store_rollbacks(t->store);
}

static bool write_page(struct kept_table *t, const struct kept_page *p, struct err *e)
{
    return (bind_number(t->put, 1, p->first) && bind_number(t->put, 2, kept_page_sum(p)) &&
            sqlite3_bind_blob64(t->put, 3, p->data.data, p->data.len, SQLITE_STATIC) == SQLITE_OK)
               ? step(t, t->put, e)
               : store_fail(t->store, e); /* it is too long for SQLite, say */
}

static bool drop_page(struct kept_table *t, int64_t first, struct err *e)
{
    return bind_number(t->drop, 1, first) ? step(t, t->drop, e) : store_fail(t->store, e);
}

/* Writes the page in hand, where it has changed. */
static bool write_changed(struct kept_table *t, struct err *e)
{
    bool ok = true;

    if (!t->is_changed)
        return true;
    if (t->page.n > 0)
        ok = write_page(t, &t->page, e);
    else if (t->is_in_file)
        ok = drop_page(t, t->page.first, e);
    if (!ok)
        return false;
    t->is_changed = false;
    t->is_in_file = t->page.n > 0;
    if (t->page.n == 0)
        forget_page(t);
    return true;
}

/* Runs a statement that finds a page, and takes that in hand; none: there is no page in hand. */
static bool take_page(struct kept_table *t, sqlite3_stmt *st, struct err *e)
{
    struct store_slice bytes;
    int64_t tail = t->tail;
    int got = sqlite3_step(st);
    bool ok = got == SQLITE_DONE;

    forget_page(t);
    t->tail = tail;
    if (got == SQLITE_ROW) {
        bytes.p = (const char *)sqlite3_column_blob(st, 2);
        bytes.len = (size_t)sqlite3_column_bytes(st, 2);
        ok = (kept_page_read(&t->page, sqlite3_column_int64(st, 0), bytes) && t->page.n > 0 &&
              t->page.first >= 1 && t->page.last <= UINT32_MAX && /* see struct kept_index_entry */
              kept_page_sum(&t->page) == sqlite3_column_int64(st, 1)) ||
             (buf_ok(&t->page.data) ? store_damaged(t->store, "rows", e) : err_memory(e));
        t->has_page = t->is_in_file = ok;
    } else if (!ok) {
        store_fail(t->store, e);
    }
    sqlite3_reset(st);
    return ok;
}

/* Takes the page in hand in which row <id> is, or would be: the last one that begins at it or
 * before. There may be none. */
static bool find_page(struct kept_table *t, int64_t id, struct err *e)
{
    look_at_rollbacks(t);
    if (t->has_page && t->page.first <= id &&
        (id <= t->page.last || t->page.first == t->tail))
        return true;
    if (!write_changed(t, e))
        return false;
    return bind_number(t->get, 1, id) ? take_page(t, t->get, e) : store_fail(t->store, e);
}

/* Finds out which page is the last one, if that is not known. */
static bool find_tail(struct kept_table *t, struct err *e)
{
    int got;

    if (t->tail != 0)
        return true;
    got = sqlite3_step(t->last);
    if (got == SQLITE_ROW)
        t->tail = sqlite3_column_int64(t->last, 0);
    sqlite3_reset(t->last);
    return got == SQLITE_ROW || got == SQLITE_DONE || store_fail(t->store, e);
}

/* A new page, for rows from <first> on, is in hand. */
static bool begin_page(struct kept_table *t, int64_t first, struct err *e)
{
    if (!write_changed(t, e))
        return false;
    kept_page_clear(&t->page, first);
    t->has_page = true;
    t->is_in_file = t->is_changed = false;
    if (first > t->tail)
        t->tail = first;
    return true;
}

/* The page in hand is too long: its upper half becomes a page. */
static bool split_page(struct kept_table *t, struct err *e)
{
    bool was_tail = t->page.first == t->tail;

    if (!kept_page_split(&t->page, &t->upper))
        return err_memory(e);
    if (was_tail)
        t->tail = t->upper.first;
    return write_page(t, &t->upper, e);
}

/* ---- transactions ---- */

bool kept_table_flush(struct kept_table *t, struct err *e)
{
    look_at_rollbacks(t);
    return write_changed(t, e);
}

/* Before a change: *is_own if no transaction was open, and one is now. */
static bool begin(struct kept_table *t, bool *is_own, struct err *e)
{
    look_at_rollbacks(t);
    *is_own = sqlite3_get_autocommit(store_sqlite(t->store)) != 0;
    assert(!*is_own || !t->is_changed); /* a transaction that changed rows ended with a flush */
    return !*is_own || store_begin(t->store, e);
}

/* After it; <ok>: it was done. */
static bool end(struct kept_table *t, bool is_own, bool ok, struct err *e)
{
    if (!is_own)
        return ok;
    if (ok && kept_table_flush(t, e) && store_commit(t->store, e))
        return true;
    store_rollback(t->store);
    return false;
}

/* ---- birth and death ---- */

static bool prepare(struct kept_table *t, const char *format, sqlite3_stmt **st, struct err *e)
{
    return store_prepare(t->store, format, t->name, st, e);
}

static bool run(struct kept_table *t, const char *format, struct err *e)
{
    sqlite3_stmt *st = NULL;
    bool ok = prepare(t, format, &st, e) && step(t, st, e);

    sqlite3_finalize(st);
    return ok;
}

static struct store_slice read_slice(sqlite3_stmt *st, int i)
{
    struct store_slice s = { (const char *)sqlite3_column_blob(st, i),
                             (size_t)sqlite3_column_bytes(st, i) };

    if (s.p == NULL && sqlite3_column_type(st, i) != SQLITE_NULL)
        s.p = "";
    return s;
}

/* A row of its own, in the order of STORE_ROWS. */
static bool read_row(struct kept_table *t, sqlite3_stmt *st, struct kept_row *r, struct err *e)
{
    *r = (struct kept_row){ .id = sqlite3_column_int64(st, 0) };
    r->hash = (uint64_t)sqlite3_column_int64(st, 1);
    r->now.xid = (uint64_t)sqlite3_column_int64(st, 2);
    r->now.digest = (uint64_t)sqlite3_column_int64(st, 3);
    kept_row_set_flags(&r->now, (uint64_t)sqlite3_column_int64(st, 4));
    r->now.change = (uint64_t)sqlite3_column_int64(st, 5);
    r->key = read_slice(st, 7);
    r->now.columns = (uint32_t)sqlite3_column_int64(st, 8);
    r->now.row = read_slice(st, 9);
    r->older = read_slice(st, 10);
    return (r->id >= 1 && r->id <= UINT32_MAX && r->key.p != NULL &&
            (int32_t)sqlite3_column_int64(st, 6) == kept_row_sum(r)) ||
           store_damaged(t->store, "rows", e);
}

static bool put(struct kept_table *t, const struct kept_row *r, struct err *e);

/* Moves all rows of the older table into pages, and drops it. */
static bool move_rows(struct kept_table *t, struct err *e)
{
    sqlite3_stmt *st = NULL;
    bool ok = prepare(t, "SELECT id, hash, xid, digest, flags, note, sum, key, form, row, older"
                      " FROM %s ORDER BY id", &st, e);
    int got = SQLITE_DONE;

    while (ok && (got = sqlite3_step(st)) == SQLITE_ROW) {
        struct kept_row r;

        ok = read_row(t, st, &r, e) && put(t, &r, e);
    }
    if (ok && got != SQLITE_DONE)
        ok = store_fail(t->store, e);
    sqlite3_finalize(st);
    return ok && write_changed(t, e) && run(t, "DROP TABLE %s", e);
}

/* Has the statements ready, once there are pages. */
static bool prepare_all(struct kept_table *t, struct err *e)
{
    return prepare(t, "SELECT first, sum, data FROM %s_pages WHERE first <= ?1"
                   " ORDER BY first DESC LIMIT 1", &t->get, e) &&
           prepare(t, "SELECT first, sum, data FROM %s_pages WHERE first > ?1"
                   " ORDER BY first LIMIT 1", &t->next, e) &&
           prepare(t, "SELECT first FROM %s_pages ORDER BY first DESC LIMIT 1", &t->last, e) &&
           prepare(t, "INSERT OR REPLACE INTO %s_pages (first, sum, data) VALUES (?1, ?2, ?3)",
                   &t->put, e) &&
           prepare(t, "DELETE FROM %s_pages WHERE first = ?1", &t->drop, e) &&
           prepare(t, "DELETE FROM %s_pages", &t->clear, e);
}

/* Makes the table of pages where it is not there. */
static bool make(struct kept_table *t, struct err *e)
{
    bool is_older = sqlite3_table_column_metadata(store_sqlite(t->store), NULL, t->name, NULL,
                                                  NULL, NULL, NULL, NULL, NULL) == SQLITE_OK;

    return run(t, "CREATE TABLE IF NOT EXISTS %s_pages" STORE_PAGES, e) && prepare_all(t, e) &&
           (!is_older || move_rows(t, e));
}

struct kept_table *kept_table_open(struct store *store, const char *name, struct err *e)
{
    struct kept_table *t = calloc(1, sizeof *t);
    bool is_own;

    if (t == NULL) {
        err_memory(e);
        return NULL;
    }
    t->store = store;
    t->name = name;
    t->rollbacks = store_rollbacks(store);
    kept_page_init(&t->page);
    kept_page_init(&t->upper);
    buf_init(&t->row, SIZE_MAX / 2);
    if (begin(t, &is_own, e) && end(t, is_own, make(t, e), e))
        return t;
    kept_table_close(t);
    return NULL;
}

void kept_table_close(struct kept_table *t)
{
    if (t == NULL)
        return;
    sqlite3_finalize(t->get);
    sqlite3_finalize(t->next);
    sqlite3_finalize(t->put);
    sqlite3_finalize(t->drop);
    sqlite3_finalize(t->last);
    sqlite3_finalize(t->clear);
    kept_page_fini(&t->page);
    kept_page_fini(&t->upper);
    buf_fini(&t->row);
    free(t);
}

/* ---- reading ---- */

/* Copies what <r> points to, since a write may change the page in hand. */
static bool own_slices(struct kept_table *t, struct kept_row *r, struct err *e)
{
    struct store_slice *slices[] = { &r->key, &r->now.row, &r->older };
    size_t at = 0;

    buf_clear(&t->row);
    for (size_t i = 0; i < 3; i++)
        buf_add(&t->row, slices[i]->p, slices[i]->p != NULL ? slices[i]->len : 0);
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
    size_t at;

    if (!find_page(t, id, e))
        return false;
    if (!t->has_page || kept_page_find(&t->page, id, &at) == 0 ||
        !kept_page_next(&t->page, &at, r))
        return store_damaged(t->store, "rows", e);
    return own_slices(t, r, e);
}

bool kept_table_last(struct kept_table *t, int64_t *id, struct err *e)
{
    *id = 0;
    if (!find_page(t, INT64_MAX, e))
        return false;
    if (t->has_page)
        *id = t->page.last;
    return true;
}

/* Takes the page after <first> in hand; none: there is no page in hand. */
static bool next_page(struct kept_table *t, int64_t first, struct err *e)
{
    look_at_rollbacks(t);
    if (!write_changed(t, e))
        return false;
    return bind_number(t->next, 1, first) ? take_page(t, t->next, e) : store_fail(t->store, e);
}

bool kept_table_each(struct kept_table *t, kept_table_visit *visit, void *arg, struct err *e)
{
    struct kept_row r;
    size_t at;

    for (bool ok = next_page(t, 0, e);; ok = next_page(t, t->page.first, e)) {
        if (!ok || !t->has_page)
            return ok;
        for (at = 0; kept_page_next(&t->page, &at, &r);) {
            r.now.row = r.older = (struct store_slice){ NULL, 0 };
            if (!visit(arg, &r, e))
                return false;
        }
        if (at < t->page.data.len)
            return store_damaged(t->store, "rows", e);
    }
}

/* ---- writing ---- */

/* True if row <r>, which would be the last one of all, has no room in the page in hand. */
static bool has_no_room(const struct kept_table *t, const struct kept_row *r)
{
    return r->id > t->page.last && t->page.first == t->tail &&
           t->page.data.len + NUMBERS + r->key.len + r->now.row.len + r->older.len >
               KEPT_PAGE_BYTES;
}

static bool put(struct kept_table *t, const struct kept_row *r, struct err *e)
{
    if (!find_page(t, r->id, e) || !find_tail(t, e))
        return false;
    if ((!t->has_page || has_no_room(t, r)) && !begin_page(t, r->id, e))
        return false;
    if (!kept_page_put(&t->page, r))
        return err_memory(e);
    t->is_changed = true;
    return t->page.data.len <= KEPT_PAGE_BYTES || t->page.n < 2 || split_page(t, e);
}

bool kept_table_put(struct kept_table *t, const struct kept_row *r, struct err *e)
{
    struct writes *w;
    bool is_own;

    if (!begin(t, &is_own, e))
        return false;
    if ((w = store_writes(t->store)) != NULL)
        writes_row_put(w, t->name, r);
    return end(t, is_own, put(t, r, e), e);
}

static bool drop(struct kept_table *t, int64_t id, struct err *e)
{
    if (!find_page(t, id, e))
        return false;
    if (!t->has_page)
        return true;
    kept_page_drop(&t->page, id);
    t->is_changed = true;
    return true;
}

bool kept_table_drop(struct kept_table *t, int64_t id, struct err *e)
{
    struct writes *w;
    bool is_own;

    if (!begin(t, &is_own, e))
        return false;
    if ((w = store_writes(t->store)) != NULL)
        writes_row_drop(w, t->name, id);
    return end(t, is_own, drop(t, id, e), e);
}

bool kept_table_clear(struct kept_table *t, struct err *e)
{
    struct writes *w;
    bool is_own;

    if (!begin(t, &is_own, e))
        return false;
    if ((w = store_writes(t->store)) != NULL)
        writes_rows_clear(w, t->name);
    forget_page(t);
    return end(t, is_own, step(t, t->clear, e), e);
}

/* Drops those of the page in hand. */
static void drop_deleted_here(struct kept_table *t, uint64_t saved)
{
    struct kept_row r;

    for (size_t at = 0, start = 0; kept_page_next(&t->page, &at, &r); start = at)
        if (r.now.is_deleted && r.now.change <= saved) {
            kept_page_drop(&t->page, r.id);
            t->is_changed = true;
            at = start;
        }
}

static bool drop_deleted(struct kept_table *t, uint64_t saved, struct err *e)
{
    int64_t first = 0;

    while (next_page(t, first, e)) {
        if (!t->has_page)
            return true;
        first = t->page.first;
        drop_deleted_here(t, saved);
    }
    return false;
}

bool kept_table_drop_deleted(struct kept_table *t, uint64_t saved, struct err *e)
{
    struct writes *w;
    bool is_own;

    if (!begin(t, &is_own, e))
        return false;
    if ((w = store_writes(t->store)) != NULL)
        writes_rows_drop_deleted(w, t->name, saved);
    return end(t, is_own, drop_deleted(t, saved, e), e);
}
