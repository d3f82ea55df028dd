/* store.c -- the state file: positions that outlive the process.
 * SPDX-License-Identifier: MIT */
#include "state/store.h"

#include "base/array.h"
#include "base/buf.h"
#include "base/file.h"
#include "base/hash.h"
#include "capture/position_text.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define APPLICATION_ID 0x70676364 /* "pgcd" */
#define FORMAT 3        /* of rows in pages; what has the one before is read, too: */
#define OLDEST_FORMAT 2

#define FLAGS (SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX) /* one thread uses it */

#define SCHEMA \
    "CREATE TABLE kept (kind TEXT NOT NULL, name TEXT NOT NULL, key TEXT NOT NULL," \
    " value TEXT NOT NULL, sum INTEGER NOT NULL, saved TEXT NOT NULL," \
    " PRIMARY KEY (kind, name, key)) WITHOUT ROWID"

/* How many things there are in the file that are not ours. */
static const char count_others[] =
    "SELECT count(*) FROM sqlite_schema WHERE type <> 'table' OR tbl_name <> name OR"
    " (name, sql) <> ('kept', '" SCHEMA "')"
    " AND NOT (name LIKE 'known\\_%' ESCAPE '\\'"
    " AND sql = 'CREATE TABLE ' || name || '" STORE_ROWS "')"
    " AND NOT (name LIKE 'known\\_%\\_pages' ESCAPE '\\'"
    " AND sql = 'CREATE TABLE ' || name || '" STORE_PAGES "')"
    " AND NOT (name LIKE 'known\\_%\\_image' ESCAPE '\\'"
    " AND sql = 'CREATE TABLE ' || name || '" STORE_IMAGE "')";

/* What is known of the position of a source. */
struct saved {
    char *source;              /* owned */
    uint64_t change;           /* the last one that the saved position accounts for */
    uint64_t next;             /* of the position that the open transaction saves, if */
    bool is_next;
};

struct store {
    char *path;
    struct saved *saved;
    size_t n_saved, cap_saved;
    sqlite3 *db;
    struct store_home home;    /* arg NULL: the file is what counts */
    unsigned rollbacks;
    sqlite3_stmt *begin, *commit, *rollback, *put, *drop, *find, *forget;
};

static bool fail(const struct store *s, struct err *e)
{
    switch (sqlite3_errcode(s->db) & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return err_set(e, ERR_STATE, "the state file %s is in use by another process: run one "
                       "pgcdc-lua for each state file, or name another with --state", s->path);
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
        return err_set(e, ERR_STATE, "the state file %s is damaged, or is not one of pgcdc-lua "
                       "(%s): restore it, or move it away to start anew", s->path,
                       sqlite3_errmsg(s->db));
    case SQLITE_READONLY:
    case SQLITE_PERM:
        return err_set(e, ERR_STATE, "the state file %s cannot be written: it is read-only",
                       s->path);
    case SQLITE_FULL:
        return err_set(e, ERR_STATE, "the state file %s cannot be written: the disk is full",
                       s->path);
    case SQLITE_NOMEM:
        return err_memory(e);
    default:
        return err_set(e, ERR_STATE, "the state file %s: %s", s->path, sqlite3_errmsg(s->db));
    }
}

static bool is_position(const struct store_record *r)
{
    return r->kind.len == 8 && memcmp(r->kind.p, "position", 8) == 0;
}

static bool fail_damaged(const struct store *s, const struct store_record *r, struct err *e)
{
    if (is_position(r))
        return err_set(e, ERR_STATE, "the state file %s is damaged: the position of %.*s cannot be "
                       "read; restore the file, or forget the position with --reset=%.*s", s->path,
                       (int)r->name.len, r->name.p, (int)r->name.len, r->name.p);
    return err_set(e, ERR_STATE, "the state file %s is damaged: the %.*s of %.*s cannot be read; "
                   "restore the file, or forget all with --reset", s->path, (int)r->kind.len,
                   r->kind.p, (int)r->name.len, r->name.p);
}

