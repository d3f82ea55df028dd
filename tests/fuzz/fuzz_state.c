/* fuzz_state.c -- any bytes as a state file, or as what is in one.
 * SPDX-License-Identifier: MIT
 *
 * First byte 'F': the rest is the file. Else it is the contents of a good one: values of records,
 * and a page of rows, with a sum that fits. Whatever it is, it is read, or refused with one line
 * that says so, and a file that was read can be written. */
#include "fuzz.h"

#include "capture/position_text.h"
#include "state/kept_columns.h"
#include "state/kept_page.h"
#include "state/kept_rows.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char source[] = "public.t";
static char path[4096];
static struct rowtype *rowtype;

struct input {
    const uint8_t *p;
    size_t len;
};

static void remove_files(void)
{
    static const char *const tails[] = { "", "-wal", "-shm", "-journal" };
    char name[sizeof path + 16];

    for (size_t i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "%s%s", path, tails[i]);
        unlink(name);
    }
}

static void remove_folder(void)
{
    remove_files();
    *strrchr(path, '/') = '\0';
    rmdir(path);
}

static char *copy(const char *text)
{
    char *s = strdup(text);

    CHECK(s != NULL);
    return s;
}

static void set_up(void)
{
    const char *tmp = getenv("TMPDIR");

    if (rowtype != NULL)
        return;
    snprintf(path, sizeof path - 16, "%s/fuzz.XXXXXX", tmp != NULL && *tmp != '\0' ? tmp : "/tmp");
    CHECK(mkdtemp(path) != NULL);
    memcpy(path + strlen(path), "/state.db", sizeof "/state.db");
    atexit(remove_folder);
    rowtype = calloc(1, sizeof *rowtype);
    CHECK(rowtype != NULL);
    rowtype->columns = calloc(2, sizeof *rowtype->columns);
    rowtype->key = calloc(1, sizeof *rowtype->key);
    CHECK(rowtype->columns != NULL && rowtype->key != NULL);
    rowtype->refs = 1;
    rowtype->n_columns = rowtype->n_row = 2;
    rowtype->n_key = 1;
    rowtype->soft = SIZE_MAX;
    rowtype->database = copy("d");
    rowtype->schema = copy("public");
    rowtype->table = copy("t");
    rowtype->signature = copy("id\tinteger\nname\ttext\n");
    rowtype->columns[0] = (struct rowtype_column){
        .name = copy("id"), .type = copy("integer"), .kind = TYPES_INT };
    rowtype->columns[1] = (struct rowtype_column){
        .name = copy("name"), .type = copy("text"), .kind = TYPES_TEXT };
}

/* Nothing that fails does so without a word. */
static bool check(bool ok, const struct err *e)
{
    if (ok)
        return true;
    CHECK(e->code == ERR_STATE || e->code == ERR_MEMORY);
    CHECK_OF(e->msg[0] != '\0' && memchr(e->msg, '\n', sizeof e->msg) == NULL, e->msg,
             strlen(e->msg));
    return false;
}

static uint8_t take(struct input *in)
{
    if (in->len == 0)
        return 0;
    in->len--;
    return *in->p++;
}

/* Some bytes, as many as the first one says. */
static struct store_slice take_slice(struct input *in)
{
    size_t n = take(in);
    struct store_slice s = { (const char *)in->p, n < in->len ? n : in->len };

    in->p += s.len;
    in->len -= s.len;
    return s;
}

static int64_t take_number(struct input *in)
{
    uint64_t n = take(in);

    return (int64_t)(n << take(in) % 64);
}

/* ---- reading ---- */

static void read_records(struct store *s, const char *kind)
{
    struct store_record r;
    struct err e = { 0 };

    if (!check(store_find(s, kind, source, &e), &e))
        return;
    while (store_next(s, &r, &e))
        CHECK(r.kind.len == strlen(kind) && r.name.len == strlen(source));
    check(e.code == ERR_NONE, &e);
}

static void read_row(struct kept_rows *k, const struct kept_columns *f, int64_t id)
{
    struct kept_row row;
    struct kept_row_state to = { .change = 900, .xid = 752, .digest = 7, .reads = 1 };
    struct buf b;
    struct err e = { 0 };

    if (!check(kept_rows_get(k, id, &row, &e), &e))
        return;
    buf_init(&b, SIZE_MAX / 2);
    if (row.now.row.p != NULL)
        CHECK(kept_columns_map(f, row.now.columns, row.now.row, rowtype, &b));
    buf_fini(&b);
    check(kept_rows_put(k, &row, &to, 3, &e), &e);
}

