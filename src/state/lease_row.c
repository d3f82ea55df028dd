/* lease_row.c -- the row of a pipeline in pgcdc.lease.
 * SPDX-License-Identifier: MIT */
#include "state/lease_row.h"

#include "capture/sql.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define NOW "pg_catalog.clock_timestamp()"
#define NEXT_S 5  /* for which nobody but the next one takes a lease that was handed over */
#define WISH_S 15 /* after which a wish to lead is forgotten */

/* True in SQL if the row may be taken. One %s: our owner. */
#define MAY_TAKE "(expires <= " NOW " AND (next IS NULL OR next = '%s' OR next_until <= " NOW "))"

const struct result_shape lease_row_shape = { "who has the pipeline", "ubtu", 0, 1 };

void lease_row_put_question(struct buf *sql, const struct lease_row_claim *claim)
{
    buf_printf(sql, "SELECT epoch, owner = '%s', host, pid FROM pgcdc.lease WHERE pipeline = %s",
               claim->owner, claim->pipeline);
}

void lease_row_read(struct lease_row *row, const struct result *r)
{
    *row = (struct lease_row){ .is_there = result_count(r) == 1 };
    if (!row->is_there)
        return;
    row->epoch = result_u64(r, 0, 0);
    row->is_mine = result_bool(r, 0, 1);
    row->pid = result_u64(r, 0, 3);
    snprintf(row->host, sizeof row->host, "%s", result_text(r, 0, 2));
}

/* Runs what was put into <sql>, which is freed. */
static bool run(struct conn *c, struct buf *sql, const struct result_shape *shape,
                struct result **r, struct err *e)
{
    bool ok = (buf_ok(sql) || err_memory(e)) &&
              conn_run(c, sql->data, shape, r, shape != NULL ? 1 : 0, e);

    buf_fini(sql);
    return ok;
}

/* Whose lease has ended may have been stopped in the middle of a save, which locks the row for as
 * long as it lasts: that is ended. (By another role's connection, it cannot be: then it is waited
 * for.) */
static void end_save(struct conn *c, const struct lease_row_claim *claim)
{
    struct buf sql;
    struct err ignored;

    buf_init(&sql, BUF_SQL_MAX);
    buf_printf(&sql, "SELECT pg_catalog.pg_terminate_backend(k.pid) FROM pgcdc.lease l"
               " JOIN pg_catalog.pg_locks k ON k.locktype = 'transactionid' AND k.granted"
               " AND k.transactionid = l.xmax WHERE l.pipeline = %s AND l.expires <= " NOW
               " AND k.pid <> pg_catalog.pg_backend_pid()", claim->pipeline);
    if (!run(c, &sql, NULL, NULL, &ignored)) {
        /* what is wrong with the connection is found out by the next statement */
    }
}

/* The epoch is kept in the state, too: so it grows also where the lease is lost, and the state is
 * copied to another database. */
static void put_take(struct buf *sql, const struct lease_row_claim *claim)
{
    char host[256] = "";

    gethostname(host, sizeof host - 1);
    buf_printf(sql, "WITH taken AS (INSERT INTO pgcdc.lease AS l (pipeline, owner, epoch, expires,"
               " since, host, pid) VALUES (%s, '%s', 1 + coalesce((SELECT"
               " pg_catalog.convert_from(value, 'UTF8')::bigint FROM pgcdc.state"
               " WHERE pipeline = %s AND kind = 'epoch' AND name = '' AND key = ''), 0),",
               claim->pipeline, claim->owner, claim->pipeline);
    buf_printf(sql, NOW " + '%d s', " NOW ", ", claim->seconds);
    sql_put_literal(sql, host);
    buf_printf(sql, ", %ld) ON CONFLICT (pipeline) DO UPDATE SET owner = excluded.owner,"
               " epoch = greatest(l.epoch + 1, excluded.epoch), expires = excluded.expires,"
               " since = excluded.since, host = excluded.host, pid = excluded.pid,"
               " next = NULL, next_until = NULL WHERE (l.expires <= " NOW " AND (l.next IS NULL"
               " OR l.next = '%s' OR l.next_until <= " NOW ")) OR l.owner = excluded.owner"
               " RETURNING epoch)", (long)getpid(), claim->owner);
    buf_printf(sql, ", gone AS (DELETE FROM pgcdc.standby s USING taken WHERE s.pipeline = %s"
               " AND (s.owner = '%s' OR s.seen < " NOW " - interval '1 day'))", claim->pipeline,
               claim->owner);
    buf_printf(sql, " INSERT INTO pgcdc.state AS s (pipeline, kind, name, key, value)"
               " SELECT %s, 'epoch', '', '', pg_catalog.convert_to(epoch::text, 'UTF8') FROM taken"
               " ON CONFLICT (pipeline, kind, name, key) DO UPDATE SET value = excluded.value,"
               " saved = excluded.saved;", claim->pipeline);
}

/* Says that we wait, unless that was said a moment ago; the first time the leader is told. */
static void put_wait(struct buf *sql, const struct lease_row_claim *claim, bool is_first)
{
    char host[ROLE_NAME] = "";

    gethostname(host, sizeof host - 1);
    buf_printf(sql, "INSERT INTO pgcdc.standby AS s (pipeline, owner, host, pid, seen)"
               " SELECT %s, '%s', ", claim->pipeline, claim->owner);
    sql_put_literal(sql, host);
    buf_printf(sql, ", %ld, " NOW " WHERE NOT EXISTS (SELECT FROM pgcdc.standby"
               " WHERE pipeline = %s AND owner = '%s' AND seen > " NOW " - interval '1 s')"
               " ON CONFLICT (pipeline, owner) DO UPDATE SET seen = excluded.seen;",
               (long)getpid(), claim->pipeline, claim->owner);
    if (is_first)
        buf_puts(sql, "NOTIFY pgcdc_lease;");
}