bool store_make_folder(const char *path, struct err *e)
{
    char *copy = strdup(path);
    struct path_why why;
    bool ok = true;

    if (copy == NULL)
        return err_memory(e);
    for (char *p = strchr(copy + 1, '/'); ok && p != NULL; p = strchr(p + 1, '/')) {
        *p = '\0';
        if (!file_make_folder(copy, 0700, &why))
            ok = err_set(e, ERR_STATE, "cannot make the folder %s for the state file: %s", copy,
                         why.text);
        *p = '/';
    }
    free(copy);
    return ok;
}

/* SQLite makes its files with the mode of the main one, and syncs their folder, which has this one
 * in it by then, before a first commit. */
static bool make_file(const char *path, struct err *e)
{
    struct path_why why;
    int fd = path_open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600, &why);

    if (fd < 0)
        return err_set(e, ERR_STATE, why.is_refused ? "the state file %s: %s"
                       : "the state file %s cannot be written: %s", path, why.text);
    close(fd);
    return true;
}

/* Refuses what somebody else may have put in the place of the files that SQLite keeps beside the
 * state file, since it would read them. */
static bool check_beside(const char *path, struct err *e)
{
    static const char *const endings[] = { "-wal", "-journal", "-shm" };
    struct path_why why;
    struct stat st;

    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        char name[PATH_MAX];

        if ((size_t)snprintf(name, sizeof name, "%s%s", path, endings[i]) < sizeof name &&
            !path_stat(name, &st, &why) && why.is_refused)
            return err_set(e, ERR_STATE, "the state file's %s: %s", name, why.text);
    }
    return true;
}

/* Opens the file by a path in which there is no symbolic link. */
static bool open_file(struct store *s, struct err *e)
{
    struct path_place place;
    struct path_why why;
    struct stat st;

    if (lstat(s->path, &st) == 0 && S_ISLNK(st.st_mode))
        return err_set(e, ERR_STATE, "the state file %s is a symbolic link, which is not followed: "
                       "name the file itself with --state", s->path);
    if (!store_make_folder(s->path, e) || !make_file(s->path, e))
        return false;
    if (!path_find(s->path, &place, &why))
        return err_set(e, ERR_STATE, "the state file %s: %s", s->path, why.text);
    path_fini(&place);
    return check_beside(place.real, e) &&
           (sqlite3_open_v2(place.real, &s->db, FLAGS | SQLITE_OPEN_NOFOLLOW, NULL) == SQLITE_OK ||
            fail(s, e));
}

static bool exec(struct store *s, const char *sql, struct err *e)
{
    return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK || fail(s, e);
}

static bool read_number(struct store *s, const char *sql, int *value, struct err *e)
{
    sqlite3_stmt *st = NULL;
    bool ok = sqlite3_prepare_v2(s->db, sql, -1, &st, NULL) == SQLITE_OK &&
              sqlite3_step(st) == SQLITE_ROW;

    if (ok)
        *value = sqlite3_column_int(st, 0);
    else
        fail(s, e);
    sqlite3_finalize(st);
    return ok;
}

/* Nothing that somebody wrote into the file is to run: no trigger, no view, no function. */
static bool harden(struct store *s, struct err *e)
{
    return (sqlite3_db_config(s->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL) == SQLITE_OK &&
            sqlite3_db_config(s->db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL) == SQLITE_OK &&
            sqlite3_db_config(s->db, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL) == SQLITE_OK &&
            sqlite3_db_config(s->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL) == SQLITE_OK) ||
           fail(s, e);
}

/* Locks the file, and makes sure that it is ours, or new. */
static bool set_up(struct store *s, struct err *e)
{
    int id, format, tables, others;
    char pragmas[128];

    if (!harden(s, e) ||
        !exec(s, "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL;"
                 "PRAGMA synchronous = FULL; PRAGMA cell_size_check = ON; BEGIN IMMEDIATE", e) ||
        !read_number(s, "PRAGMA application_id", &id, e) ||
        !read_number(s, "PRAGMA user_version", &format, e) ||
        !read_number(s, "SELECT count(*) FROM sqlite_schema", &tables, e))
        return false;
    if (tables > 0 && id != APPLICATION_ID)
        return err_set(e, ERR_STATE, "the state file %s is a database of another program", s->path);
    if (tables > 0 && (format < OLDEST_FORMAT || format > FORMAT))
        return err_set(e, ERR_STATE, "the state file %s has format %d, and this pgcdc-lua knows %d",
                       s->path, format, FORMAT);
    snprintf(pragmas, sizeof pragmas, "PRAGMA application_id = %d; PRAGMA user_version = %d",
             APPLICATION_ID, FORMAT);
    if ((tables == 0 && !exec(s, SCHEMA, e)) || (format != FORMAT && !exec(s, pragmas, e)))
        return false;
    if (!read_number(s, count_others, &others, e))
        return false;
    if (others > 0)
        return err_set(e, ERR_STATE, "the state file %s holds something that pgcdc-lua did not "
                       "make: restore the file, or use another one", s->path);
    return exec(s, "COMMIT", e);
}

