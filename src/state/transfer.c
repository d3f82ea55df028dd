/* transfer.c -- carries the state of a pipeline from one home to another.
 * SPDX-License-Identifier: MIT */
#include "state/transfer.h"

#include "base/text.h"
#include "pg/connect.h"
#include "state/filling.h"
#include "state/home.h"

#include <limits.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#define LEASE_S 10
#define PART 20000 /* rows in one transaction */

/* ---- the homes ---- */

/* <role>: the database tells it who leads; nobody asks. */
static struct database_options options_of(const struct transfer_home *h, bool must_exist,
                                          struct role *role)
{
    return (struct database_options){ .conninfo = h->place, .pipeline = h->pipeline,
                                      .lease_s = LEASE_S, .stop_fd = h->stop_fd, .at_once = true,
                                      .must_exist = must_exist, .role = role };
}

static struct store *open_home(const struct transfer_home *h, bool must_exist, struct role *role,
                               struct err *e)
{
    const struct database_options o = options_of(h, must_exist, role);

    if (database_is_named(h->place))
        return home_open_database(&o, e);
    if (!must_exist || access(h->place, F_OK) == 0)
        return store_open(h->place, e);
    err_set(e, ERR_STATE, "there is no state file %s", h->place);
    return NULL;
}

/* Appends the lines KEYWORD=VALUE that have a value, as one line. */
static void put_line(const char *lines, struct buf *text)
{
    for (const char *p = lines; *p != '\0'; p += strcspn(p, "\n") + 1) {
        size_t len = strcspn(p, "\n");

        if (len > 0 && p[len - 1] != '=') {
            buf_putc(text, ' ');
            buf_add(text, p, len);
        }
    }
}

/* Tells users where a home is. It has no password. */
static bool put_place(const struct transfer_home *h, struct buf *text, struct err *e)
{
    char path[PATH_MAX];
    struct buf lines;
    bool ok;

    if (!database_is_named(h->place)) {
        buf_printf(text, "the file %s", realpath(h->place, path) != NULL ? path : h->place);
        return true;
    }
    buf_init(&lines, BUF_SQL_MAX);
    ok = connect_put_place(&lines, h->place, e) && (buf_ok(&lines) || err_memory(e));
    if (ok) {
        buf_printf(text, "the pipeline %s in", h->pipeline);
        put_line(lines.data, text);
    }
    buf_fini(&lines);
    return ok;
}

/* ---- the mark ---- */

struct mark {
    char way[16]; /* "": there is none */
    char number[33];
    char place[400]; /* where the other side is */
};

static bool is_way(const struct mark *m, const char *way)
{
    return strcmp(m->way, way) == 0;
}

static bool read_mark(struct store *s, struct mark *m, struct err *e)
{
    struct store_record r;
    int at = 0;
    bool ok = true;

    *m = (struct mark){ "", "", "" };
    if (!store_find(s, "move", "", e))
        return false;
    if (!store_next(s, &r, e))
        return e->code == ERR_NONE;
    ok = sscanf(r.value.p, "%15s %32s %n", m->way, m->number, &at) == 2 && at > 0;
    if (ok)
        snprintf(m->place, sizeof m->place, "%s", r.value.p + at);
    store_leave(s);
    return ok || store_damaged(s, "mark of a copy and the rows", e);
}

static bool put_mark(struct store *s, const char *way, const struct mark *m, struct err *e)
{
    char value[sizeof *m];
    int n = snprintf(value, sizeof value, "%s %s %s", way, m->number, m->place);
    const struct store_record r = { .kind = { "move", 4 }, .name = { "", 0 }, .key = { "", 0 },
                                    .value = { value, (size_t)n } };

    return store_put(s, &r, e);
}

bool transfer_check(struct store *s, struct err *e)
{
    struct mark m;

    if (!read_mark(s, &m, e))
        return false;
    if (is_way(&m, "left"))
        return err_set(e, ERR_STATE, "this state was copied, and goes on as %s: name that with "
                       "--state, or copy it back with pgcdc-lua state action=copy", m.place);
    if (is_way(&m, "arriving"))
        return err_set(e, ERR_STATE, "this state is not whole: its copy from %s did not come to "
                       "its end; run that pgcdc-lua state action=copy again", m.place);
    return true;
}