bool lease_row_take(struct conn *c, const struct lease_row_claim *claim, bool is_first,
                    struct lease_row *row, struct err *e)
{
    static const struct result_shape shape = { "whether the lease has ended", "b", 0, 1 };
    struct result *r = NULL;
    struct buf sql;
    bool may, ok;

    buf_init(&sql, BUF_SQL_MAX);
    buf_printf(&sql, "SELECT " MAY_TAKE " OR owner = '%s' FROM pgcdc.lease WHERE pipeline = %s",
               claim->owner, claim->owner, claim->pipeline);
    if (!run(c, &sql, &shape, &r, e))
        return false;
    may = result_count(r) == 0 || result_bool(r, 0, 0);
    result_free(r);
    r = NULL;
    if (may)
        end_save(c, claim);
    buf_init(&sql, BUF_SQL_MAX);
    if (may)
        put_take(&sql, claim);
    else
        put_wait(&sql, claim, is_first);
    lease_row_put_question(&sql, claim);
    ok = run(c, &sql, &lease_row_shape, &r, e);
    if (ok)
        lease_row_read(row, r);
    result_free(r);
    return ok;
}

static void read_process(struct role_process *p, const struct result *r, size_t row)
{
    snprintf(p->owner, sizeof p->owner, "%s", result_text(r, row, 0));
    snprintf(p->host, sizeof p->host, "%s", result_text(r, row, 1));
    p->pid = result_u64(r, row, 2);
}

bool lease_row_renew(struct conn *c, const struct lease_row_claim *claim, uint64_t epoch,
                     bool *is_lost, struct lease_row_standbys *standbys, struct err *e)
{
    static const struct result_shape shapes[] = {
        { "the lease", "u", 0, 1 }, { "who waits", "ttub", 0, RESULT_MANY },
    };
    struct result *r[2] = { NULL, NULL };
    struct buf sql;
    bool ok;

    *standbys = (struct lease_row_standbys){ 0 };
    buf_init(&sql, BUF_SQL_MAX);
    buf_printf(&sql, "UPDATE pgcdc.lease SET expires = " NOW " + '%d s'"
               " WHERE pipeline = %s AND epoch = %" PRIu64 " RETURNING epoch;", claim->seconds,
               claim->pipeline, epoch);
    buf_printf(&sql, "SELECT owner, host, pid, coalesce(wished > " NOW " - interval '%d s', false)"
               " FROM pgcdc.standby WHERE pipeline = %s AND owner <> '%s'"
               " AND seen > " NOW " - interval '%d s' ORDER BY wished NULLS FIRST, seen", WISH_S,
               claim->pipeline, claim->owner, claim->seconds);
    ok = (buf_ok(&sql) || err_memory(e)) && conn_run(c, sql.data, shapes, r, 2, e);
    *is_lost = ok && result_count(r[0]) == 0;
    standbys->n = ok ? result_count(r[1]) : 0;
    if (standbys->n > 0)
        read_process(&standbys->newest, r[1], standbys->n - 1);
    if (standbys->n > 0 && result_bool(r[1], standbys->n - 1, 3))
        standbys->wants = standbys->newest;
    result_free(r[0]);
    result_free(r[1]);
    buf_fini(&sql);
    return ok;
}

bool lease_row_release(struct conn *c, const struct lease_row_claim *claim, uint64_t epoch,
                       const char *next, struct err *e)
{
    struct buf sql;

    buf_init(&sql, BUF_SQL_MAX);
    buf_puts(&sql, "UPDATE pgcdc.lease SET expires = " NOW);
    if (next != NULL)
        buf_printf(&sql, ", next = '%s', next_until = " NOW " + '%d s'", next, NEXT_S);
    buf_printf(&sql, " WHERE pipeline = %s AND epoch = %" PRIu64, claim->pipeline, epoch);
    return run(c, &sql, NULL, NULL, e);
}

bool lease_row_wish(struct conn *c, const struct lease_row_claim *claim, struct err *e)
{
    struct buf sql;

    buf_init(&sql, BUF_SQL_MAX);
    buf_printf(&sql, "UPDATE pgcdc.standby SET wished = " NOW ", seen = " NOW
               " WHERE pipeline = %s AND owner = '%s'; NOTIFY pgcdc_lease", claim->pipeline,
               claim->owner);
    return run(c, &sql, NULL, NULL, e);
}

bool lease_row_leave(struct conn *c, const struct lease_row_claim *claim, struct err *e)
{
    struct buf sql;

    buf_init(&sql, BUF_SQL_MAX);
    buf_printf(&sql, "DELETE FROM pgcdc.standby WHERE pipeline = %s AND owner = '%s';"
               " NOTIFY pgcdc_lease", claim->pipeline, claim->owner);
    return run(c, &sql, NULL, NULL, e);
}

bool lease_row_listen(struct conn *c, struct err *e)
{
    return conn_run(c, "LISTEN pgcdc_lease", NULL, NULL, 0, e);
}
