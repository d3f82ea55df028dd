/* slot_guard.c -- the server must not run out of room because of a slot of ours.
 * SPDX-License-Identifier: MIT */
#include "capture/slot_guard.h"

#include "base/clock.h"
#include "capture/sql.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LOOK_MS 10000      /* between two looks, at most, */
#define LEAST_LOOK_MS 500  /* and at least */
#define LASTS_MS 3000      /* for which a slot holds so much before that is warned of: what was
                            * written at once is perhaps read and confirmed by then */
#define WARN_MS 60000      /* between two warnings of what the slot holds */

enum { G_RETAINED, G_BEHIND, G_STATUS, G_KEEP, G_IDLE, G_FAILOVER, G_OTHERS, G_BARE };

static const struct result_shape shape = { "what the slot holds", "IITttbbb", 0, 1 };

/* Columns of newer versions by to_jsonb; the setting of 18 is absent before. */
static bool ask(const struct slot_guard *g, struct conn *conn, struct result **rows, struct err *e)
{
    struct buf sql;
    bool ok;

    buf_init(&sql, BUF_SQL_MAX);
    buf_puts(&sql, "SELECT (l.lsn - s.restart_lsn)::int8, (l.lsn - s.confirmed_flush_lsn)::int8,"
                   " s.wal_status, current_setting('max_slot_wal_keep_size'),"
                   " coalesce(current_setting('idle_replication_slot_timeout', true), '0'),"
                   " coalesce((to_jsonb(s) ->> 'failover')::bool, false), EXISTS (SELECT FROM"
                   " pg_catalog.pg_replication_slots o WHERE (to_jsonb(o) ->> 'failover')::bool),"
                   " pg_catalog.pg_is_in_recovery() AND NOT"
                   " current_setting('hot_standby_feedback')::bool"
                   " FROM pg_catalog.pg_replication_slots s CROSS JOIN LATERAL (SELECT CASE WHEN"
                   " pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()"
                   " ELSE pg_catalog.pg_current_wal_insert_lsn() END AS lsn) l"
                   " WHERE s.slot_name = ");
    sql_put_literal(&sql, g->slot);
    ok = buf_ok(&sql) ? conn_run(conn, sql.data, &shape, rows, 1, e) : err_memory(e);
    buf_fini(&sql);
    return ok;
}

/* ---- sentences ---- */

static const char *write_size(char *text, size_t size, uint64_t bytes)
{
    if (bytes < (uint64_t)1 << 30)
        snprintf(text, size, "%" PRIu64 " MB", bytes >> 20);
    else
        snprintf(text, size, "%.1f GB", (double)bytes / (1 << 30));
    return text;
}

static const char *write_time(char *text, size_t size, int64_t s)
{
    if (s < 120)
        snprintf(text, size, "%" PRId64 " s", s);
    else if (s < 7200)
        snprintf(text, size, "%" PRId64 " min", s / 60);
    else
        snprintf(text, size, "%" PRId64 " h", s / 3600);
    return text;
}

static const struct result_shape oldest_shape = { "the oldest transaction", "uti", 0, 1 };

/* All that was read is saved: then a transaction that is under way holds the log. */
static void put_transaction(struct buf *text, struct conn *conn)
{
    struct result *rows = NULL;
    struct err ignored;
    char time[32];
    int64_t s = 0;

    if (conn_run(conn, "SELECT pid, coalesce(application_name, ''), coalesce(extract(epoch FROM"
                       " clock_timestamp() - xact_start), 0)::int8"
                       " FROM pg_catalog.pg_stat_activity WHERE backend_xid IS NOT NULL"
                       " ORDER BY pg_catalog.age(backend_xid) DESC LIMIT 1",
                 &oldest_shape, &rows, 1, &ignored) &&
        result_count(rows) > 0 && result_i64(rows, 0, 2, &s))
        buf_printf(text, "a transaction of pid %" PRIu64 " (%.60s) is open for %s",
                   result_u64(rows, 0, 0), result_text(rows, 0, 1), write_time(time, 32, s));
    else
        buf_puts(text, "all that was read is saved, and the server has not let go of it yet");
    result_free(rows);
}

