/* sql_hints.c -- the SQL of hints: what is written in the WAL, and polls of a few blocks.
 *
 * A poll of blocks joins the list of ranges with a scan of one range. OFFSET 0 keeps that scan a
 * subquery of its own, so that the server reads the range, as a TID range scan, for each item of
 * the list. Names of ours are such as no table has by chance, since a condition of the script is
 * inside of the scan.
 *
 * SPDX-License-Identifier: MIT */
#include "capture/sql_hints.h"

#include "pg/lsn.h"

#include <inttypes.h>

const struct result_shape sql_hints_probe_shape = { "what reads the WAL", "TTBBb", 1, 1 };
const struct result_shape sql_hints_end_shape = { "how far the WAL goes", "ubu", 1, 1 };
const struct result_shape sql_hints_wait_shape = { "how far the WAL is flushed", "u", 1, 1 };
const struct result_shape sql_hints_wal_shape = { "the blocks in the WAL", "uou", 0,
                                                  HINTS_MOST_PAIRS + 1 };
const struct result_shape sql_hints_summaries_shape = { "the summaries of the WAL", "uu", 0,
                                                        RESULT_MANY };
const struct result_shape sql_hints_compare_shape = { "the rows beside the blocks", "u", 1, 1 };

const char sql_hints_undo[] = "ROLLBACK TO SAVEPOINT pgcdc_hints;RELEASE SAVEPOINT pgcdc_hints";

/* The leaves of the table, with what the WAL has of them. */
static void put_tree(struct buf *b, const struct relation *t)
{
    buf_puts(b, "WITH RECURSIVE tree(oid) AS (SELECT ");
    sql_put_regclass(b, t);
    buf_puts(b, "::oid UNION SELECT inhrelid FROM pg_catalog.pg_inherits"
                " JOIN tree ON inhparent = tree.oid), leaf AS (SELECT c.oid,"
                " pg_catalog.pg_relation_filenode(c.oid) AS filenode,"
                " c.relpersistence = 'p' AND NOT c.relisshared AS is_logged"
                " FROM tree JOIN pg_catalog.pg_class c USING (oid)"
                " WHERE c.relkind IN ('r', 'm'))");
}

/* The extension's functions are told by what they belong to, since anybody could make one of that
 * name. One of our own must be of an owner who may call them: what it does, the owner could do. */
void sql_hints_probe(struct buf *b, const struct relation *t)
{
    put_tree(b, t);
    buf_puts(b, ", ext AS (SELECT p.oid, pg_catalog.format('%I.%I', n.nspname, p.proname) AS name,"
                " p.proname = 'pg_get_wal_block_info' AS is_blocks,"
                " pg_catalog.has_function_privilege(p.oid, 'EXECUTE')"
                " AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') AS may"
                " FROM pg_catalog.pg_extension x JOIN pg_catalog.pg_depend d"
                " ON d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass"
                " AND d.refobjid = x.oid AND d.deptype = 'e'"
                " AND d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass"
                " JOIN pg_catalog.pg_proc p ON p.oid = d.objid"
                " JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace"
                " WHERE x.extname = 'pg_walinspect' AND (p.proname, p.pronargs) IN"
                " (('pg_get_wal_block_info', 3), ('pg_get_wal_records_info', 2))"
                " ORDER BY p.proname LIMIT 1)"
                " SELECT (SELECT pg_catalog.format('%I.%I', n.nspname, p.proname)"
                " FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n"
                " ON n.oid = p.pronamespace JOIN pg_catalog.pg_roles o ON o.oid = p.proowner"
                " WHERE n.nspname = 'pgcdc' AND p.prosecdef AND p.pronargs = 2");
    buf_printf(b, " AND p.proname = 'wal_blocks_%" PRIu32 "'", t->oid);
    buf_puts(b, " AND pg_catalog.has_function_privilege(p.oid, 'EXECUTE')"
                " AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND (o.rolsuper OR"
                " pg_catalog.has_function_privilege(o.oid, (SELECT oid FROM ext), 'EXECUTE'))),"
                " (SELECT name FROM ext), (SELECT is_blocks FROM ext), (SELECT may FROM ext),"
                " EXISTS (SELECT FROM leaf WHERE NOT is_logged)");
}