static bool visit(void *arg, uint32_t tag, uint32_t id)
{
    int64_t *ids = arg;

    (void)tag;
    ids[0]++;
    if (ids[0] < 64)
        ids[ids[0]] = id;
    return true;
}

static void read_known(struct store *s, struct kept_columns *f, uint64_t last_change)
{
    static unsigned char all[TALLY_BUCKETS / 8];
    struct kept_row row;
    struct kept_row_state deleted = { .change = 901, .is_deleted = true };
    struct err e = { 0 };
    struct kept_rows *k = kept_rows_open(s, source, last_change, false, &e);
    int64_t ids[64] = { 0 };

    if (!check(k != NULL, &e))
        return;
    memset(all, 0xff, sizeof all);
    CHECK(kept_rows_each(k, all, visit, ids));
    CHECK((size_t)ids[0] == kept_rows_count(k));
    for (int64_t i = 1; i <= ids[0] && i < 64; i++)
        read_row(k, f, ids[i]);
    for (uint64_t hash = 1; hash <= 2; hash++)
        if (check(kept_rows_find(k, hash << 32, (struct store_slice){ "1", 1 }, &row, &e), &e) &&
            check(kept_rows_put(k, &row, &deleted, 3, &e), &e))
            check(kept_rows_purge(k, 901, &e), &e);
    kept_rows_close(k);
}

static void save_position(struct store *s, const struct position *p)
{
    struct buf text;
    struct err e = { 0 };

    buf_init(&text, SIZE_MAX / 2);
    position_text_write(p, source, &text);
    CHECK(buf_ok(&text));
    if (check(store_begin(s, &e), &e)) {
        struct store_record r = { { "position", 8 }, { source, strlen(source) }, { "", 0 },
                                  { text.data, text.len }, p->last_change };

        if (check(store_put(s, &r, &e), &e) && check(store_commit(s, &e), &e))
            CHECK(store_saved_change(s, source) == p->last_change);
        store_rollback(s);
    }
    buf_fini(&text);
}

static void read_all(struct store *s, uint64_t last_change)
{
    static const char *const kinds[] = { "position", "state", "sink", "commit", "form" };
    struct position p;
    struct kept_columns *f;
    struct err e = { 0 };
    bool found, is_other;
    uint32_t number;

    if (check(store_load(s, source, &p, &found, &e), &e) && found) {
        last_change = p.last_change;
        save_position(s, &p);
        position_fini(&p);
    }
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        read_records(s, kinds[i]);
    f = kept_columns_open(s, source, &e);
    if (!check(f != NULL, &e))
        return;
    if (check(store_begin(s, &e), &e)) {
        if (check(kept_columns_enter(f, rowtype, &number, &is_other, &e), &e))
            check(store_commit(s, &e), &e);
        store_rollback(s);
    }
    read_known(s, f, last_change);
    kept_columns_close(f);
}

static void open_and_read(uint64_t last_change)
{
    struct err e = { 0 };
    struct store *s = store_open(path, &e);
    int n;

    if (!check(s != NULL, &e))
        return;
    read_all(s, last_change);
    check(store_forget(s, source, false, &n, &e), &e);
    store_close(s);
}

/* ---- making a file ---- */

static void write_file(const uint8_t *p, size_t len)
{
    FILE *f = fopen(path, "wb");

    CHECK(f != NULL && fwrite(p, 1, len, f) == len && fclose(f) == 0);
}

static void put(struct store *s, const char *kind, const char *key, struct store_slice value)
{
    struct store_record r = { { kind, strlen(kind) }, { source, strlen(source) },
                              { key, strlen(key) }, value, 0 };
    struct err e;

    CHECK(store_put(s, &r, &e));
}