/* ---- all that is kept ---- */

/* A list of texts. */
struct names {
    char **v; /* owned */
    size_t n;
};

static void names_fini(struct names *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->v[i]);
    free(l->v);
}

/* Reads the texts of all rows of a query, column by column. */
static bool read_names(struct store *s, const char *sql, struct names *l, struct err *e)
{
    sqlite3_stmt *st = NULL;
    int got = SQLITE_DONE;
    bool ok = store_prepare(s, "%s", sql, &st, e);

    *l = (struct names){ NULL, 0 };
    while (ok && (got = sqlite3_step(st)) == SQLITE_ROW)
        for (int i = 0; ok && i < sqlite3_column_count(st); i++) {
            const char *text = (const char *)sqlite3_column_text(st, i);
            char **more = realloc(l->v, (l->n + 1) * sizeof *more);

            l->v = more != NULL ? more : l->v;
            ok = (more != NULL && text != NULL && (more[l->n] = strdup(text)) != NULL) ||
                 err_memory(e);
            l->n += ok;
        }
    if (ok && got != SQLITE_DONE)
        ok = store_fail(s, e);
    sqlite3_finalize(st);
    return ok;
}

/* What could stand in a file that somebody made must not get into SQL. */
static bool is_plain(const char *name)
{
    return name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_")] == '\0';
}

static bool each_record(struct store *s, const struct transfer_visit *visit, struct err *e)
{
    struct names l;
    struct store_record r;
    bool ok = read_names(s, "SELECT DISTINCT kind, name FROM kept ORDER BY kind, name", &l, e);

    for (size_t i = 0; ok && i < l.n; i += 2) {
        const char *kind = l.v[i];

        if (strcmp(kind, "save") == 0 || strcmp(kind, "move") == 0)
            continue;
        ok = is_plain(kind) ? store_find(s, kind, l.v[i + 1], e)
                            : store_damaged(s, "records and rows", e);
        while (ok && store_next(s, &r, e))
            ok = visit->record(visit->arg, &r, e);
        ok = ok && e->code == ERR_NONE;
        store_leave(s);
    }
    names_fini(&l);
    return ok;
}

/* Reads the rows of a table one by one: kept_table_each does not give their columns. */
struct rows {
    struct kept_table *table;
    const char *name;
    const struct transfer_visit *visit;
};

static bool take_row(void *arg, const struct kept_row *r, struct err *e)
{
    const struct rows *rows = arg;
    struct kept_row whole;

    return kept_table_get(rows->table, r->id, &whole, e) &&
           rows->visit->row(rows->visit->arg, rows->name, &whole, e);
}

/* The names of tables for kept_table_open: known_ and 16 digits, which in the file are followed by
 * what the table has. */
static const char row_tables[] = "SELECT DISTINCT substr(name, 1, 22) FROM sqlite_schema"
                                 " WHERE type = 'table' AND name LIKE 'known\\_%' ESCAPE '\\'"
                                 " ORDER BY 1";

static bool each_row(struct store *s, const struct transfer_visit *visit, struct err *e)
{
    struct names l;
    bool ok = read_names(s, row_tables, &l, e);

    for (size_t i = 0; ok && i < l.n; i++) {
        struct rows rows = { .name = l.v[i], .visit = visit };

        if (!is_plain(l.v[i])) {
            ok = store_damaged(s, "records and rows", e);
            break;
        }
        rows.table = kept_table_open(s, l.v[i], e);
        ok = rows.table != NULL && kept_table_each(rows.table, take_row, &rows, e);
        kept_table_close(rows.table);
    }
    names_fini(&l);
    return ok;
}

