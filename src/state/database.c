/* database.c -- the state of pipelines in a database of Postgres.
 * SPDX-License-Identifier: MIT */
#include "state/database.h"

#include "base/clock.h"
#include "base/text.h"
#include "capture/sql.h"
#include "pg/conn.h"
#include "pg/connect.h"
#include "pg/copytext.h"
#include "pg/sqlstate.h"
#include "state/lease.h"
#include "state/lease_row.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#define ROW_COLUMNS "source, id, hash, xid, digest, flags, note, sum," \
    " pg_catalog.encode(key, 'hex'), form, pg_catalog.encode(\"row\", 'hex')," \
    " pg_catalog.encode(older, 'hex')"
#define TRY_MS 200 /* from one look at a lease that another process has to the next */

static const char make_tables[] =
    "BEGIN;"
    "SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('pgcdc.state'));"
    "CREATE SCHEMA IF NOT EXISTS pgcdc;"
    "CREATE TABLE pgcdc.state (pipeline text, kind text, name bytea, key bytea,"
    " value bytea NOT NULL, saved timestamptz NOT NULL DEFAULT now(),"
    " PRIMARY KEY (pipeline, kind, name, key));"
    "CREATE TABLE pgcdc.state_rows (pipeline text, source text, id bigint, hash bigint NOT NULL,"
    " xid bigint NOT NULL, digest bigint NOT NULL, flags bigint NOT NULL, note bigint NOT NULL,"
    " sum bigint NOT NULL, key bytea NOT NULL, form bigint, \"row\" bytea, older bytea,"
    " PRIMARY KEY (pipeline, source, id));"
    "CREATE TABLE pgcdc.lease (pipeline text PRIMARY KEY, owner text NOT NULL,"
    " epoch bigint NOT NULL, expires timestamptz NOT NULL, since timestamptz NOT NULL,"
    " host text NOT NULL, pid int NOT NULL, next text, next_until timestamptz);"
    "CREATE TABLE pgcdc.standby (pipeline text, owner text, host text NOT NULL, pid int NOT NULL,"
    " seen timestamptz NOT NULL, wished timestamptz, PRIMARY KEY (pipeline, owner));"
    "COMMIT";

struct database {
    struct database_options o;   /* but for its texts */
    char *conninfo, *name;       /* owned; <name>: of the pipeline */
    struct conn *conn;           /* NULL: not connected */
    struct connect_orphan left;  /* what the last connection may have left at the server */
    struct writes writes;
    char owner[33];              /* tells this process from all others */
    uint64_t epoch;              /* 0: not taken */
    bool is_waiting;             /* for the pipeline, and that was said */
    bool is_unsure;              /* of the lease, and that was said */
    uint64_t saves;              /* the number of the last save */
    int64_t asked_ms;            /* when the lease was asked for last, by clock_boot_ms */
    struct lease *lease;         /* renews it; NULL until it is taken */
};

bool database_is_named(const char *state)
{
    const char *equals = strchr(state, '='), *slash = strchr(state, '/');

    return strncmp(state, "postgres://", 11) == 0 || strncmp(state, "postgresql://", 13) == 0 ||
           (equals != NULL && (slash == NULL || equals < slash));
}

/* ---- the connection ---- */

static void disconnect(struct database *d)
{
    conn_close(d->conn, &d->left);
    d->conn = NULL;
}

/* Says what is wrong as an error of the state. An error that passes, or that means the end of the
 * program, keeps its code. */
static bool fail(struct err *e)
{
    if (e->code == ERR_SQL && strcmp(e->sqlstate, "42501") == 0)
        err_prefix(e, "the state's database: grant CREATE on it, or let its owner start this "
                   "once, and then grant USAGE on the schema pgcdc, and SELECT, INSERT, UPDATE, "
                   "DELETE on pgcdc.state, pgcdc.state_rows, pgcdc.lease and pgcdc.standby");
    else if (e->code != ERR_MEMORY && e->code != ERR_STOPPED && e->code != ERR_TAKEN)
        err_prefix(e, "the state's database");
    if (e->code == ERR_SQL || e->code == ERR_ANSWER || e->code == ERR_CONNECTION)
        e->code = ERR_STATE;
    return false;
}

static bool passes(const struct err *e)
{
    return e->code == ERR_CONNECTION ||
           (e->code == ERR_SQL && sqlstate_passes(e->sqlstate, SQLSTATE_TARGET));
}

