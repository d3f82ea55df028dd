/* slot_holder.c -- who reads a slot.
 * SPDX-License-Identifier: MIT */
#include "capture/slot_holder.h"

#include "capture/sql.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct replication *slot_holder_open(const struct config *c, struct conn *conn,
                                     struct connect_orphan *left, struct err *e)
{
    struct replication *r = replication_open(conn, c->slot_conninfo, left, e);
    char sql[160];

    if (r == NULL || c->epoch == 0)
        return r;
    snprintf(sql, sizeof sql, "SET application_name = '%s%" PRIu64 "'", c->holder, c->epoch);
    if (conn_run(replication_conn(r), sql, NULL, NULL, 0, e))
        return r;
    replication_close(r, left);
    return NULL;
}

bool slot_holder_end_former(const struct config *c, struct conn *conn)
{
    static const struct result_shape shape = { "whose connections were ended", "b", 0,
                                               RESULT_MANY };
    struct result *rows = NULL;
    struct err ignored;
    struct buf sql;
    bool has_ended = false;

    if (c->epoch == 0 || conn == NULL)
        return false;
    buf_init(&sql, BUF_SQL_MAX);
    buf_puts(&sql, "SELECT pg_catalog.pg_terminate_backend(a.pid, 5000) FROM"
             " pg_catalog.pg_replication_slots s JOIN pg_catalog.pg_stat_activity a"
             " ON a.pid = s.active_pid WHERE (s.slot_name = ");
    sql_put_literal(&sql, c->slot);
    buf_puts(&sql, " OR pg_catalog.starts_with(s.slot_name::text, ");
    sql_put_literal(&sql, c->slot);
    buf_printf(&sql, " || '_')) AND a.application_name ~ '^%s[0-9]{1,18}$' AND pg_catalog.substr("
               "a.application_name, %zu)::bigint < %" PRIu64, c->holder, strlen(c->holder) + 1,
               c->epoch);
    if (buf_ok(&sql) && conn_run(conn, sql.data, &shape, &rows, 1, &ignored))
        has_ended = result_count(rows) > 0;
    result_free(rows);
    buf_fini(&sql);
    return has_ended;
}