static bool prepare(struct store *s, const char *sql, sqlite3_stmt **st, struct err *e)
{
    return sqlite3_prepare_v3(s->db, sql, -1, SQLITE_PREPARE_PERSISTENT, st, NULL) == SQLITE_OK ||
           fail(s, e);
}

/* <is_file>: else it has no name, and <path> is for messages. */
static struct store *open_store(const char *path, bool is_file, struct err *e)
{
    struct store *s = calloc(1, sizeof *s);

    if (s == NULL || (s->path = strdup(path)) == NULL) {
        free(s);
        err_memory(e);
        return NULL;
    }
    if (is_file ? !open_file(s, e)
                : sqlite3_open_v2("", &s->db, FLAGS | SQLITE_OPEN_CREATE, NULL) != SQLITE_OK &&
                      !fail(s, e))
        goto failed;
    sqlite3_busy_timeout(s->db, 200); /* a process that was killed a moment ago lets go */
    if (set_up(s, e) && prepare(s, "BEGIN IMMEDIATE", &s->begin, e) &&
        prepare(s, "COMMIT", &s->commit, e) && prepare(s, "ROLLBACK", &s->rollback, e) &&
        prepare(s, "INSERT OR REPLACE INTO kept (kind, name, key, value, sum, saved) VALUES"
                   " (?1, ?2, ?3, ?4, ?5, strftime('%Y-%m-%dT%H:%M:%fZ'))", &s->put, e) &&
        prepare(s, "DELETE FROM kept WHERE kind = ?1 AND name = ?2 AND key = ?3", &s->drop, e) &&
        prepare(s, "SELECT kind, name, key, value, sum FROM kept WHERE kind = ?1 AND name = ?2",
                &s->find, e) &&
        prepare(s, "DELETE FROM kept WHERE kind = 'position' AND"
                   " (name = ?1 OR ?2 AND substr(name, -length(?1) - 1) = '.' || ?1)",
                &s->forget, e))
        return s;
failed:
    store_close(s);
    return NULL;
}

struct store *store_open(const char *path, struct err *e)
{
    return open_store(path, true, e);
}

struct store *store_open_temporary(struct err *e)
{
    return open_store("(the copy of the state's database)", false, e);
}

void store_set_home(struct store *s, const struct store_home *home)
{
    s->home = *home;
}

void store_close(struct store *s)
{
    if (s == NULL)
        return;
    if (s->home.arg != NULL)
        s->home.close(s->home.arg);
    sqlite3_finalize(s->begin);
    sqlite3_finalize(s->commit);
    sqlite3_finalize(s->rollback);
    sqlite3_finalize(s->put);
    sqlite3_finalize(s->drop);
    sqlite3_finalize(s->find);
    sqlite3_finalize(s->forget);
    sqlite3_close(s->db);
    for (size_t i = 0; i < s->n_saved; i++)
        free(s->saved[i].source);
    free(s->saved);
    free(s->path);
    free(s);
}

/* ---- records ---- */

/* Over all that is kept: a flipped bit must not pass for a value. */
static sqlite3_int64 sum_record(const struct store_record *r)
{
    const struct store_slice *slices[] = { &r->kind, &r->name, &r->key, &r->value };
    uint64_t h = HASH_START;

    for (size_t k = 0; k < 4; k++) {
        h = hash_bytes(h, slices[k]->p, slices[k]->len);
        h = hash_add(h, 0x100); /* no byte: where one ends and the next begins */
    }
    return (sqlite3_int64)h;
}

/* ---- what positions account for ---- */