/* Refuses a database that state cannot be kept in, and tells whether our tables are there. */
static bool look(struct database *d, bool *is_there, struct err *e)
{
    static const struct result_shape shape = { "what the database is", "tbb", 1, 1 };
    struct result *r = NULL;
    bool ok = conn_run(d->conn,
                       "SELECT pg_catalog.current_setting('server_encoding'),"
                       " pg_catalog.pg_is_in_recovery(),"
                       " pg_catalog.to_regclass('pgcdc.lease') IS NOT NULL", &shape, &r, 1, e);

    if (ok && result_bool(r, 0, 1))
        ok = err_set(e, ERR_STATE, "it is a standby: state is kept on a primary");
    if (ok && strcmp(result_text(r, 0, 0), "UTF8") != 0)
        ok = err_set(e, ERR_STATE, "its encoding is %s: state is kept in a database with UTF8",
                     result_text(r, 0, 0));
    *is_there = ok && result_bool(r, 0, 2);
    result_free(r);
    return ok;
}

static bool connect_to(struct database *d, struct err *e)
{
    bool is_there;

    if (d->conn != NULL && conn_is_alive(d->conn))
        return true;
    disconnect(d);
    d->conn = conn_open(d->conninfo, d->o.stop_fd, CONN_STOP_GENTLY, &d->left, e);
    if (d->conn == NULL || !look(d, &is_there, e))
        return false;
    return (is_there || conn_run(d->conn, make_tables, NULL, NULL, 0, e)) &&
           conn_run(d->conn, writes_temporary, NULL, NULL, 0, e);
}

/* Waits. False with ERR_STOPPED if the program is to stop. */
static bool pause_for(struct database *d, int64_t ms, struct err *e)
{
    struct pollfd p = { .fd = d->o.stop_fd, .events = POLLIN };
    bool is_first = d->epoch == 0 && d->o.pause != NULL;

    if (is_first && !d->o.pause(d->o.arg, ms, e))
        return false;
    return poll(&p, 1, is_first ? 0 : (int)ms) <= 0 ||
           err_set(e, ERR_STOPPED, "stopped while the state's database is awaited");
}

/* Calls <f> until it does not fail with what passes. */
static bool persist(struct database *d, bool (*f)(struct database *, struct err *), struct err *e)
{
    for (unsigned failures = 0; !(connect_to(d, e) && f(d, e)); failures++) {
        struct err why = *e;

        if (d->conn != NULL)
            conn_rollback(d->conn);
        if (!passes(&why))
            return fail(e);
        disconnect(d);
        if (failures == 0)
            d->o.says(d->o.arg, why.msg);
        if (!pause_for(d, sqlstate_backoff_ms(failures), e))
            return false;
    }
    return true;
}

/* ---- the lease ---- */

static struct lease_row_claim claim_of(const struct database *d)
{
    return (struct lease_row_claim){ d->writes.pipeline, d->owner, d->o.lease_s };
}

/* Shows what the row says to whoever watches the program. */
static void tell_role(struct database *d, const struct lease_row *row)
{
    struct role_facts facts = {
        .kind = row->is_mine ? ROLE_LEADER : ROLE_STANDBY, .epoch = row->epoch,
        .lease_s = d->o.lease_s, .renewed_ms = d->asked_ms,
    };

    if (!row->is_mine) {
        memcpy(facts.leader.host, row->host, sizeof facts.leader.host);
        facts.leader.pid = row->pid;
    }
    role_set(d->o.role, &facts);
}

/* Takes the pipeline; d->epoch stays 0 if another process has it. */
static bool take(struct database *d, struct err *e)
{
    const struct lease_row_claim claim = claim_of(d);
    struct lease_row row;
    char text[400];

    d->asked_ms = clock_boot_ms();
    if (!lease_row_take(d->conn, &claim, !d->is_waiting, &row, e))
        return false;
    tell_role(d, &row);
    if (row.is_mine) {
        d->epoch = row.epoch;
    } else if (role_take_wish(d->o.role)) {
        return lease_row_wish(d->conn, &claim, e);
    } else if (row.is_there && !d->is_waiting) {
        snprintf(text, sizeof text, "waiting: %.200s, pid %" PRIu64 ", is at work on the pipeline "
                 "%.100s", row.host, row.pid, d->name);
        d->o.says(d->o.arg, text);
        d->is_waiting = true;
    }
    return true;
}