static void put_reason(struct buf *text, struct conn *conn, const struct slot_guard_holder *h,
                       uint64_t retained, uint64_t behind)
{
    char time[32];

    if (behind < retained / 2) {
        put_transaction(text, conn);
        return;
    }
    buf_printf(text, "nothing more of this source was saved for %s%s",
               write_time(time, sizeof time, (clock_mono_ms() - h->since_ms) / 1000),
               h->is_full ? ", its handlers and sinks take no more" : "");
}

static void warn_of_retained(struct slot_guard *g, struct conn *conn,
                             const struct slot_guard_holder *h, const struct result *rows,
                             uint64_t retained, uint64_t behind)
{
    const char *status = result_text(rows, 0, G_STATUS);
    bool is_over = retained > g->max_retained;
    int64_t now = clock_mono_ms();
    char holds[32], may[32];
    struct buf text;
    struct err what;

    g->much_ms = g->much_ms == 0 ? now : g->much_ms;
    if (now < g->much_ms + LASTS_MS ||
        (g->warned_ms != 0 && now < g->warned_ms + WARN_MS && (!is_over || g->has_told_over)))
        return;
    g->warned_ms = now;
    g->has_told_over = is_over;
    buf_init(&text, sizeof what.msg);
    put_reason(&text, conn, h, retained, behind);
    err_set(&what, ERR_NONE, "slot %s holds %s of %s: %s%s", g->slot,
            write_size(holds, sizeof holds, retained),
            write_size(may, sizeof may, g->max_retained), buf_ok(&text) ? text.data : "",
            status != NULL && strcmp(status, "unreserved") == 0
                ? "; the server will not keep more for it: see max_slot_wal_keep_size"
            : is_over ? "; on_full = \"keep\": it is kept"
                      : "");
    buf_fini(&text);
    sender_notice(h->sender, LOG_WARN, &what, -1);
}

/* Nobody guards the slot while the program does not run. */
static void warn_of_settings(struct slot_guard *g, const struct slot_guard_holder *h,
                             const struct result *rows)
{
    const char *idle = result_text(rows, 0, G_IDLE);
    struct err what;

    if (strcmp(result_text(rows, 0, G_KEEP), "-1") == 0) {
        err_set(&what, ERR_NONE, "max_slot_wal_keep_size is -1: while this program does not run, "
                "nothing limits how much of the log slot %s holds", g->slot);
        sender_notice(h->sender, LOG_WARN, &what, -1);
    }
    if (strcmp(idle, "0") != 0) {
        err_set(&what, ERR_NONE, "idle_replication_slot_timeout is %.20s: after a longer stop slot "
                "%s is lost", idle, g->slot);
        sender_notice(h->sender, LOG_WARN, &what, -1);
    }
    if (result_bool(rows, 0, G_BARE)) {
        err_set(&what, ERR_NONE, "hot_standby_feedback is off: the primary may remove what slot %s "
                "of this standby needs, and then it is lost", g->slot);
        sender_notice(h->sender, LOG_WARN, &what, -1);
    }
    if (result_bool(rows, 0, G_OTHERS) && !result_bool(rows, 0, G_FAILOVER)) {
        err_set(&what, ERR_NONE, "other slots are there on the standbys after a failover, and slot "
                "%s is not: see failover = true", g->slot);
        sender_notice(h->sender, LOG_WARN, &what, -1);
    }
}

/* ---- looking ---- */

void slot_guard_heed(struct slot_guard *g, const struct config *c)
{
    int64_t look_ms = c->interval_max_ms < LEAST_LOOK_MS ? LEAST_LOOK_MS
                      : c->interval_max_ms > LOOK_MS     ? LOOK_MS
                                                         : c->interval_max_ms;

    if (g->max_retained == 0 || c->max_retained < g->max_retained)
        g->max_retained = c->max_retained;
    if (g->look_ms == 0 || look_ms < g->look_ms)
        g->look_ms = look_ms;
}

