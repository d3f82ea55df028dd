/* home.c -- where a state is kept.
 * SPDX-License-Identifier: MIT */
#include "state/home.h"

#include "state/filling.h"

#include <sqlite3.h>

/* What reading a state's database calls. */

static bool add_record(void *arg, const struct store_record *r, struct err *e)
{
    return filling_add_record(arg, r, e);
}

static bool add_row(void *arg, const char *table, const struct kept_row *r, struct err *e)
{
    return filling_add_row(arg, table, r, e);
}

/* Copies all that is in the database into the store. */
static bool fill(struct store *s, struct database *d, struct err *e)
{
    struct filling f = { .to = s };
    const struct database_load_visit visit = { .record = add_record, .row = add_row, .arg = &f };
    bool ok = store_begin(s, e) && database_load(d, &visit, e) && filling_end_table(&f, e);

    filling_fini(&f);
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