/* Puts a page with these bytes, and the sum that belongs to them, in the place of all. */
static void put_page(struct store *s, const char *table, int64_t first, struct store_slice bytes)
{
    char sql[256];
    sqlite3_stmt *st;
    struct kept_page page;

    kept_page_init(&page);
    kept_page_clear(&page, first);
    buf_add(&page.data, bytes.p, bytes.len);
    sqlite3_snprintf(sizeof sql, sql, "UPDATE %s SET first = ?1, sum = ?2, data = ?3", table);
    CHECK(sqlite3_prepare_v2(store_sqlite(s), sql, -1, &st, NULL) == SQLITE_OK);
    sqlite3_bind_int64(st, 1, first);
    sqlite3_bind_int64(st, 2, kept_page_sum(&page));
    sqlite3_bind_blob(st, 3, bytes.p, (int)bytes.len, SQLITE_TRANSIENT);
    sqlite3_step(st);
    sqlite3_finalize(st);
    kept_page_fini(&page);
}

/* The page that is there. Returns what its bytes are, owned; *first: where it begins. */
static struct buf take_page(struct store *s, const char *table, int64_t *first)
{
    char sql[256];
    sqlite3_stmt *st;
    struct buf bytes;

    buf_init(&bytes, SIZE_MAX / 2);
    sqlite3_snprintf(sizeof sql, sql, "SELECT first, data FROM %s", table);
    CHECK(sqlite3_prepare_v2(store_sqlite(s), sql, -1, &st, NULL) == SQLITE_OK);
    CHECK(sqlite3_step(st) == SQLITE_ROW);
    *first = sqlite3_column_int64(st, 0);
    buf_add(&bytes, sqlite3_column_blob(st, 1), (size_t)sqlite3_column_bytes(st, 1));
    sqlite3_finalize(st);
    return bytes;
}

/* Changes some bytes of the page, or all of them, or where it begins. */
static void change_page(struct store *s, const char *table, struct input *in)
{
    int64_t first;
    struct buf bytes = take_page(s, table, &first);
    size_t at;

    for (int i = 0; i < 4; i++) {
        at = take(in);
        if (at < bytes.len)
            bytes.data[at] = (char)take(in);
    }
    if (take(in) % 4 == 1)
        first = take_number(in);
    put_page(s, table, first, take(in) % 4 == 1 ? take_slice(in)
                                                : (struct store_slice){ bytes.data, bytes.len });
    buf_fini(&bytes);
}

static void name_table(struct store *s, char *to, size_t size)
{
    sqlite3_stmt *st;

    CHECK(sqlite3_prepare_v2(store_sqlite(s), "SELECT name FROM sqlite_schema WHERE name LIKE "
                             "'known%'", -1, &st, NULL) == SQLITE_OK);
    CHECK(sqlite3_step(st) == SQLITE_ROW);
    snprintf(to, size, "%s", (const char *)sqlite3_column_text(st, 0));
    sqlite3_finalize(st);
}

/* Rows with the hashes 1 and 2, each twice: one for each change up to 4. */
static void put_rows(struct store *s)
{
    struct err e;
    struct kept_rows *k = kept_rows_open(s, source, 0, false, &e);

    CHECK(k != NULL);
    for (uint64_t i = 1; i <= 4; i++) {
        struct kept_row row = { .hash = (1 + i % 2) << 32, .key = { &"12345"[i], 1 } };
        struct kept_row_state to = { .change = i, .xid = 700 + i, .digest = i, .columns = 1,
                                  .row = { "1\tx", 3 } };

        CHECK(kept_rows_put(k, &row, &to, 0, &e));
    }
    kept_rows_close(k);
}

static void make_contents(struct input *in)
{
    static const char *const keys[] = { "1", "2", "key", "-7", "4294967296" };
    char table[64];
    struct err e;
    struct store *s = store_open(path, &e);

    CHECK(s != NULL);
    put(s, "position", "", take_slice(in));
    put(s, "form", keys[take(in) % 5], take_slice(in));
    put(s, "form", keys[take(in) % 5], take_slice(in));
    put_rows(s);
    name_table(s, table, sizeof table);
    change_page(s, table, in);
    store_close(s);
}

void fuzz_state(const uint8_t *p, size_t len)
{
    struct input in = { p + 1, len - 1 };
    uint64_t last_change = 0;

    if (len == 0)
        return;
    set_up();
    remove_files();
    if (*p == 'F') {
        write_file(in.p, in.len);
    } else {
        last_change = take(&in) % 6;
        make_contents(&in);
    }
    open_and_read(last_change);
    remove_files();
}