/* Up to where the WAL is sure not to change. */
static void put_flushed(struct buf *b)
{
    buf_puts(b, "CASE WHEN pg_catalog.pg_is_in_recovery()"
                " THEN pg_catalog.pg_last_wal_replay_lsn()"
                " ELSE pg_catalog.pg_current_wal_flush_lsn() END - '0/0'");
}

/* Two numbers that make the next xid, see hints_next_xid. */
static void put_next_xid(struct buf *b)
{
    buf_puts(b, "pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text,"
                " pg_catalog.age('3'::pg_catalog.xid)");
}

void sql_hints_note(struct buf *b, const struct relation *t,
                    struct result_shape shapes[SQL_HINTS_NOTE])
{
    shapes[0] = (struct result_shape){ "how far the WAL is flushed", "ub", 1, 1 };
    shapes[1] = (struct result_shape){ "the files of the table", "oo", 0, RESULT_MANY };
    shapes[2] = (struct result_shape){ "the next transaction id", "ui", 1, 1 };
    shapes[3] = sql_facts_shape;
    buf_puts(b, "SELECT ");
    put_flushed(b);
    buf_puts(b, ", pg_catalog.pg_is_in_recovery();");
    put_tree(b, t);
    buf_puts(b, "SELECT oid, filenode FROM leaf WHERE is_logged AND filenode IS NOT NULL"
                " ORDER BY oid;SELECT ");
    put_next_xid(b);
    buf_putc(b, ';');
    sql_facts(b);
}

void sql_hints_end(struct buf *b, const struct relation *t)
{
    buf_puts(b, "SELECT ");
    put_flushed(b);
    buf_puts(b, ", pg_is_in_recovery(), (SELECT coalesce(sum(pg_relation_size(oid)), 0)"
                " / current_setting('block_size')::int FROM unnest('{");
    for (size_t i = 0; i < t->n_leaves; i++)
        buf_printf(b, "%s%" PRIu32, i > 0 ? "," : "", t->leaves[i].oid);
    buf_puts(b, "}'::oid[]) AS oid)::bigint");
}

void sql_hints_wait(struct buf *b, int ms)
{
    buf_printf(b, "SELECT pg_current_wal_flush_lsn() - '0/0' FROM pg_sleep(%d.%03d)", ms / 1000,
               ms % 1000);
}

/* The records that put no version of a row anywhere: locks, deletes, vacuum. */
static void put_is_write(struct buf *b)
{
    buf_puts(b, "xid <> '0'::xid AND record_type <> ALL ('{LOCK,LOCK_UPDATED,DELETE,VACUUM,VISIBLE,"
                "FREEZE_PAGE,INPLACE,CONFIRM}') AND record_type NOT LIKE 'PRUNE%'");
}

static void put_filenodes(struct buf *b, const struct sql_hints_source *s)
{
    buf_puts(b, "'{");
    for (size_t i = 0; i < s->n_filenodes; i++)
        buf_printf(b, "%s%" PRIu32, i > 0 ? "," : "", s->filenodes[i]);
    buf_puts(b, "}'");
}

static void put_call(struct buf *b, const struct sql_hints_source *s, const char *more)
{
    char from[LSN_TEXT], to[LSN_TEXT];

    buf_printf(b, "%s('%s', '%s'%s)", s->function, lsn_write(s->from, from), lsn_write(s->to, to),
               more);
}

/* pg_get_wal_block_info: a row for each block of a record. */
static void put_blocks(struct buf *b, const struct sql_hints_source *s)
{
    buf_puts(b, "SELECT DISTINCT xid::text, relfilenode, relblocknumber FROM ");
    put_call(b, s, ", false");
    buf_puts(b, " WHERE relforknumber = 0 AND reldatabase ="
                " (SELECT oid FROM pg_database WHERE datname = current_database())"
                " AND relfilenode = ANY (");
    put_filenodes(b, s);
    buf_puts(b, "::oid[]) AND ");
    put_is_write(b);
}

