/* kept_table.c -- unit tests of the rows in the state file, against a model of them.
 * SPDX-License-Identifier: MIT */
#include "state/kept_table.h"

#include "unit.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME "known_1"
#define ROWS 300
#define TEXT 6000

/* What a row should be; change 0: there is none. */
struct model {
    uint64_t change, hash;
    bool is_deleted;
    size_t key, row, older; /* their lengths; 0 for row and older: there is none */
};

static uint64_t seed;

static uint64_t draw(uint64_t below)
{
    seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (seed >> 33) % below;
}

static struct store_slice text_of(size_t len)
{
    static char text[TEXT];

    if (text[0] == '\0')
        for (size_t i = 0; i < TEXT; i++)
            text[i] = (char)(1 + i * 7 % 251);
    return (struct store_slice){ len > 0 ? text : NULL, len };
}

static struct kept_row row_of(const struct model *m, int64_t id)
{
    return (struct kept_row){
        .id = id, .hash = m->hash, .key = text_of(m->key), .older = text_of(m->older),
        .now = { .change = m->change, .xid = m->change / 3, .digest = ~m->hash,
                 .reads = m->change % 5, .is_deleted = m->is_deleted, .columns = m->row > 0 ? 9 : 0,
                 .row = text_of(m->row) },
    };
}

static bool is_text(struct store_slice s, size_t len)
{
    return len == 0 ? s.p == NULL
                    : s.p != NULL && s.len == len && memcmp(s.p, text_of(len).p, len) == 0;
}

static bool is_row(const struct kept_row *r, const struct model *m, bool is_whole)
{
    const struct kept_row want = row_of(m, r->id);

    return r->hash == want.hash && is_text(r->key, m->key) &&
           r->now.change == want.now.change && r->now.xid == want.now.xid &&
           r->now.digest == want.now.digest && r->now.reads == want.now.reads &&
           r->now.is_deleted == want.now.is_deleted &&
           (!is_whole || (is_text(r->now.row, m->row) && is_text(r->older, m->older) &&
                          r->now.columns == want.now.columns));
}

/* Mostly short rows, sometimes as long as a page or more. */
static struct model draw_row(uint64_t change)
{
    bool is_long = draw(40) == 0;

    return (struct model){ .change = change, .hash = draw(UINT64_C(1) << 31) << 31 | draw(1 << 30),
                           .is_deleted = draw(4) == 0, .key = 1 + draw(30),
                           .row = draw(2) * draw(is_long ? TEXT - 1 : 60),
                           .older = draw(2) * draw(is_long ? 500 : 40) };
}

struct visit {
    const struct model *rows;
    int64_t last;
    size_t n;
    bool ok;
};

static bool visit(void *arg, const struct kept_row *r, struct err *e)
{
    struct visit *v = arg;

    (void)e;
    v->ok = v->ok && r->id > v->last && r->id < ROWS && v->rows[r->id].change != 0 &&
            is_row(r, &v->rows[r->id], false);
    v->last = r->id;
    v->n++;
    return true;
}

/* All that is there is what the model says. */
static void check_all(struct kept_table *t, const struct model *rows)
{
    struct visit v = { .rows = rows, .ok = true };
    int64_t last = 0, found;
    struct err e;
    size_t n = 0;

    for (int64_t id = 1; id < ROWS; id++) {
        struct kept_row r;

        if (rows[id].change == 0)
            continue;
        last = id;
        n++;
        CHECK(kept_table_get(t, id, &r, &e));
        CHECK(is_row(&r, &rows[id], true));
    }
    CHECK(kept_table_each(t, visit, &v, &e));
    CHECK(v.ok);
    EQUAL(v.n, n);
    CHECK(kept_table_last(t, &found, &e));
    EQUAL((uint64_t)found, (uint64_t)last);
}

static void change_one(struct kept_table *t, struct model *rows, uint64_t change)
{
    int64_t id = 1 + (int64_t)draw(ROWS - 1);
    struct kept_row r;
    struct err e;

    switch (draw(12)) {
    case 0:
        if (rows[id].change != 0)
            CHECK(kept_table_drop(t, id, &e));
        rows[id].change = 0;
        break;
    case 1:
        CHECK(kept_table_drop_deleted(t, change / 2, &e));
        for (id = 1; id < ROWS; id++)
            if (rows[id].is_deleted && rows[id].change <= change / 2)
                rows[id] = (struct model){ 0 };
        break;
    case 2:
        if (draw(20) > 0)
            break;
        CHECK(kept_table_clear(t, &e));
        memset(rows, 0, ROWS * sizeof *rows);
        break;
    case 3: /* many, one after the other, as a snapshot brings them */
        for (; id < ROWS; id++) {
            rows[id] = draw_row(change);
            r = row_of(&rows[id], id);
            CHECK(kept_table_put(t, &r, &e));
        }
        break;
    default:
        rows[id] = draw_row(change);
        r = row_of(&rows[id], id);
        CHECK(kept_table_put(t, &r, &e));
    }
}

