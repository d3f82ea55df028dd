/* store.c -- the state file: positions that outlive the process.      floor 3
 * SPDX-License-Identifier: MIT */
#include "store.h"

#include "buf.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define APPLICATION_ID 0x70676364 /* "pgcd" */
#define FORMAT 1

static const char schema[] =
    "CREATE TABLE IF NOT EXISTS position ("
    " source TEXT PRIMARY KEY, phase INTEGER NOT NULL,"
    " floor INTEGER NOT NULL, seen TEXT NOT NULL, floor_lsn INTEGER NOT NULL,"
    " system TEXT NOT NULL, database INTEGER NOT NULL, started TEXT NOT NULL,"
    " stats TEXT NOT NULL, timeline INTEGER NOT NULL, in_recovery INTEGER NOT NULL,"
    " xmax INTEGER NOT NULL, lsn INTEGER NOT NULL,"
    " durable_xmax INTEGER NOT NULL, durable_lsn INTEGER NOT NULL,"
    " relation INTEGER NOT NULL, signature TEXT, leaves TEXT NOT NULL, rows INTEGER NOT NULL,"
    " cuts TEXT NOT NULL, done_leaf INTEGER NOT NULL, done_end INTEGER NOT NULL,"
    " done_keys TEXT, sum INTEGER NOT NULL, saved TEXT NOT NULL) WITHOUT ROWID";

struct store {
    char *path;
    sqlite3 *db;
    sqlite3_stmt *load, *save, *forget;
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

static bool fail_damaged(const struct store *s, const char *source, struct err *e)
{
    return err_set(e, ERR_STATE, "the state file %s is damaged: the position of %s cannot be read; "
                   "restore the file, or forget the position with --reset=%s", s->path, source,
                   source);
}

static bool make_folders(const char *path, struct err *e)
{
    char *copy = strdup(path);
    bool ok = true;

    if (copy == NULL)
        return err_memory(e);
    for (char *p = strchr(copy + 1, '/'); ok && p != NULL; p = strchr(p + 1, '/')) {
        *p = '\0';
        if (mkdir(copy, 0700) != 0 && errno != EEXIST)
            ok = err_set(e, ERR_STATE, "cannot make the folder %s for the state file: %s", copy,
                         strerror(errno));
        *p = '/';
    }
    free(copy);
    return ok;
}

/* SQLite makes its files with the mode of the main one. */
static bool make_file(const char *path, struct err *e)
{
    int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);

    if (fd < 0)
        return err_set(e, ERR_STATE, "the state file %s cannot be written: %s", path,
                       strerror(errno));
    close(fd);
    return true;
}

static bool exec(struct store *s, const char *sql, struct err *e)
{
    return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK || fail(s, e);
}

static bool read_pragma(struct store *s, const char *sql, int *value, struct err *e)
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

/* Locks the file, and makes sure that it is ours, or new. */
static bool set_up(struct store *s, struct err *e)
{
    int id, format, tables;
    char mark[128];

    if (!exec(s, "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL;"
                 "PRAGMA synchronous = FULL; PRAGMA cell_size_check = ON; BEGIN IMMEDIATE", e) ||
        !read_pragma(s, "PRAGMA application_id", &id, e) ||
        !read_pragma(s, "PRAGMA user_version", &format, e) ||
        !read_pragma(s, "SELECT count(*) FROM sqlite_schema", &tables, e))
        return false;
    if (tables > 0 && id != APPLICATION_ID)
        return err_set(e, ERR_STATE, "the state file %s is a database of another program", s->path);
    if (tables > 0 && format != FORMAT)
        return err_set(e, ERR_STATE, "the state file %s has format %d, and this pgcdc-lua knows %d",
                       s->path, format, FORMAT);
    if (tables == 0) {
        snprintf(mark, sizeof mark, "PRAGMA application_id = %d; PRAGMA user_version = %d",
                 APPLICATION_ID, FORMAT);
        if (!exec(s, schema, e) || !exec(s, mark, e))
            return false;
    }
    return exec(s, "COMMIT", e);
}

static bool prepare(struct store *s, const char *sql, sqlite3_stmt **st, struct err *e)
{
    return sqlite3_prepare_v3(s->db, sql, -1, SQLITE_PREPARE_PERSISTENT, st, NULL) == SQLITE_OK ||
           fail(s, e);
}