/* pg_get_wal_records_info: all blocks of a record as one text, "blkref #0: rel 1663/5/16384 fork
 * main blk 7 ...", where 5 is the database. A record of tables has two of them at most. */
static void put_records(struct buf *b, const struct sql_hints_source *s)
{
    buf_puts(b, "SELECT DISTINCT xid::text, split_part(ref, ' ', 1)::oid,"
                " substring(ref FROM '^[0-9]+ fork main blk ([0-9]+)')::bigint"
                " FROM (SELECT xid, split_part(block_ref, '/' || d.oid || '/', n) AS ref FROM ");
    put_call(b, s, "");
    buf_puts(b, ", pg_database d, generate_series(2, 3) AS n WHERE datname = current_database()"
                " AND position('/' || d.oid || '/' IN block_ref) > 0 AND ");
    put_is_write(b);
    buf_puts(b, " OFFSET 0) AS r WHERE split_part(ref, ' ', 1) = ANY (");
    put_filenodes(b, s);
    buf_puts(b, "::text[]) AND ref ~ '^[0-9]+ fork main blk '");
}

void sql_hints_wal(struct buf *b, const struct sql_hints_source *sources, size_t n)
{
    buf_puts(b, "SAVEPOINT pgcdc_hints;");
    for (size_t i = 0; i < n; i++) {
        const struct sql_hints_source *s = &sources[i];

        buf_puts(b, i > 0 ? " UNION ALL " : "");
        switch (s->kind) {
        case SQL_HINTS_OWN:
            buf_puts(b, "SELECT xid::text, filenode, block FROM ");
            put_call(b, s, "");
            break;
        case SQL_HINTS_BLOCKS:
            put_blocks(b, s);
            break;
        case SQL_HINTS_RECORDS:
            put_records(b, s);
            break;
        }
    }
    buf_printf(b, " LIMIT %d;RELEASE SAVEPOINT pgcdc_hints", HINTS_MOST_PAIRS + 1);
}

/* ---- summaries ---- */

void sql_hints_summaries(struct buf *b, uint32_t timeline, uint64_t from)
{
    char lsn[LSN_TEXT];

    buf_printf(b, "SAVEPOINT pgcdc_hints;SELECT start_lsn - '0/0', end_lsn - '0/0'"
               " FROM pg_catalog.pg_available_wal_summaries() WHERE tli = %" PRIu32
               " AND end_lsn > '%s';RELEASE SAVEPOINT pgcdc_hints", timeline,
               lsn_write(from, lsn));
}

/* Starts or ends of the summaries, as a list. */
static void put_lsns(struct buf *b, const struct hints_summary *summaries, size_t n, bool is_end)
{
    char lsn[LSN_TEXT];

    for (size_t i = 0; i < n; i++)
        buf_printf(b, "%s%s", i > 0 ? "," : "",
                   lsn_write(is_end ? summaries[i].end : summaries[i].start, lsn));
}