static void run_model(uint64_t of)
{
    static struct model rows[ROWS], before[ROWS];
    struct store *s;
    struct kept_table *t;
    struct err e;

    seed = of;
    memset(rows, 0, sizeof rows);
    CHECK((s = store_open_temporary(&e)) != NULL);
    CHECK((t = kept_table_open(s, NAME, &e)) != NULL);
    for (uint64_t change = 1; change < 30; change++) {
        bool is_open = draw(4) > 0;

        memcpy(before, rows, sizeof rows);
        if (is_open)
            CHECK(store_begin(s, &e));
        for (uint64_t n = draw(20); n > 0; n--)
            change_one(t, rows, change);
        if (is_open && draw(3) == 0) {
            store_rollback(s);
            memcpy(rows, before, sizeof rows);
        } else if (is_open) {
            CHECK(kept_table_flush(t, &e) && store_commit(s, &e));
        }
        if (draw(5) == 0) {
            kept_table_close(t);
            CHECK((t = kept_table_open(s, NAME, &e)) != NULL);
        }
        check_all(t, rows);
    }
    kept_table_close(t);
    store_close(s);
}

static void test_model(void)
{
    for (uint64_t i = 1; i <= 6; i++)
        run_model(i);
}

static void exec(struct store *s, const char *sql)
{
    EQUAL((uint64_t)sqlite3_exec(store_sqlite(s), sql, NULL, NULL, NULL), SQLITE_OK);
}

/* A file from before there were pages: its rows are moved, once. */
static void test_older(void)
{
    static struct model rows[ROWS];
    struct store *s;
    struct kept_table *t;
    sqlite3_stmt *st;
    struct err e;

    seed = 7;
    CHECK((s = store_open_temporary(&e)) != NULL);
    exec(s, "CREATE TABLE " NAME STORE_ROWS);
    EQUAL((uint64_t)sqlite3_prepare_v2(store_sqlite(s), "INSERT INTO " NAME " VALUES"
                                       " (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)", -1, &st,
                                       NULL), SQLITE_OK);
    for (int64_t id = 1; id < ROWS; id += 2) {
        struct kept_row r;

        rows[id] = draw_row((uint64_t)id);
        r = row_of(&rows[id], id);
        const int64_t numbers[] = { id, (int64_t)r.hash, (int64_t)r.now.xid, (int64_t)r.now.digest,
                                    (int64_t)kept_row_flags(&r.now), (int64_t)r.now.change,
                                    kept_row_sum(&r) };
        for (int i = 0; i < 7; i++)
            sqlite3_bind_int64(st, i + 1, numbers[i]);
        sqlite3_bind_blob64(st, 8, r.key.p, r.key.len, SQLITE_STATIC);
        if (r.now.row.p != NULL) {
            sqlite3_bind_int64(st, 9, r.now.columns);
            sqlite3_bind_blob64(st, 10, r.now.row.p, r.now.row.len, SQLITE_STATIC);
        }
        if (r.older.p != NULL)
            sqlite3_bind_blob64(st, 11, r.older.p, r.older.len, SQLITE_STATIC);
        EQUAL((uint64_t)sqlite3_step(st), SQLITE_DONE);
        sqlite3_reset(st);
        sqlite3_clear_bindings(st);
    }
    sqlite3_finalize(st);
    for (int i = 0; i < 2; i++) {
        CHECK((t = kept_table_open(s, NAME, &e)) != NULL);
        check_all(t, rows);
        kept_table_close(t);
        CHECK(sqlite3_table_column_metadata(store_sqlite(s), NULL, NAME, NULL, NULL, NULL, NULL,
                                            NULL, NULL) != SQLITE_OK);
    }
    store_close(s);
}

/* A flipped bit, or another page's bytes, are no rows. */
static void test_damaged(void)
{
    static const char *const damage[] = {
        "UPDATE " NAME "_pages SET data = zeroblob(length(data))",
        "UPDATE " NAME "_pages SET data = substr(data, 1, 100)",
        "UPDATE " NAME "_pages SET first = first - 1 WHERE first > 1",
        "UPDATE " NAME "_pages SET sum = sum + 1",
    };

    for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
        struct store *s;
        struct kept_table *t;
        struct kept_row r;
        struct visit v = { .ok = true };
        struct err e;

        CHECK((s = store_open_temporary(&e)) != NULL);
        CHECK((t = kept_table_open(s, NAME, &e)) != NULL);
        CHECK(store_begin(s, &e));
        for (int64_t id = 1; id < ROWS; id++) {
            const struct model m = draw_row(1);

            r = row_of(&m, id);
            CHECK(kept_table_put(t, &r, &e));
        }
        CHECK(kept_table_flush(t, &e) && store_commit(s, &e));
        kept_table_close(t);
        exec(s, damage[i]);
        CHECK((t = kept_table_open(s, NAME, &e)) != NULL);
        CHECK(!kept_table_get(t, ROWS / 2, &r, &e));
        EQUAL((uint64_t)e.code, ERR_STATE);
        v.rows = (struct model[ROWS]){ { 0 } };
        CHECK(!kept_table_each(t, visit, &v, &e));
        EQUAL((uint64_t)e.code, ERR_STATE);
        kept_table_close(t);
        store_close(s);
    }
}

const struct unit_case kept_table_cases[] = {
    { "kept_table_model", test_model },
    { "kept_table_older", test_older },
    { "kept_table_damaged", test_damaged },
    { NULL, NULL },
};