#define COLUMNS "phase, floor, seen, floor_lsn, system, database, started, stats, timeline," \
    " in_recovery, xmax, lsn, durable_xmax, durable_lsn, relation, signature, leaves, rows," \
    " cuts, done_leaf, done_end, done_keys, sum"

struct store *store_open(const char *path, struct err *e)
{
    struct store *s = calloc(1, sizeof *s);

    if (s == NULL || (s->path = strdup(path)) == NULL) {
        free(s);
        err_memory(e);
        return NULL;
    }
    if (!make_folders(path, e) || !make_file(path, e))
        goto failed;
    if (sqlite3_open_v2(path, &s->db, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK) {
        fail(s, e);
        goto failed;
    }
    sqlite3_busy_timeout(s->db, 200); /* a process that was killed a moment ago lets go */
    if (set_up(s, e) &&
        prepare(s, "SELECT " COLUMNS " FROM position WHERE source = ?1", &s->load, e) &&
        prepare(s, "INSERT OR REPLACE INTO position (source, saved, " COLUMNS ") VALUES (?1,"
                   " strftime('%Y-%m-%dT%H:%M:%fZ'), ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11,"
                   " ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24)",
                &s->save, e) &&
        prepare(s, "DELETE FROM position WHERE ?1 IS NULL OR source = ?1", &s->forget, e))
        return s;
failed:
    store_close(s);
    return NULL;
}

void store_close(struct store *s)
{
    if (s == NULL)
        return;
    sqlite3_finalize(s->load);
    sqlite3_finalize(s->save);
    sqlite3_finalize(s->forget);
    sqlite3_close(s->db);
    free(s->path);
    free(s);
}

/* ---- sets as text ---- */

/* "752-760 762": ascending, gaps kept. */
static char *write_seen(const struct xidset *seen)
{
    struct buf b;

    buf_init(&b, SIZE_MAX / 2);
    buf_puts(&b, "");
    for (size_t i = 0, j; i < seen->n; i = j + 1) {
        for (j = i; j + 1 < seen->n && seen->v[j + 1] == seen->v[j] + 1; j++)
            ;
        buf_printf(&b, "%s%" PRIu64, i > 0 ? " " : "", seen->v[i]);
        if (j > i)
            buf_printf(&b, "-%" PRIu64, seen->v[j]);
    }
    return buf_take(&b);
}

static bool read_seen(const char *p, struct xidset *seen)
{
    while (*p != '\0') {
        char *end;
        uint64_t from = strtoull(p, &end, 10), to = from;

        if (end == p)
            return false;
        if (*end == '-') {
            p = end + 1;
            to = strtoull(p, &end, 10);
            if (end == p || to < from || to - from > 1u << 30)
                return false;
        }
        for (uint64_t x = from; x <= to; x++)
            if (!xidset_add(seen, x))
                return false;
        p = end + (*end == ' ');
        if (*end != ' ' && *end != '\0')
            return false;
    }
    return true;
}

/* "oid:filenode:blocks:next", blanks between. */
static char *write_leaves(const struct position *p)
{
    struct buf b;

    buf_init(&b, SIZE_MAX / 2);
    buf_puts(&b, "");
    for (size_t i = 0; i < p->n_leaves; i++)
        buf_printf(&b, "%s%" PRIu32 ":%" PRIu32 ":%" PRIu32 ":%" PRIu32, i > 0 ? " " : "",
                   p->leaves[i].oid, p->leaves[i].filenode, p->leaves[i].blocks, p->leaves[i].next);
    return buf_take(&b);
}

static bool read_leaves(const char *p, struct position *to)
{
    size_t n = *p != '\0';

    for (const char *q = p; *q != '\0'; q++)
        n += *q == ' ';
    if (!position_set_leaves(to, n))
        return false;
    for (size_t i = 0; i < n; i++) {
        struct leaf *leaf = &to->leaves[i];
        int used = 0;

        if (sscanf(p, "%" SCNu32 ":%" SCNu32 ":%" SCNu32 ":%" SCNu32 "%n", &leaf->oid,
                   &leaf->filenode, &leaf->blocks, &leaf->next, &used) != 4)
            return false;
        p += used + (p[used] == ' ');
    }
    return *p == '\0';
}

/* "xid tab key" a line; the key's fields are COPY text, in which a newline is two letters. */
static char *write_cuts(const struct position *p)
{
    struct buf b;

    buf_init(&b, SIZE_MAX / 2);
    buf_puts(&b, "");
    for (size_t i = 0; i < p->n_cuts; i++)
        buf_printf(&b, "%" PRIu64 "\t%s\n", p->cuts[i].xid, p->cuts[i].key);
    return buf_take(&b);
}

static bool read_cuts(const char *p, struct position *to)
{
    while (*p != '\0') {
        size_t line = strcspn(p, "\n");
        char *end;
        uint64_t xid = strtoull(p, &end, 10);

        if (*end != '\t' || p[line] != '\n' ||
            !position_add_cut(to, xid, end + 1, (size_t)(p + line - end - 1)))
            return false;
        p += line + 1;
    }
    return true;
}

/* ---- positions ---- */

/* FNV-1a over all that is kept: a flipped bit must not pass for a position. <seen>, <leaves>
 * and <cuts>: as they are written. False: no memory. */
static bool sum_position(const char *source, const struct position *p, const char *seen,
                         const char *leaves, const char *cuts, uint64_t *sum)
{
    const struct identity *id = &p->identity;
    struct buf b;
    bool ok;

    buf_init(&b, SIZE_MAX / 2);
    buf_printf(&b, "%s\n%d %" PRIu64 " %s %" PRIu64 "\n%s %" PRIu32 " %s %s %" PRIu32 " %d", source,
               (int)p->phase, p->horizon.floor, seen, p->floor_lsn, id->system, id->database,
               id->started, id->stats, id->timeline, id->in_recovery);
    buf_printf(&b, " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n%" PRIu32 " %s %" PRIu64
               "\n%" PRIu32 " %" PRIu32 "\n", id->xmax, id->lsn, id->durable_xmax, id->durable_lsn,
               p->table, leaves, p->rows, p->done.leaf, p->done.end);
    buf_puts(&b, cuts);
    buf_puts(&b, p->signature != NULL ? p->signature : "-");
    buf_puts(&b, p->done.keys != NULL ? p->done.keys : "-");
    *sum = 14695981039346656037u;
    for (size_t i = 0; i < b.len; i++)
        *sum = (*sum ^ (unsigned char)b.data[i]) * 1099511628211u;
    ok = buf_ok(&b);
    buf_fini(&b);
    return ok;
}

static uint64_t column_u64(sqlite3_stmt *st, int i)
{
    return (uint64_t)sqlite3_column_int64(st, i);
}

static bool column_text(sqlite3_stmt *st, int i, char *to, size_t size)
{
    const char *text = (const char *)sqlite3_column_text(st, i);

    return text != NULL && (size_t)snprintf(to, size, "%s", text) < size;
}

/* An owned copy; NULL stays NULL. False: no memory. */
static bool column_copy(sqlite3_stmt *st, int i, char **to)
{
    const char *text = (const char *)sqlite3_column_text(st, i);

    *to = text != NULL ? strdup(text) : NULL;
    return text == NULL || *to != NULL;
}

static bool read_position(sqlite3_stmt *st, const char *source, struct position *p)
{
    struct identity *id = &p->identity;
    const char *seen = (const char *)sqlite3_column_text(st, 2);
    const char *leaves = (const char *)sqlite3_column_text(st, 16);
    const char *cuts = (const char *)sqlite3_column_text(st, 18);
    int phase = sqlite3_column_int(st, 0);
    uint64_t sum;

    p->phase = phase == PHASE_SNAPSHOT ? PHASE_SNAPSHOT : PHASE_POLL;
    p->horizon.floor = column_u64(st, 1);
    p->floor_lsn = column_u64(st, 3);
    id->database = (uint32_t)column_u64(st, 5);
    id->timeline = (uint32_t)column_u64(st, 8);
    id->in_recovery = sqlite3_column_int(st, 9) != 0;
    id->xmax = column_u64(st, 10);
    id->lsn = column_u64(st, 11);
    id->durable_xmax = column_u64(st, 12);
    id->durable_lsn = column_u64(st, 13);
    p->table = (uint32_t)column_u64(st, 14);
    p->rows = column_u64(st, 17);
    p->done.leaf = (uint32_t)column_u64(st, 19);
    p->done.end = (uint32_t)column_u64(st, 20);
    return (phase == PHASE_SNAPSHOT || phase == PHASE_POLL) && seen != NULL && leaves != NULL &&
           cuts != NULL && read_seen(seen, &p->horizon.seen) && read_leaves(leaves, p) &&
           read_cuts(cuts, p) &&
           column_text(st, 4, id->system, sizeof id->system) &&
           column_text(st, 6, id->started, sizeof id->started) &&
           column_text(st, 7, id->stats, sizeof id->stats) &&
           column_copy(st, 15, &p->signature) && column_copy(st, 21, &p->done.keys) &&
           sum_position(source, p, seen, leaves, cuts, &sum) && sum == column_u64(st, 22);
}

bool store_load(struct store *s, const char *source, struct position *p, bool *found, struct err *e)
{
    bool ok = true;

    *p = (struct position){ 0 };
    sqlite3_bind_text(s->load, 1, source, -1, SQLITE_STATIC);
    switch (sqlite3_step(s->load)) {
    case SQLITE_ROW:
        *found = true;
        if (!read_position(s->load, source, p)) {
            position_fini(p);
            ok = fail_damaged(s, source, e);
        }
        break;
    case SQLITE_DONE:
        *found = false;
        break;
    default:
        ok = fail(s, e);
    }
    sqlite3_reset(s->load);
    return ok;
}

static void bind_u64(sqlite3_stmt *st, int i, uint64_t v)
{
    sqlite3_bind_int64(st, i, (sqlite3_int64)v);
}

static void bind_text(sqlite3_stmt *st, int i, const char *text)
{
    sqlite3_bind_text(st, i, text, -1, SQLITE_STATIC);
}

bool store_save(struct store *s, const char *source, const struct position *p, struct err *e)
{
    const struct identity *id = &p->identity;
    char *seen = write_seen(&p->horizon.seen), *leaves = write_leaves(p), *cuts = write_cuts(p);
    sqlite3_stmt *st = s->save;
    uint64_t sum = 0;
    bool ok;

    bind_text(st, 1, source);
    bind_u64(st, 2, p->phase);
    bind_u64(st, 3, p->horizon.floor);
    bind_text(st, 4, seen);
    bind_u64(st, 5, p->floor_lsn);
    bind_text(st, 6, id->system);
    bind_u64(st, 7, id->database);
    bind_text(st, 8, id->started);
    bind_text(st, 9, id->stats);
    bind_u64(st, 10, id->timeline);
    bind_u64(st, 11, id->in_recovery);
    bind_u64(st, 12, id->xmax);
    bind_u64(st, 13, id->lsn);
    bind_u64(st, 14, id->durable_xmax);
    bind_u64(st, 15, id->durable_lsn);
    bind_u64(st, 16, p->table);
    bind_text(st, 17, p->signature);
    bind_text(st, 18, leaves);
    bind_u64(st, 19, p->rows);
    bind_text(st, 20, cuts);
    bind_u64(st, 21, p->done.leaf);
    bind_u64(st, 22, p->done.end);
    bind_text(st, 23, p->done.keys);
    ok = seen != NULL && leaves != NULL && cuts != NULL &&
         sum_position(source, p, seen, leaves, cuts, &sum);
    bind_u64(st, 24, sum);
    ok = ok
             ? sqlite3_step(st) == SQLITE_DONE || fail(s, e) : err_memory(e);
    sqlite3_reset(st);
    sqlite3_clear_bindings(st);
    free(seen);
    free(leaves);
    free(cuts);
    return ok;
}

bool store_forget(struct store *s, const char *source, int *n, struct err *e)
{
    bool ok;

    bind_text(s->forget, 1, source);
    ok = sqlite3_step(s->forget) == SQLITE_DONE || fail(s, e);
    *n = sqlite3_changes(s->db);
    sqlite3_reset(s->forget);
    sqlite3_clear_bindings(s->forget);
    return ok;
}