/* Refuses if the pipeline is not ours any more. <r>: of lease_row_shape. */
static bool check_lease(const struct database *d, const struct result *r, struct err *e)
{
    struct lease_row row;

    lease_row_read(&row, r);
    if (!row.is_there)
        return err_set(e, ERR_TAKEN, "the pipeline %.200s is not in the state's database any more: "
                       "a new start makes it", d->name);
    if (row.epoch == d->epoch)
        return true;
    return err_set(e, ERR_TAKEN, "the pipeline %.200s was taken over by %.200s, pid %" PRIu64,
                   d->name, row.host, row.pid);
}

bool database_may_work(struct database *d, bool *may, struct err *e)
{
    enum lease_hold hold = lease_hold(d->lease);

    *may = hold == LEASE_SURE;
    if (hold == LEASE_LOST)
        return err_set(e, ERR_TAKEN, "the pipeline %.200s was taken over by another process",
                       d->name);
    if (!*may && !d->is_unsure)
        d->o.says(d->o.arg, "the lease cannot be renewed: nothing is delivered until it is, since "
                  "another process may take over");
    d->is_unsure = !*may;
    return true;
}

uint64_t database_epoch(const struct database *d)
{
    return d->epoch;
}

bool database_leads(const struct database *d)
{
    return lease_hold(d->lease) == LEASE_SURE;
}

static bool confirm(struct database *d, struct err *e)
{
    const struct lease_row_claim claim = claim_of(d);
    struct result *r = NULL;
    struct buf sql;
    bool ok;

    buf_init(&sql, BUF_SQL_MAX);
    lease_row_put_question(&sql, &claim);
    ok = (buf_ok(&sql) || err_memory(e)) &&
         conn_run(d->conn, sql.data, &lease_row_shape, &r, 1, e) && check_lease(d, r, e);
    result_free(r);
    buf_fini(&sql);
    return ok;
}

bool database_confirm(struct database *d, struct err *e)
{
    return persist(d, confirm, e);
}

/* ---- saving ---- */

/* Begins a transaction, in which the lease is ours. *saves: the number of the last save. */
static bool begin(struct database *d, uint64_t *saves, struct err *e)
{
    const struct result_shape shapes[] = {
        lease_row_shape, { "the number of the last save", "u", 0, 1 },
    };
    const struct lease_row_claim claim = claim_of(d);
    struct result *r[2] = { NULL, NULL };
    struct buf sql;
    bool ok;

    buf_init(&sql, BUF_SQL_MAX);
    buf_puts(&sql, "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;");
    lease_row_put_question(&sql, &claim);
    buf_printf(&sql, " FOR SHARE; SELECT pg_catalog.convert_from(value, 'UTF8') FROM pgcdc.state"
               " WHERE pipeline = %s AND kind = 'save'", d->writes.pipeline);
    ok = (buf_ok(&sql) || err_memory(e)) && conn_run(d->conn, sql.data, shapes, r, 2, e) &&
         check_lease(d, r[0], e);
    *saves = ok && result_count(r[1]) == 1 ? result_u64(r[1], 0, 0) : 0;
    result_free(r[0]);
    result_free(r[1]);
    buf_fini(&sql);
    return ok;
}

static bool send_rows(struct database *d, const struct buf *lines, struct err *e)
{
    uint64_t n;
    struct buf sql;
    bool ok;

    buf_init(&sql, BUF_SQL_MAX);
    writes_put_take_over(&d->writes, &sql);
    ok = (buf_ok(&sql) || err_memory(e)) && conn_load(d->conn, WRITES_COPY, e) &&
         conn_load_put(d->conn, lines->data, lines->len, e) && conn_load_end(d->conn, &n, e) &&
         conn_run(d->conn, sql.data, NULL, NULL, 0, e);
    buf_fini(&sql);
    return ok;
}

/* Writes the number of this save, and commits. */
static bool commit(struct database *d, struct err *e)
{
    char number[24];
    struct writes end;
    const struct store_record record = {
        .kind = { "save", 4 }, .name = { "", 0 }, .key = { "", 0 },
        .value = { number, (size_t)snprintf(number, sizeof number, "%" PRIu64, d->saves + 1) },
    };
    bool ok = writes_init(&end, d->name, e);

    if (ok) {
        writes_put(&end, &record);
        ok = writes_ok(&end) || err_memory(e);
    }
    if (ok) {
        buf_puts(&end.pieces[0].text, "COMMIT");
        ok = (writes_ok(&end) || err_memory(e)) &&
             conn_run(d->conn, end.pieces[0].text.data, NULL, NULL, 0, e);
    }
    writes_fini(&end);
    return ok;
}