static void look_at(struct slot_guard *g, struct conn *conn, const struct slot_guard_holder *h,
                    const struct result *rows, bool *is_full)
{
    const char *status = result_text(rows, 0, G_STATUS);
    int64_t retained = 0, behind = 0;

    result_i64(rows, 0, G_RETAINED, &retained);
    result_i64(rows, 0, G_BEHIND, &behind);
    if (retained < 0)
        retained = 0;
    if (behind < 0)
        behind = 0;
    g->retained = (uint64_t)retained;
    if (!g->has_begun)
        warn_of_settings(g, h, rows);
    g->has_begun = true;
    *is_full = (uint64_t)retained > g->max_retained && g->on_full != CONFIG_FULL_KEEP;
    if ((uint64_t)retained <= g->max_retained / 2 &&
        (status == NULL || strcmp(status, "unreserved") != 0))
        g->much_ms = 0;
    else if (!*is_full)
        warn_of_retained(g, conn, h, rows, (uint64_t)retained, (uint64_t)behind);
}

bool slot_guard_look(struct slot_guard *g, struct conn *conn, const struct slot_guard_holder *h,
                     uint64_t *retained, bool *is_full, struct err *e)
{
    int64_t now = clock_mono_ms();
    struct result *rows = NULL;
    bool ok;

    *is_full = false;
    *retained = g->retained;
    if (g->looked_ms != 0 && now < g->looked_ms + g->look_ms)
        return true;
    g->looked_ms = now;
    g->retained = 0;
    ok = ask(g, conn, &rows, e);
    if (ok && result_count(rows) > 0)
        look_at(g, conn, h, rows, is_full);
    *retained = g->retained;
    result_free(rows);
    return ok;
}

/* Drops the slot; ends who reads it, which must be us. */
static bool drop(const struct slot_guard *g, struct conn *conn, struct err *e)
{
    struct buf sql;
    bool ok;

    buf_init(&sql, BUF_SQL_MAX);
    buf_puts(&sql, "SELECT pg_catalog.pg_terminate_backend(active_pid, 5000)"
                   " FROM pg_catalog.pg_replication_slots WHERE active_pid IS NOT NULL"
                   " AND slot_name = ");
    sql_put_literal(&sql, g->slot);
    buf_puts(&sql, ";SELECT pg_catalog.pg_drop_replication_slot(");
    sql_put_literal(&sql, g->slot);
    buf_puts(&sql, ")");
    ok = buf_ok(&sql) ? conn_run(conn, sql.data, NULL, NULL, 0, e) : err_memory(e);
    buf_fini(&sql);
    return ok;
}

bool slot_guard_drop(struct slot_guard *g, struct conn *conn, struct err *e)
{
    char may[32];

    if (!drop(g, conn, e))
        return false;
    write_size(may, sizeof may, g->max_retained);
    if (g->on_full == CONFIG_FULL_STOP)
        return err_set(e, ERR_REFUSED, "slot %s held more than max_retained (%s) of the log, and "
                       "was dropped: on_full = \"stop\"; the next start reads by xmin what has "
                       "changed since", g->slot, may);
    err_set(e, ERR_SQL, "slot %s held more than max_retained (%s) of the log, and was dropped",
            g->slot, may);
    memcpy(e->sqlstate, "42704", sizeof "42704");
    return false;
}

void slot_guard_drop_stuck(struct slot_guard *g, struct conn *conn, struct err *e)
{
    const struct err cause = *e;

    if (!drop(g, conn, e))
        return;
    err_set(e, ERR_SQL, "slot %s was dropped, since the server does not get on with its log: %s "
            "(SQLSTATE %s)", g->slot, cause.msg, cause.sqlstate);
    memcpy(e->sqlstate, "42704", sizeof "42704");
}