static struct saved *find_saved(const struct store *s, struct store_slice source)
{
    for (size_t i = 0; i < s->n_saved; i++)
        if (strlen(s->saved[i].source) == source.len &&
            memcmp(s->saved[i].source, source.p, source.len) == 0)
            return &s->saved[i];
    return NULL;
}

/* A position is written, which counts from the end of the transaction on. */
static bool set_next(struct store *s, struct store_slice source, uint64_t change)
{
    struct saved *it = find_saved(s, source);

    if (it == NULL) {
        struct saved fresh = { .source = strndup(source.p, source.len) };

        if (fresh.source == NULL ||
            !ARRAY_PUSH(s->saved, s->n_saved, s->cap_saved, fresh)) {
            free(fresh.source);
            return false;
        }
        it = &s->saved[s->n_saved - 1];
    }
    it->next = change;
    it->is_next = true;
    return true;
}

static void end_next(struct store *s, bool is_saved)
{
    for (size_t i = 0; i < s->n_saved; i++) {
        struct saved *it = &s->saved[i];

        if (it->is_next && is_saved)
            it->change = it->next;
        it->is_next = false;
    }
}

uint64_t store_saved_change(const struct store *s, const char *source)
{
    const struct saved *it = find_saved(s, (struct store_slice){ source, strlen(source) });

    return it != NULL ? it->change : 0;
}

/* ---- saving and reading ---- */

/* Runs a statement that gives no rows. */
static bool step(struct store *s, sqlite3_stmt *st, struct err *e)
{
    bool ok = sqlite3_step(st) == SQLITE_DONE || fail(s, e);

    sqlite3_reset(st);
    sqlite3_clear_bindings(st);
    return ok;
}

static bool bind(sqlite3_stmt *st, int i, struct store_slice text)
{
    return sqlite3_bind_text64(st, i, text.p, text.len, SQLITE_STATIC, SQLITE_UTF8) == SQLITE_OK;
}

bool store_may_work(struct store *s, bool *may, struct err *e)
{
    *may = true;
    return s->home.arg == NULL || s->home.may_work(s->home.arg, may, e);
}

uint64_t store_epoch(const struct store *s)
{
    return s->home.epoch;
}

bool store_confirm(struct store *s, struct err *e)
{
    return s->home.arg == NULL || s->home.confirm(s->home.arg, e);
}

bool store_leads(const struct store *s)
{
    return s->home.arg == NULL || s->home.leads(s->home.arg);
}

struct writes *store_writes(struct store *s)
{
    return s->home.writes;
}

bool store_save_alone(struct store *s, struct err *e)
{
    return s->home.arg == NULL || !sqlite3_get_autocommit(s->db) || s->home.save(s->home.arg, e);
}

bool store_begin(struct store *s, struct err *e)
{
    if (s->home.arg != NULL)
        s->home.clear(s->home.arg);
    return step(s, s->begin, e);
}

bool store_put(struct store *s, const struct store_record *r, struct err *e)
{
    sqlite3_stmt *st = r->value.p != NULL ? s->put : s->drop;

    if (!bind(st, 1, r->kind) || !bind(st, 2, r->name) || !bind(st, 3, r->key) ||
        (r->value.p != NULL && (!bind(st, 4, r->value) ||
                                sqlite3_bind_int64(st, 5, sum_record(r)) != SQLITE_OK)))
        return fail(s, e);
    if (is_position(r) && !set_next(s, r->name, r->value.p != NULL ? r->change : 0))
        return err_memory(e);
    if (s->home.arg != NULL)
        s->home.put(s->home.arg, r);
    return step(s, st, e);
}

bool store_commit(struct store *s, struct err *e)
{
    bool ok = (s->home.arg == NULL || s->home.save(s->home.arg, e)) && step(s, s->commit, e);

    if (ok)
        end_next(s, true);
    return ok;
}

void store_rollback(struct store *s)
{
    struct err e;

    s->rollbacks++;
    end_next(s, false);
    if (s->home.arg != NULL)
        s->home.clear(s->home.arg);
    if (!sqlite3_get_autocommit(s->db) && !step(s, s->rollback, &e)) {
        /* the next call fails in the same way */
    }
}

unsigned store_rollbacks(const struct store *s)
{
    return s->rollbacks;
}

static struct store_slice slice_of(const char *text)
{
    return (struct store_slice){ text, strlen(text) };
}