static bool save(struct database *d, struct err *e)
{
    uint64_t saves;

    if (!begin(d, &saves, e))
        return false;
    if (saves == d->saves + 1) { /* the one before was committed, though nobody said so */
        conn_rollback(d->conn);
        return true;
    }
    if (saves != d->saves)
        return err_set(e, ERR_STATE, "the pipeline %.200s is not as this process left it: was it "
                       "restored? A new start goes on from what is there", d->name);
    for (size_t i = 0; i < d->writes.n; i++) {
        const struct writes_piece *piece = &d->writes.pieces[i];

        if (piece->is_rows ? !send_rows(d, &piece->text, e)
                           : !conn_run(d->conn, piece->text.data, NULL, NULL, 0, e))
            return false;
    }
    return commit(d, e);
}

struct writes *database_writes(struct database *d)
{
    return &d->writes;
}

bool database_save(struct database *d, struct err *e)
{
    bool ok;

    if (!writes_ok(&d->writes))
        return err_memory(e);
    if (d->writes.n == 0)
        return true;
    ok = persist(d, save, e);
    if (ok)
        d->saves++;
    writes_clear(&d->writes);
    return ok;
}

/* ---- loading ---- */

/* Turns hex digits into the bytes they stand for, in their place. */
static bool unhex(char *p, size_t len, struct store_slice *slice)
{
    if (len % 2 != 0)
        return false;
    for (size_t i = 0; i < len; i += 2) {
        int high = text_hex_digit(p[i]), low = text_hex_digit(p[i + 1]);

        if (high < 0 || low < 0)
            return false;
        p[i / 2] = (char)(high << 4 | low);
    }
    *slice = (struct store_slice){ p, len / 2 };
    return true;
}

#define MAX_FIELDS 12

/* A line of COPY, cut into fields, which end with a NUL. */
struct line {
    struct buf text;
    char *fields[MAX_FIELDS]; /* NULL: NULL */
    size_t lengths[MAX_FIELDS];
};

/* What fields hold has no backslash but in \N: names of tables, numbers, hex. */
static bool cut(struct line *l, const char *p, size_t len, size_t n)
{
    uint32_t ends[MAX_FIELDS];

    buf_clear(&l->text);
    buf_add(&l->text, p, len);
    if (!buf_ok(&l->text) || !copytext_split(p, len, ends, n))
        return false;
    for (size_t i = 0; i < n; i++) {
        size_t from = i > 0 ? ends[i - 1] + 1 : 0;

        l->lengths[i] = ends[i] - from;
        l->fields[i] = l->text.data + from;
        if (copytext_is_null((struct copytext_field){ l->fields[i], l->lengths[i] }))
            l->fields[i] = NULL;
        l->text.data[ends[i]] = '\0';
    }
    return true;
}

static bool read_bytes(const struct line *l, size_t i, struct store_slice *slice)
{
    if (l->fields[i] != NULL)
        return unhex(l->fields[i], l->lengths[i], slice);
    *slice = (struct store_slice){ NULL, 0 };
    return true;
}

static bool read_record(struct line *l, struct store_record *r)
{
    *r = (struct store_record){ .kind = { l->fields[0], l->lengths[0] } };
    return l->fields[0] != NULL && read_bytes(l, 1, &r->name) && read_bytes(l, 2, &r->key) &&
           read_bytes(l, 3, &r->value) && r->value.p != NULL;
}

static bool read_row(struct line *l, struct kept_row *r)
{
    int64_t n[8] = { 0 };

    *r = (struct kept_row){ 0 };
    for (size_t i = 1; i < 8; i++)
        if (l->fields[i] == NULL || !text_is_i64(l->fields[i], &n[i]))
            return false;
    if (l->fields[9] != NULL && !text_is_i64(l->fields[9], &n[0]))
        return false;
    r->id = n[1];
    r->hash = (uint64_t)n[2];
    r->now.xid = (uint64_t)n[3];
    r->now.digest = (uint64_t)n[4];
    kept_row_set_flags(&r->now, (uint64_t)n[5]);
    r->now.change = (uint64_t)n[6];
    r->now.columns = (uint32_t)n[0];
    return l->fields[0] != NULL && read_bytes(l, 8, &r->key) && r->key.p != NULL &&
           read_bytes(l, 10, &r->now.row) && read_bytes(l, 11, &r->older) &&
           kept_row_sum(r) == (int32_t)n[7];
}