/* What marks where a file was cut is no block that was written. */
void sql_hints_summarized(struct buf *b, const struct hints *h, uint32_t timeline,
                          const struct hints_summary *summaries, size_t n,
                          struct result_shape shapes[SQL_HINTS_SUMMARIZED])
{
    shapes[0] = (struct result_shape){ "the blocks in summaries of the WAL", "ou", 0,
                                       HINTS_MOST_PAIRS + 1 };
    shapes[1] = (struct result_shape){ "the next transaction id", "ui", 1, 1 };
    buf_puts(b, "SAVEPOINT pgcdc_hints;SELECT DISTINCT relfilenode, relblocknumber"
                " FROM unnest('{");
    put_lsns(b, summaries, n, false);
    buf_puts(b, "}'::pg_catalog.pg_lsn[], '{");
    put_lsns(b, summaries, n, true);
    buf_printf(b, "}'::pg_catalog.pg_lsn[]) AS s(start_lsn, end_lsn),"
               " pg_catalog.pg_wal_summary_contents(%" PRIu32 ", start_lsn, end_lsn)"
               " WHERE NOT is_limit_block AND relforknumber = 0 AND reldatabase ="
               " (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())"
               " AND relfilenode = ANY ('{", timeline);
    for (size_t i = 0; i < h->n_leaves; i++)
        buf_printf(b, "%s%" PRIu32, i > 0 ? "," : "", h->leaves[i].filenode);
    buf_printf(b, "}'::pg_catalog.oid[]) LIMIT %d;SELECT ", HINTS_MOST_PAIRS + 1);
    put_next_xid(b);
    buf_puts(b, ";RELEASE SAVEPOINT pgcdc_hints");
}

/* ---- polls ---- */

/* " FROM the ranges of <leaf>, LATERAL (SELECT": the columns and sql_put_leaf_end follow. False: no
 * range is of the leaf. */
static bool put_ranges(struct buf *b, const struct hints *h, const struct relation_leaf *leaf)
{
    size_t first = 0, end;

    while (first < h->n_ranges && h->ranges[first].filenode != leaf->filenode)
        first++;
    for (end = first; end < h->n_ranges && h->ranges[end].filenode == leaf->filenode; end++)
        ;
    if (first == end)
        return false;
    buf_puts(b, " FROM unnest('{");
    for (size_t i = first; i < end; i++)
        buf_printf(b, "%s%" PRIu32, i > first ? "," : "", h->ranges[i].block);
    buf_puts(b, "}'::bigint[], '{");
    for (size_t i = first; i < end; i++)
        buf_printf(b, "%s%" PRIu32, i > first ? "," : "", h->ranges[i].end);
    buf_puts(b, "}'::bigint[]) AS \"pgcdc blocks\"(\"pgcdc from\", \"pgcdc to\"),"
                " LATERAL (SELECT ");
    return true;
}

static void put_ctid(struct buf *b, const struct sql_query *q, const char *is, const char *block)
{
    sql_put_ident(b, q->table->name);
    buf_printf(b, ".ctid %s ('(' || \"pgcdc blocks\".\"pgcdc %s\" || ',0)')::tid", is, block);
}

static void put_system_column(struct buf *b, const struct sql_query *q, const char *name)
{
    sql_put_ident(b, q->table->name);
    buf_printf(b, ".%s", name);
}

/* " FROM the leaf WHERE" its row is in the range, and may be new. */
static void put_rows(struct buf *b, const struct sql_query *q, const struct position *p,
                     const struct relation_leaf *leaf)
{
    sql_put_from(b, q, leaf);
    put_ctid(b, q, ">=", "from");
    buf_puts(b, " AND ");
    put_ctid(b, q, "<", "to");
    buf_puts(b, " AND ");
    sql_put_since(b, q, p, position_scan_horizon(p).floor);
}

/* How many columns a line of a poll has. */
static size_t count_columns(const struct rowtype *t, bool with_hash, bool with_value)
{
    return 1 + with_value + (t->order == ROW_ORDER_BY_FINGERPRINT) + (t->has_place ? 2 : 0) +
           with_hash + t->n_columns;
}

/* "c1, c2 ..." or, for the keys after them, "k1, k2 ...". */
static void put_names(struct buf *b, char letter, size_t n)
{
    for (size_t i = 1; i <= n; i++)
        buf_printf(b, "%s%c%zu", i > 1 ? ", " : "", letter, i);
}

/* The rows of one leaf, with their keys after the columns of the poll, unless they are in the order
 * of fingerprints. */