/* *is_empty: nothing is kept but what tells of a copy. */
static bool look(struct store *s, bool *is_empty, struct err *e)
{
    struct names l;
    bool ok = read_names(s, "SELECT name FROM kept WHERE kind NOT IN ('save', 'epoch', 'move')"
                         " LIMIT 1", &l, e);

    *is_empty = ok && l.n == 0;
    names_fini(&l);
    return ok;
}

/* ---- copying ---- */

static bool add_record(void *arg, const struct store_record *r, struct err *e)
{
    return filling_add_record(arg, r, e);
}

/* After some rows there is another transaction. */
static bool add_row(void *arg, const char *table, const struct kept_row *r, struct err *e)
{
    struct filling *f = arg;

    if (!filling_add_row(f, table, r, e))
        return false;
    if (f->rows % PART != 0)
        return true;
    return filling_end_table(f, e) && store_commit(f->to, e) && store_begin(f->to, e);
}

/* Forgets all that is kept, rows included. */
static bool clear(struct store *s, struct err *e)
{
    struct names l;
    bool ok = read_names(s, row_tables, &l, e);

    for (size_t i = 0; ok && i < l.n; i++) {
        struct kept_table *t = kept_table_open(s, l.v[i], e);
        sqlite3_stmt *st = NULL;

        ok = t != NULL && kept_table_clear(t, e) &&
             store_prepare(s, "DROP TABLE IF EXISTS %s_image", l.v[i], &st, e) &&
             (sqlite3_step(st) == SQLITE_DONE || store_fail(s, e));
        sqlite3_finalize(st);
        kept_table_close(t);
    }
    names_fini(&l);
    return ok && store_forget_all(s, e);
}

/* Ends the transaction that is open, or undoes it. */
static bool end(struct store *s, bool ok, struct err *e)
{
    if (ok && store_commit(s, e))
        return true;
    store_rollback(s);
    return false;
}

static bool mark_arriving(struct store *to, const struct mark *m, struct err *e)
{
    return store_begin(to, e) && end(to, clear(to, e) && put_mark(to, "arriving", m, e), e);
}

static bool mark_left(struct store *from, const struct mark *m, struct err *e)
{
    return store_begin(from, e) && end(from, put_mark(from, "left", m, e), e);
}

static bool bring(struct store *from, struct store *to, const struct mark *m, struct err *e)
{
    struct filling f = { .to = to };
    const struct transfer_visit visit = { .record = add_record, .row = add_row, .arg = &f };
    bool ok = store_begin(to, e) &&
              end(to, each_row(from, &visit, e) && filling_end_table(&f, e) &&
                          each_record(from, &visit, e) && put_mark(to, "came", m, e), e);

    filling_fini(&f);
    return ok;
}

/* Refuses a copy from or to what is not as it must be. *is_old: it was made before. */
static bool check(struct store *from, const struct mark *is, struct store *to,
                  const struct mark *was, bool *is_old, struct err *e)
{
    bool is_one = is_way(is, "left") && strcmp(is->number, was->number) == 0, is_empty;

    *is_old = is_one && is_way(was, "came");
    if (*is_old || (is_one && is_way(was, "arriving")))
        return true;
    if (is_way(is, "left"))
        return err_set(e, ERR_STATE, "it was copied, and goes on as %s: copy it from there",
                       is->place);
    if (is_way(is, "arriving"))
        return err_set(e, ERR_STATE, "it is not whole: its copy from %s did not come to its end; "
                       "run that again", is->place);
    if (!look(from, &is_empty, e))
        return false;
    if (is_empty)
        return err_set(e, ERR_STATE, "nothing is kept there: look for the right name or path");
    if (is_way(was, "arriving") || is_way(was, "left"))
        return true; /* what it holds is elsewhere */
    if (!look(to, &is_empty, e))
        return false;
    return is_empty ||
           err_set(e, ERR_STATE, "the target has a state already: pgcdc-lua state shows it with "
                   "action=export, and takes it away with action=remove");
}

static bool make_number(struct mark *m, struct err *e)
{
    unsigned char bytes[16];

    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        return err_set(e, ERR_INTERNAL, "no random bytes");
    *text_put_hex(m->number, bytes, sizeof bytes) = '\0';
    return true;
}