bool store_has_position(struct store *s, const char *name)
{
    sqlite3_stmt *st = NULL;
    bool found = sqlite3_prepare_v2(s->db, "SELECT 1 FROM kept WHERE kind = 'position' AND"
                                    " (name = ?1 OR substr(name, -length(?1) - 1) = '.' || ?1)",
                                    -1, &st, NULL) == SQLITE_OK &&
                 sqlite3_bind_text(st, 1, name, -1, SQLITE_TRANSIENT) == SQLITE_OK &&
                 sqlite3_step(st) == SQLITE_ROW;

    sqlite3_finalize(st);
    return found;
}

bool store_find(struct store *s, const char *kind, const char *name, struct err *e)
{
    sqlite3_reset(s->find);
    if (sqlite3_bind_text(s->find, 1, kind, -1, SQLITE_TRANSIENT) != SQLITE_OK ||
        sqlite3_bind_text(s->find, 2, name, -1, SQLITE_TRANSIENT) != SQLITE_OK)
        return fail(s, e);
    return true;
}

static struct store_slice column(sqlite3_stmt *st, int i)
{
    const char *p = (const char *)sqlite3_column_text(st, i);

    return (struct store_slice){ p != NULL ? p : "", (size_t)sqlite3_column_bytes(st, i) };
}

bool store_next(struct store *s, struct store_record *r, struct err *e)
{
    e->code = ERR_NONE;
    switch (sqlite3_step(s->find)) {
    case SQLITE_ROW:
        *r = (struct store_record){ column(s->find, 0), column(s->find, 1), column(s->find, 2),
                                    column(s->find, 3), 0 };
        if (sum_record(r) == sqlite3_column_int64(s->find, 4))
            return true;
        fail_damaged(s, r, e);
        break;
    case SQLITE_DONE:
        break;
    default:
        fail(s, e);
    }
    store_leave(s);
    return false;
}

void store_leave(struct store *s)
{
    sqlite3_reset(s->find);
    sqlite3_clear_bindings(s->find);
}

/* ---- positions ---- */

bool store_load(struct store *s, const char *source, struct position *p, bool *found, struct err *e)
{
    struct store_record r;
    bool ok = true;

    *p = (struct position){ 0 };
    if (!store_find(s, "position", source, e))
        return false;
    *found = store_next(s, &r, e);
    if (!*found)
        return e->code == ERR_NONE;
    if (!position_text_read(p, source, r.value.p))
        ok = fail_damaged(s, &r, e);
    store_leave(s);
    if (ok && !set_next(s, slice_of(source), p->last_change))
        ok = err_memory(e);
    end_next(s, ok);
    return ok;
}

bool store_forget(struct store *s, const char *source, bool is_any_schema, int *n, struct err *e)
{
    int before = sqlite3_total_changes(s->db);

    if (!bind(s->forget, 1, slice_of(source)) ||
        sqlite3_bind_int(s->forget, 2, is_any_schema) != SQLITE_OK)
        return fail(s, e);
    if (!step(s, s->forget, e))
        return false;
    *n = sqlite3_total_changes(s->db) - before;
    if (s->home.arg != NULL)
        s->home.forget(s->home.arg, source, is_any_schema);
    return store_save_alone(s, e);
}

bool store_forget_all(struct store *s, struct err *e)
{
    if (s->home.arg != NULL)
        s->home.forget_all(s->home.arg);
    return sqlite3_exec(s->db, "DELETE FROM kept", NULL, NULL, NULL) == SQLITE_OK || fail(s, e);
}

/* ---- for tables of others ---- */

struct sqlite3 *store_sqlite(struct store *s)
{
    return s->db;
}

bool store_prepare(struct store *s, const char *format, const char *table, sqlite3_stmt **st,
                   struct err *e)
{
    char sql[400];

    sqlite3_snprintf(sizeof sql, sql, format, table);
    return prepare(s, sql, st, e);
}

bool store_fail(const struct store *s, struct err *e)
{
    return fail(s, e);
}

bool store_damaged(const struct store *s, const char *what, struct err *e)
{
    return err_set(e, ERR_STATE, "the state file %s is damaged: the %s that were delivered cannot "
                   "be read; restore the file, or forget all with --reset", s->path, what);
}
