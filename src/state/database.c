/* database.c -- the state of pipelines in a database of Postgres.
 * SPDX-License-Identifier: MIT */
#include "state/database.h"

#include "base/clock.h"
#include "base/text.h"
#include "capture/sql.h"
#include "pg/conn.h"
#include "pg/connect.h"
#include "pg/sqlstate.h"
#include "state/database_load.h"
#include "state/lease.h"
#include "state/lease_row.h"
#include "state/schema.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#define TRY_MS 200 /* from one look at a lease that another process has to the next */

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
    if (e->code != ERR_MEMORY && e->code != ERR_STOPPED && e->code != ERR_TAKEN)
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

static bool connect_to(struct database *d, struct err *e)
{
    bool is_there;

    if (d->conn != NULL && conn_is_alive(d->conn))
        return true;
    disconnect(d);
    d->conn = conn_open(d->conninfo, d->o.stop_fd, CONN_STOP_GENTLY, &d->left, e);
    if (d->conn == NULL || !schema_look(d->conn, &is_there, e))
        return false;
    if (!is_there && d->o.must_exist)
        return err_set(e, ERR_STATE, "nothing is kept there yet");
    return is_there || schema_make(d->conn, e);
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
        if (!passes(&why) || d->o.at_once)
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
    } else if (row.is_there && d->o.at_once) {
        return err_set(e, ERR_STATE, "%.200s, pid %" PRIu64 ", is at work on the pipeline %.100s: "
                       "stop it first", row.host, row.pid, d->name);
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

static const char begin_transaction[] = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;";

/* Reads how the pipeline stands, in a transaction that stays open: refuses if it is not ours any
 * more. *saves: the number of the last save. */
static bool ask(struct database *d, uint64_t *saves, struct err *e)
{
    const struct result_shape shapes[] = {
        lease_row_shape, { "the number of the last save", "u", 0, 1 },
    };
    const struct lease_row_claim claim = claim_of(d);
    struct result *r[2] = { NULL, NULL };
    struct buf sql;
    bool ok;

    buf_init(&sql, BUF_SQL_MAX);
    buf_puts(&sql, begin_transaction);
    lease_row_put_question(&sql, &claim);
    buf_printf(&sql, " FOR SHARE; INSERT INTO pgcdc.state (pipeline, kind, name, key, value)"
               " VALUES (%s, 'save', '', '', '0') ON CONFLICT DO NOTHING;"
               "SELECT pg_catalog.convert_from(value, 'UTF8') FROM pgcdc.state"
               " WHERE pipeline = %s AND kind = 'save'", d->writes.pipeline, d->writes.pipeline);
    ok = (buf_ok(&sql) || err_memory(e)) && conn_run(d->conn, sql.data, shapes, r, 2, e) &&
         check_lease(d, r[0], e);
    *saves = ok && result_count(r[1]) == 1 ? result_u64(r[1], 0, 0) : 0;
    result_free(r[0]);
    result_free(r[1]);
    buf_fini(&sql);
    return ok;
}

#define NOT_AS_LEFT "22012" /* division by zero: see put_fence */

/* The first statement of each save. It gives the save its number, and fails if the lease is not
 * ours, or if the number of the last save is not what it was. Whoever takes over waits for the
 * lock on the lease until the transaction ends. So all of a save may be sent at once, COMMIT
 * included. */
static void put_fence(const struct database *d, struct buf *sql)
{
    buf_printf(sql, "WITH mine AS (SELECT FROM pgcdc.lease WHERE pipeline = %s AND epoch = %" PRIu64
               " FOR SHARE), counted AS (UPDATE pgcdc.state SET value = '%" PRIu64 "',"
               " saved = pg_catalog.now() WHERE pipeline = %s AND kind = 'save' AND name = ''"
               " AND key = '' AND value = '%" PRIu64 "' AND EXISTS (SELECT FROM mine)"
               " RETURNING 1) SELECT 1 / pg_catalog.count(*) FROM counted;",
               d->writes.pipeline, d->epoch, d->saves + 1, d->writes.pipeline, d->saves);
}

/* Runs what is in <sql>, and empties it. */
static bool run(struct database *d, struct buf *sql, struct err *e)
{
    bool ok = (buf_ok(sql) || err_memory(e)) && conn_run(d->conn, sql->data, NULL, NULL, 0, e);

    buf_clear(sql);
    return ok;
}

static bool copy_rows(struct database *d, const struct writes_piece *piece, struct buf *sql,
                      struct err *e)
{
    uint64_t n;

    writes_put_temporary(sql);
    if (!run(d, sql, e) || !conn_load(d->conn, WRITES_COPY, e) ||
        !conn_load_put(d->conn, piece->text.data, piece->text.len, e) ||
        !conn_load_end(d->conn, &n, e))
        return false;
    writes_put_take_over(&d->writes, sql);
    return true;
}

/* Sends a save: at once, unless it has many rows. */
static bool send_save(struct database *d, struct err *e)
{
    struct buf sql;
    bool ok = true;

    buf_init(&sql, SIZE_MAX / 2);
    buf_puts(&sql, begin_transaction);
    put_fence(d, &sql);
    for (size_t i = 0; ok && i < d->writes.n; i++) {
        const struct writes_piece *piece = &d->writes.pieces[i];

        if (!piece->is_rows)
            buf_add(&sql, piece->text.data, piece->text.len);
        else if (writes_are_few(piece))
            writes_put_rows(&d->writes, piece, &sql);
        else
            ok = copy_rows(d, piece, &sql, e);
    }
    buf_puts(&sql, "COMMIT");
    ok = ok && run(d, &sql, e);
    buf_fini(&sql);
    return ok;
}

static bool save(struct database *d, struct err *e)
{
    uint64_t saves;

    if (send_save(d, e))
        return true;
    if (e->code != ERR_SQL || strcmp(e->sqlstate, NOT_AS_LEFT) != 0)
        return false;
    conn_rollback(d->conn);
    if (!ask(d, &saves, e))
        return false;
    conn_rollback(d->conn);
    if (saves == d->saves + 1)
        return true; /* it was committed before, though nobody said so */
    return err_set(e, ERR_STATE, "the pipeline %.200s is not as this process left it: was it "
                   "restored? A new start goes on from what is there", d->name);
}

struct writes *database_writes(struct database *d)
{
    return &d->writes;
}

bool database_save(struct database *d, struct err *e)
{
    bool ok;

    if (!writes_end(&d->writes))
        return err_memory(e);
    if (d->writes.n == 0)
        return true;
    ok = persist(d, save, e);
    if (ok)
        d->saves++;
    writes_clear(&d->writes);
    return ok;
}

bool database_remove(struct database *d, struct err *e)
{
    writes_remove(&d->writes);
    return database_save(d, e);
}

bool database_load(struct database *d, const struct database_load_visit *visit, struct err *e)
{
    return database_load_all(d->conn, d->writes.pipeline, visit, e) || fail(e);
}

/* ---- looking ---- */

/* Appends how the pipeline stands. */
static bool tell_pipeline(struct conn *c, const char *pipeline, struct buf *text, struct err *e)
{
    static const struct result_shape shape = { "who has the pipeline", "tub", 0, 1 };
    struct result *r = NULL;
    struct buf sql;
    bool ok;

    buf_init(&sql, BUF_SQL_MAX);
    buf_puts(&sql, "SELECT host, pid, expires > pg_catalog.clock_timestamp() FROM pgcdc.lease"
             " WHERE pipeline = ");
    sql_put_literal(&sql, pipeline);
    ok = (buf_ok(&sql) || err_memory(e)) && conn_run(c, sql.data, &shape, &r, 1, e);
    if (ok && result_count(r) == 0)
        buf_printf(text, "the pipeline %s would be made", pipeline);
    else if (ok && !result_bool(r, 0, 2))
        buf_printf(text, "the pipeline %s would go on", pipeline);
    else if (ok)
        buf_printf(text, "%s, pid %" PRIu64 ", is at work on the pipeline %s: this one would wait",
                   result_text(r, 0, 0), result_u64(r, 0, 1), pipeline);
    result_free(r);
    buf_fini(&sql);
    return ok && (buf_ok(text) || err_memory(e));
}

bool database_look(const struct database_options *o, struct buf *text, struct err *e)
{
    struct conn *c = conn_open(o->conninfo, o->stop_fd, CONN_STOP_GENTLY, NULL, e);
    bool is_there, ok = c != NULL;

    if (ok)
        buf_puts(text, conn_database(c));
    buf_putc(text, '\0');
    ok = ok && schema_look(c, &is_there, e);
    if (ok && !is_there)
        buf_puts(text, "its tables would be made");
    ok = ok && (!is_there || tell_pipeline(c, o->pipeline, text, e));
    conn_close(c, NULL);
    return ok || fail(e);
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

/* Refuses a name that no pipeline has. */
static bool find(struct database *d, struct err *e)
{
    static const struct result_shape shape = { "the pipelines", "bt", 1, 1 };
    struct result *r = NULL;
    struct buf sql;
    bool ok;

    buf_init(&sql, BUF_SQL_MAX);
    buf_printf(&sql, "SELECT EXISTS (SELECT FROM pgcdc.lease WHERE pipeline = %s),"
               " coalesce(pg_catalog.string_agg(pipeline, ', '), 'none')"
               " FROM (SELECT pipeline FROM pgcdc.lease ORDER BY 1 LIMIT 20) known",
               d->writes.pipeline);
    ok = (buf_ok(&sql) || err_memory(e)) && conn_run(d->conn, sql.data, &shape, &r, 1, e);
    if (ok && !result_bool(r, 0, 0))
        ok = err_set(e, ERR_STATE, "there is no pipeline %.200s; those that are there: %.600s",
                     d->name, result_text(r, 0, 1));
    result_free(r);
    buf_fini(&sql);
    return ok;
}

/* Takes the pipeline, when it can be had, and learns the number of its last save. */
static bool take_over(struct database *d, struct err *e)
{
    if (d->o.must_exist && !persist(d, find, e))
        return false;
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
    return ask(d, &d->saves, e) && conn_run(d->conn, "COMMIT", NULL, NULL, 0, e);
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