/* Sets the other side of a mark. */
static bool set_place(struct mark *m, const struct transfer_home *h, struct err *e)
{
    struct buf text;
    bool ok;

    buf_init(&text, BUF_SQL_MAX);
    ok = put_place(h, &text, e) && (buf_ok(&text) || err_memory(e));
    if (ok)
        snprintf(m->place, sizeof m->place, "%s", text.data);
    buf_fini(&text);
    return ok;
}

static bool copy(struct store *from, const struct transfer_home *origin, struct store *to,
                 const struct transfer_home *target, bool *is_old, struct err *e)
{
    struct mark is, was, at_origin, at_target;

    if (!read_mark(from, &is, e) || !read_mark(to, &was, e) ||
        !check(from, &is, to, &was, is_old, e))
        return false;
    if (*is_old)
        return true;
    if (is_way(&is, "left"))
        at_origin = is; /* the copy goes on */
    else if (!make_number(&at_origin, e))
        return false;
    at_target = at_origin;
    return set_place(&at_origin, target, e) && set_place(&at_target, origin, e) &&
           mark_arriving(to, &at_target, e) && mark_left(from, &at_origin, e) &&
           bring(from, to, &at_target, e);
}

static bool is_same(const struct transfer_home *a, const struct transfer_home *b)
{
    struct mark x, y;
    struct err ignored;

    return set_place(&x, a, &ignored) && set_place(&y, b, &ignored) &&
           strcmp(x.place, y.place) == 0;
}

bool transfer_copy(const struct transfer_home *origin, const struct transfer_home *target,
                   bool *is_old, struct err *e)
{
    struct role roles[2];
    struct store *from, *to;
    bool ok;

    if (is_same(origin, target))
        return err_set(e, ERR_USAGE, "from and to are the same");
    if (!role_init(&roles[0], -1, e))
        return false;
    if (!role_init(&roles[1], -1, e)) {
        role_fini(&roles[0]);
        return false;
    }
    from = open_home(origin, true, &roles[0], e);
    to = from != NULL ? open_home(target, false, &roles[1], e) : NULL;
    ok = to != NULL && copy(from, origin, to, target, is_old, e);
    store_close(to);
    store_close(from);
    role_fini(&roles[1]);
    role_fini(&roles[0]);
    return ok;
}

/* ---- the rest ---- */

bool transfer_read(const struct transfer_home *h, const struct transfer_visit *visit, struct err *e)
{
    struct role role;
    struct store *s;
    bool ok;

    if (!role_init(&role, -1, e))
        return false;
    s = open_home(h, true, &role, e);
    ok = s != NULL && each_record(s, visit, e) && each_row(s, visit, e);
    store_close(s);
    role_fini(&role);
    return ok;
}

static bool remove_file(const char *path, struct err *e)
{
    static const char *const endings[] = { "-wal", "-shm", "" };
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        char name[PATH_MAX];

        if ((size_t)snprintf(name, sizeof name, "%s%s", path, endings[i]) < sizeof name &&
            unlink(name) != 0 && *endings[i] == '\0')
            return err_set(e, ERR_STATE, "the state file %s cannot be removed", path);
    }
    return true;
}

static bool remove_pipeline(const struct transfer_home *h, struct role *role, struct err *e)
{
    const struct database_options o = options_of(h, true, role);
    struct database *d = database_open(&o, e);
    bool ok = d != NULL && database_remove(d, e);

    database_close(d);
    return ok;
}

bool transfer_remove(const struct transfer_home *h, struct err *e)
{
    struct role role;
    struct store *s;
    bool ok;

    if (!role_init(&role, -1, e))
        return false;
    if (database_is_named(h->place)) {
        ok = remove_pipeline(h, &role, e);
    } else {
        s = open_home(h, true, &role, e); /* nobody is at work on it, and it is ours */
        ok = s != NULL;
        store_close(s);
        ok = ok && remove_file(h->place, e);
    }
    role_fini(&role);
    return ok;
}