static bool put_leaf(struct buf *b, const struct sql_query *q,
                     const struct sql_increment_query *increment, const struct position *p,
                     const struct hints *h, const struct relation_leaf *leaf, bool is_first)
{
    size_t len = b->len;

    buf_puts(b, is_first ? "SELECT x.*" : " UNION ALL SELECT x.*");
    if (!put_ranges(b, h, leaf)) {
        b->len = len;
        return false;
    }
    put_system_column(b, q, "xmin");
    if (increment != NULL)
        sql_increment_put_value(b, increment);
    sql_put_fingerprint(b, q);
    sql_put_columns(b, q);
    if (q->rowtype->order != ROW_ORDER_BY_FINGERPRINT) {
        buf_puts(b, ", ");
        sql_put_key(b, q, q->rowtype->order == ROW_ORDER_BY_BYTES);
    }
    put_rows(b, q, p, leaf);
    if (increment != NULL)
        sql_increment_put_unseen(b, increment, p);
    else
        sql_put_after_resume_points(b, q, p);
    sql_put_where(b, q);
    buf_puts(b, " OFFSET 0) AS x");
    return true;
}

void sql_hints_poll(struct buf *b, const struct sql_query *q,
                    const struct sql_increment_query *increment, const struct position *p,
                    const struct hints *h)
{
    const struct rowtype *t = q->rowtype;
    size_t n = count_columns(t, q->with_hash, increment != NULL), n_key;
    size_t start = b->len;
    bool is_first = true;

    n_key = t->order == ROW_ORDER_BY_FINGERPRINT ? 0 : t->n_key;
    buf_puts(b, "COPY (SELECT ");
    put_names(b, 'c', n);
    buf_puts(b, " FROM (");
    for (size_t i = 0; i < q->table->n_leaves; i++)
        if (put_leaf(b, q, increment, p, h, &q->table->leaves[i], is_first))
            is_first = false;
    if (is_first) { /* there is nothing to read */
        b->len = start;
        buf_puts(b, "COPY (SELECT 1 WHERE false) TO STDOUT");
        return;
    }
    buf_puts(b, ") AS y(");
    put_names(b, 'c', n);
    buf_puts(b, n_key > 0 ? ", " : "");
    put_names(b, 'k', n_key);
    buf_puts(b, ") ORDER BY age(c1) DESC, ");
    if (n_key > 0)
        put_names(b, 'k', n_key);
    else
        buf_puts(b, increment != NULL ? "c3" : "c2");
    buf_puts(b, ") TO STDOUT");
}

/* Which rows are not among those that were seen. */
static void put_not_seen(struct buf *b, const struct sql_query *q, const struct xidset *seen)
{
    buf_puts(b, " AND NOT (");
    put_system_column(b, q, "xmin");
    buf_puts(b, " = ANY ('{");
    for (size_t i = 0; i < seen->n; i++)
        buf_printf(b, "%s%" PRIu32, i > 0 ? "," : "", (uint32_t)seen->v[i]);
    buf_puts(b, "}'::xid[]))");
}

static void put_place(struct buf *b, const struct sql_query *q)
{
    put_system_column(b, q, "tableoid");
    buf_puts(b, ", ");
    put_system_column(b, q, "ctid");
}

void sql_hints_compare(struct buf *b, const struct sql_query *q, const struct position *p,
                       const struct hints *h)
{
    const struct horizon horizon = position_scan_horizon(p);

    buf_puts(b, "SELECT count(*) FROM (SELECT ");
    put_place(b, q);
    sql_put_from(b, q, NULL);
    sql_put_since(b, q, p, horizon.floor);
    put_not_seen(b, q, &horizon.seen);
    for (size_t i = 0; i < q->table->n_leaves; i++) {
        size_t len = b->len;

        buf_puts(b, " EXCEPT SELECT x.*");
        if (!put_ranges(b, h, &q->table->leaves[i])) {
            b->len = len;
            continue;
        }
        put_place(b, q);
        put_rows(b, q, p, &q->table->leaves[i]);
        buf_puts(b, " OFFSET 0) AS x");
    }
    buf_puts(b, ") AS missed");
}
