/* home.c -- where a state is kept.
 * SPDX-License-Identifier: MIT */
#include "state/home.h"

#include "state/kept_table.h"

#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

/* What reading a state's database fills. */
struct filling {
    struct store *store;
    struct kept_table *table; /* owned; NULL: none yet */
    char name[40];            /* of the table */
};

static bool add_record(void *arg, const struct store_record *r, struct err *e)
{
    struct filling *f = arg;

    return store_put(f->store, r, e);
}

/* All rows of the table have come. */
static bool end_table(struct filling *f, struct err *e)
{
    return f->table == NULL || kept_table_flush(f->table, e);
}

static bool add_row(void *arg, const char *table, const struct kept_row *r, struct err *e)
{
    struct filling *f = arg;

    if (f->table == NULL || strcmp(f->name, table) != 0) {
        if (!end_table(f, e))
            return false;
        kept_table_close(f->table);
        snprintf(f->name, sizeof f->name, "%s", table);
        f->table = kept_table_open(f->store, f->name, e);
    }
    return f->table != NULL && kept_table_put(f->table, r, e);
}

/* Copies all that is in the database into the store. */
static bool fill(struct store *s, struct database *d, struct err *e)
{
    struct filling f = { .store = s };
    const struct database_load_visit visit = { .record = add_record, .row = add_row, .arg = &f };
    bool ok = store_begin(s, e) && database_load(d, &visit, e) && end_table(&f, e);

    kept_table_close(f.table);
    return ok && store_commit(s, e);
}

/* ---- what the store calls ---- */

static void clear(void *arg)
{
    writes_clear(database_writes(arg));
}

static void put(void *arg, const struct store_record *r)
{
    writes_put(database_writes(arg), r);
}

static void forget(void *arg, const char *source, bool is_any_schema)
{
    writes_forget(database_writes(arg), source, is_any_schema);
}

static void forget_all(void *arg)
{
    writes_forget_all(database_writes(arg));
}

static bool may_work(void *arg, bool *may, struct err *e)
{
    return database_may_work(arg, may, e);
}

static bool leads(void *arg)
{
    return database_leads(arg);
}

static bool confirm(void *arg, struct err *e)
{
    return database_confirm(arg, e);
}

static bool save(void *arg, struct err *e)
{
    return database_save(arg, e);
}

static void shut(void *arg)
{
    database_close(arg);
}

struct store *home_open_database(const struct database_options *o, struct err *e)
{
    struct database *d = database_open(o, e);
    struct store *s = d != NULL ? store_open_temporary(e) : NULL;

    if (s != NULL && fill(s, d, e)) {
        const struct store_home home = {
            .arg = d, .writes = database_writes(d), .clear = clear, .put = put, .forget = forget,
            .forget_all = forget_all, .may_work = may_work, .leads = leads, .confirm = confirm,
            .save = save, .close = shut, .epoch = database_epoch(d),
        };

        store_set_home(s, &home);
        return s;
    }
    store_close(s);
    database_close(d);
    return NULL;
}

bool home_put_sources(struct store *s, struct buf *text, struct err *e)
{
    sqlite3_stmt *st = NULL;
    bool ok = store_prepare(s, "SELECT name FROM %s WHERE kind = 'position' ORDER BY name LIMIT 5",
                            "kept", &st, e);

    while (ok && sqlite3_step(st) == SQLITE_ROW)
        buf_printf(text, "%s%s", text->len > 0 ? ", " : "",
                   (const char *)sqlite3_column_text(st, 0));
    sqlite3_finalize(st);
    return ok;
}
