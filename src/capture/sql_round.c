/* sql_round.c -- the SQL of what is asked for several sources of a database in common.
 * SPDX-License-Identifier: MIT */
#include "capture/sql_round.h"

#include "pg/session.h"

#include <inttypes.h>

const struct result_shape sql_round_counters_shapes[SQL_ROUND_COUNTERS] = {
    { "whether the server counts", "bt", 1, 1 },
    { "the counters of the tables", "ou", 0, RESULT_MANY },
};

const struct result_shape sql_round_tables_shapes[SQL_ROUND_TABLES] = {
    { "the tables and their parts", "oootuU", 0, RESULT_MANY },
    { "how far the WAL goes", "ub", 1, 1 },
};

void sql_round_begin(struct buf *b, int server_version)
{
    sql_unlimited(b, server_version);
    buf_puts(b, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;");
    session_put(b, SESSION_CAPTURE, server_version);
}

/* A row (n, oid) for each leaf. */
static void put_leaves(struct buf *b, const struct relation *const *tables, size_t n)
{
    bool is_first = true;

    buf_puts(b, "unnest('{");
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < tables[i]->n_leaves; k++, is_first = false)
            buf_printf(b, "%s%zu", is_first ? "" : ",", i);
    buf_puts(b, "}'::pg_catalog.int4[], '{");
    is_first = true;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < tables[i]->n_leaves; k++, is_first = false)
            buf_printf(b, "%s%" PRIu32, is_first ? "" : ",", tables[i]->leaves[k].oid);
    buf_puts(b, "}'::pg_catalog.oid[])");
}

void sql_round_counters(struct buf *b, const struct relation *const *tables, size_t n)
{
    /* a role or a database may have another setting than ours */
    buf_puts(b, "SELECT pg_catalog.current_setting('track_counts')::bool"
                " AND NOT EXISTS (SELECT FROM pg_catalog.pg_db_role_setting,"
                " pg_catalog.unnest(setconfig) AS c WHERE setdatabase IN (0, d.oid)"
                " AND CASE WHEN pg_catalog.lower(c) LIKE 'track_counts=%'"
                " THEN NOT pg_catalog.split_part(c, '=', 2)::bool END),"
                " coalesce(extract(epoch FROM"
                " pg_catalog.pg_stat_get_db_stat_reset_time(d.oid)), 0)::text"
                " FROM pg_catalog.pg_database d"
                " WHERE d.datname = pg_catalog.current_database();"
                "SELECT n, sum(pg_catalog.pg_stat_get_tuples_inserted(oid)"
                " + pg_catalog.pg_stat_get_tuples_updated(oid)"
                " + pg_catalog.pg_stat_get_tuples_deleted(oid)) FROM ");
    put_leaves(b, tables, n);
    buf_puts(b, " AS t(n, oid) GROUP BY n");
}

void sql_round_tables(struct buf *b, const struct relation *const *tables, size_t n)
{
    buf_puts(b, "WITH RECURSIVE tree(n, oid, is_root) AS (SELECT n, oid, true FROM unnest('{");
    for (size_t i = 0; i < n; i++)
        buf_printf(b, "%s%zu", i > 0 ? "," : "", i);
    buf_puts(b, "}'::int4[], '{");
    for (size_t i = 0; i < n; i++)
        buf_printf(b, "%s%" PRIu32, i > 0 ? "," : "", tables[i]->oid);
    buf_puts(b, "}'::oid[]) AS t(n, oid) UNION SELECT n, inhrelid, false FROM pg_inherits"
                " JOIN tree ON inhparent = tree.oid)"
                " SELECT n, c.oid, c.relfilenode, c.relkind, c.xmin::text, CASE WHEN is_root THEN"
                " (SELECT sum(a.xmin::text::int8) FROM pg_attribute a WHERE a.attrelid = c.oid"
                " AND a.attnum > 0) END"
                " FROM tree JOIN pg_class c USING (oid) ORDER BY n, c.oid;"
                "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()"
                " ELSE pg_current_wal_flush_lsn() END - '0/0', pg_is_in_recovery()");
}