/* Calls the visitor for a line. */
static bool take_line(struct line *l, size_t n, const struct database_visit *visit, struct err *e)
{
    struct store_record record;
    struct kept_row row;

    if (n == 4 && read_record(l, &record))
        return visit->record(visit->arg, &record, e);
    if (n == MAX_FIELDS && read_row(l, &row))
        return visit->row(visit->arg, l->fields[0], &row, e);
    return err_set(e, ERR_STATE, "%s cannot be read: restore it, or forget all with --reset",
                   n == 4 ? "a record in pgcdc.state" : "a row in pgcdc.state_rows");
}

/* Reads what a COPY of <n> columns gives. */
static bool load_all(struct database *d, const char *format, size_t n,
                     const struct database_visit *visit, struct err *e)
{
    struct line l;
    struct buf sql;
    const char *p;
    size_t len;
    enum conn_copy got = CONN_COPY_FAILED;
    bool ok;

    buf_init(&l.text, SIZE_MAX / 2);
    buf_init(&sql, BUF_SQL_MAX);
    buf_printf(&sql, "COPY (SELECT %s WHERE pipeline = %s ORDER BY 1) TO STDOUT", format,
               d->writes.pipeline);
    ok = (buf_ok(&sql) || err_memory(e)) && conn_copy(d->conn, sql.data, e);
    while (ok && (got = conn_copy_next(d->conn, &p, &len, e)) == CONN_COPY_LINE)
        ok = cut(&l, p, len, n) ? take_line(&l, n, visit, e)
                                : err_set(e, ERR_STATE, "its answer cannot be read");
    buf_fini(&l.text);
    buf_fini(&sql);
    return ok && got == CONN_COPY_END;
}

bool database_load(struct database *d, const struct database_visit *visit, struct err *e)
{
    return (load_all(d, "kind, pg_catalog.encode(name, 'hex'), pg_catalog.encode(key, 'hex'),"
                     " pg_catalog.encode(value, 'hex') FROM pgcdc.state", 4, visit, e) &&
            load_all(d, ROW_COLUMNS " FROM pgcdc.state_rows", MAX_FIELDS, visit, e)) || fail(e);
}

/* ---- birth and death ---- */

static bool make_owner(struct database *d, struct err *e)
{
    unsigned char bytes[16];

    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        return err_set(e, ERR_INTERNAL, "no random bytes");
    *text_put_hex(d->owner, bytes, sizeof bytes) = '\0';
    return true;
}

/* Takes the pipeline, when it can be had, and learns the number of its last save. */
static bool take_over(struct database *d, struct err *e)
{
    while (true) {
        if (!persist(d, take, e))
            return false;
        if (d->epoch != 0)
            return true;
        if (!pause_for(d, TRY_MS, e))
            return false;
    }
}

static bool keep_lease(struct database *d, struct err *e)
{
    const struct lease_options o = { .conninfo = d->conninfo, .claim = claim_of(d),
                                     .epoch = d->epoch, .role = d->o.role };

    d->lease = lease_new(&o, d->asked_ms, e);
    return d->lease != NULL;
}

static bool learn_saves(struct database *d, struct err *e)
{
    bool ok = begin(d, &d->saves, e);

    conn_rollback(d->conn);
    return ok;
}

struct database *database_open(const struct database_options *o, struct err *e)
{
    struct database *d = calloc(1, sizeof *d);

    if (d == NULL) {
        err_memory(e);
        return NULL;
    }
    d->o = *o;
    d->conninfo = strdup(o->conninfo);
    d->name = strdup(o->pipeline);
    if (((d->conninfo != NULL && d->name != NULL) || err_memory(e)) &&
        writes_init(&d->writes, d->name, e) && make_owner(d, e) && take_over(d, e) &&
        keep_lease(d, e) && persist(d, learn_saves, e))
        return d;
    database_close(d);
    return NULL;
}

/* So that another process need not wait. */
static void release(struct database *d)
{
    const struct lease_row_claim claim = claim_of(d);
    struct role_process next;
    struct err ignored;

    role_next(d->o.role, &next);
    if (d->epoch == 0 ? !lease_row_leave(d->conn, &claim, &ignored)
                      : !lease_row_release(d->conn, &claim, d->epoch,
                                           next.host[0] != '\0' ? next.owner : NULL, &ignored)) {
        /* it expires by itself */
    }
}

void database_close(struct database *d)
{
    if (d == NULL)
        return;
    lease_free(d->lease);
    if (d->conn != NULL && conn_transaction(d->conn) == CONN_IDLE)
        release(d);
    disconnect(d);
    writes_fini(&d->writes);
    free(d->conninfo);
    free(d->name);
    free(d);
}
