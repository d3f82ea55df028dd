/* sql.c -- the SQL that capture sends.
 *
 * age(xmin) counts back from the next xid, modulo 2^32 and signed, so it orders xids rightly across
 * the wrap. It costs a third of xmin::text::bigint, and its bound in a scalar subselect is computed
 * once. The order of the two conditions matters: the first rejects nearly all rows.
 *
 * SPDX-License-Identifier: MIT */
#include "capture/sql.h"

#include "pg/session.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MOST_NAMED 10000 /* xids in a statement; of more, all from the least on are asked about */

const struct result_shape sql_resolve_shape = { "the table that is asked for", "occtbtt", 0, 1 };
const struct result_shape sql_glance_shape = { "the server's state", "tttbUU", 1, 1 };
const struct result_shape sql_facts_shape = { "who the server is", "tttbUUtoo", 1, 1 };
const struct result_shape sql_open_shape = { "the xids that are under way", "utT", 1, 1 };
const struct result_shape sql_missing_values_shape = { "added columns", "t", 0, RESULT_MANY };
const struct result_shape sql_table_shapes[3] = {
    { "the table", "occtbt", 0, 1 }, { "the parts of the table", "ottcctOOB", 0, RESULT_MANY },
    { "the columns of the table", "ttobbbUbTotTtb", 0, 1664 },
};

void sql_put_ident(struct buf *b, const char *name)
{
    buf_putc(b, '"');
    for (; *name != '\0'; name++) {
        if (*name == '"')
            buf_putc(b, '"');
        buf_putc(b, *name);
    }
    buf_putc(b, '"');
}

/* E'' reads the same whatever standard_conforming_strings says. */
static void put_literal(struct buf *b, const char *s, size_t len)
{
    buf_puts(b, "E'");
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '\'' || s[i] == '\\')
            buf_putc(b, s[i]);
        buf_putc(b, s[i]);
    }
    buf_putc(b, '\'');
}

static void put_qualified(struct buf *b, const char *schema, const char *name)
{
    sql_put_ident(b, schema);
    buf_putc(b, '.');
    sql_put_ident(b, name);
}

void sql_put_literal(struct buf *b, const char *s)
{
    put_literal(b, s, strlen(s));
}

/* 'schema.table'::regclass, for the catalog. */
void sql_put_regclass(struct buf *b, const struct relation *t)
{
    struct buf name;

    buf_init(&name, BUF_SQL_MAX);
    put_qualified(&name, t->schema, t->name);
    if (buf_ok(&name)) {
        put_literal(b, name.data, name.len);
        buf_puts(b, "::pg_catalog.regclass");
    } else {
        b->failed = true;
    }
    buf_fini(&name);
}

void sql_resolve(struct buf *b, const char *asked)
{
    buf_puts(b, "SELECT c.oid, c.relkind, c.relpersistence, coalesce(a.amname, ''),"
                " row_security_active(c.oid), n.nspname, c.relname"
                " FROM pg_catalog.pg_class c"
                " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
                " LEFT JOIN pg_catalog.pg_am a ON a.oid = c.relam"
                " WHERE c.oid = pg_catalog.to_regclass(");
    sql_put_literal(b, asked);
    buf_puts(b, ")");
}

/* What costs next to nothing to ask. */
static const char glance[] =
    "SELECT pg_current_snapshot()::text,"
    " extract(epoch FROM pg_postmaster_start_time())::text,"
    " coalesce(extract(epoch FROM pg_stat_get_bgwriter_stat_reset_time()), 0)::text,"
    " pg_is_in_recovery(),"
    " CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()"
    " ELSE pg_current_wal_insert_lsn() END - '0/0',"
    " CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()"
    " ELSE pg_current_wal_flush_lsn() END - '0/0'";

void sql_glance(struct buf *b)
{
    buf_puts(b, glance);
}

void sql_facts(struct buf *b)
{
    buf_puts(b, glance);
    buf_puts(b,
        ", (SELECT system_identifier FROM pg_control_system()),"
        " (SELECT oid FROM pg_database WHERE datname = current_database()),"
        " CASE WHEN pg_is_in_recovery() THEN"
        " (SELECT greatest(timeline_id, min_recovery_end_timeline)"
        " FROM pg_control_checkpoint(), pg_control_recovery())"
        " ELSE ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int"
        " END;");
}

void sql_open(struct buf *b, uint64_t from, const struct xidset *also)
{
    bool is_short = also->n <= MOST_NAMED;

    if (!is_short && also->v[0] < from)
        from = also->v[0];
    buf_printf(b,
        "SELECT max(xmax), extract(epoch FROM pg_postmaster_start_time())::text || ' ' ||"
        " coalesce(extract(epoch FROM pg_stat_get_bgwriter_stat_reset_time()), 0)::text || ' ' ||"
        " pg_is_in_recovery()::text, string_agg(xid::text, ',' ORDER BY xid)"
        " FROM (SELECT pg_snapshot_xmin(s)::text::bigint, pg_snapshot_xmax(s)::text::bigint"
        " FROM pg_current_snapshot() s) AS s(xmin, xmax)"
        " LEFT JOIN LATERAL (SELECT generate_series("
        "greatest(4294967296, %" PRIu64 ", s.xmin), s.xmax - 1) UNION ALL SELECT unnest('{", from);
    for (size_t i = 0; is_short && i < also->n; i++)
        buf_printf(b, "%s%" PRIu64, i > 0 ? "," : "", also->v[i]);
    /* CASE, since it is an error to ask for an xid that was not given out yet */
    buf_puts(b, "}'::bigint[])) AS x(xid) ON CASE WHEN x.xid < s.xmax THEN"
                " pg_xact_status(x.xid::text::xid8) = 'in progress' END;");
}

void sql_unlimited(struct buf *b, int server_version)
{
    buf_puts(b, "BEGIN READ ONLY;");
    session_put(b, SESSION_UNLIMITED, server_version);
}

static void put_row_security(struct buf *b, bool rls)
{
    buf_printf(b, "SET LOCAL row_security = %s;", rls ? "on" : "off");
}

void sql_lock(struct buf *b, const struct relation *t)
{
    if (!t->is_lockable)
        return;
    buf_puts(b, "LOCK TABLE ");
    put_qualified(b, t->schema, t->name);
    buf_puts(b, " IN ACCESS SHARE MODE;");
}

/* For each column, num, a list of "oid/n" of the unique indexes that it is part of, which have n
 * columns and no NULLs, and see all rows of the table, as others may inherit from it. */
static void put_unique_indexes(struct buf *b, const struct relation *t)
{
    buf_puts(b, "SELECT k.num, string_agg(x.indexrelid || '/' || x.indnkeyatts, ' ') AS list"
                " FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid CROSS JOIN LATERAL"
                " unnest((x.indkey::int2[])[0:x.indnkeyatts - 1]) AS k(num) WHERE x.indrelid = ");
    sql_put_regclass(b, t);
    buf_puts(b, " AND x.indisunique AND x.indisvalid AND x.indpred IS NULL AND x.indexprs IS NULL"
                " AND NOT EXISTS (SELECT FROM pg_attribute n WHERE n.attrelid = x.indrelid"
                " AND n.attnum = ANY ((x.indkey::int2[])[0:x.indnkeyatts - 1])"
                " AND NOT n.attnotnull) AND (c.relkind = 'p'"
                " OR NOT EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid)) GROUP BY 1");
}

void sql_begin(struct buf *b, const struct relation *t, bool rls, int server_version)
{
    sql_unlimited(b, server_version);
    buf_puts(b, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;");
    session_put(b, SESSION_CAPTURE, server_version);
    put_row_security(b, rls);
    sql_lock(b, t);
}

void sql_switch(struct buf *b, bool rls, bool by_index)
{
    put_row_security(b, rls);
    buf_printf(b, "SET LOCAL enable_seqscan = %s;", by_index ? "off" : "on");
}

void sql_table(struct buf *b, const struct relation *t, bool with_sizes)
{
    buf_puts(b, "SELECT c.oid, c.relkind, c.relpersistence, coalesce(a.amname, ''),"
                " row_security_active(c.oid), current_database()"
                " FROM pg_class c LEFT JOIN pg_am a ON a.oid = c.relam WHERE c.oid = ");
    sql_put_regclass(b, t);
    buf_puts(b, ";WITH RECURSIVE tree(oid) AS (SELECT ");
    sql_put_regclass(b, t);
    buf_puts(b, "::oid UNION SELECT inhrelid FROM pg_inherits JOIN tree ON inhparent = tree.oid)"
                " SELECT c.oid, n.nspname, c.relname, c.relkind, c.relpersistence,"
                " coalesce(a.amname, ''), pg_relation_filenode(c.oid), ");
    if (with_sizes)
        buf_puts(b, "CASE WHEN c.relkind IN ('r', 'm') THEN"
                    " pg_relation_size(c.oid) / current_setting('block_size')::bigint END");
    else
        buf_puts(b, "0");
    buf_puts(b, ", has_table_privilege(c.oid, 'SELECT') AND NOT row_security_active(c.oid)"
                " FROM tree JOIN pg_class c USING (oid)"
                " JOIN pg_namespace n ON n.oid = c.relnamespace"
                " LEFT JOIN pg_am a ON a.oid = c.relam WHERE c.relkind <> 'p' ORDER BY c.oid;"
                "WITH RECURSIVE base(num, typ, typmod) AS (SELECT attnum, atttypid, atttypmod"
                " FROM pg_attribute WHERE attrelid = ");
    sql_put_regclass(b, t);
    buf_puts(b, " AND attnum > 0 AND NOT attisdropped"
                " UNION SELECT num, t.typbasetype, t.typtypmod FROM base"
                " JOIN pg_type t ON t.oid = typ WHERE t.typtype = 'd')"
                " SELECT a.attname, format_type(a.atttypid, a.atttypmod), t.oid,"
                " t.typelem <> 0 AND t.typsubscript = 'array_subscript_handler'::regproc,"
                " t.typtype = 'c' OR t.oid = 'record'::regtype,"
                " t.oid >= 16384 AND EXISTS (SELECT FROM pg_cast WHERE castsource = t.oid"
                " AND casttarget = 'json'::regtype AND castmethod = 'f'),"
                " CASE WHEN array_position(i.indkey::int2[], a.attnum) < i.indnkeyatts"
                " THEN array_position(i.indkey::int2[], a.attnum) + 1 END,"
                " NOT a.attnotnull OR EXISTS (SELECT FROM pg_constraint n"
                " WHERE n.conrelid = a.attrelid AND n.contype = 'n' AND NOT n.convalidated"
                " AND n.conkey[1] = a.attnum), u.list, a.attnum,"
                " format_type(t.oid, typmod), CASE WHEN a.attgenerated <> ''"
                " THEN a.attgenerated::text || (SELECT pg_get_expr(d.adbin, d.adrelid)"
                " FROM pg_attrdef d WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum) END,"
                " a.xmin::text, a.atttypid >= 16384 AND (a.atttypid <> t.oid OR t.typelem <> 0"
                " OR t.typtype IN ('c', 'r', 'm')) FROM base JOIN pg_type t ON t.oid = typ"
                " AND t.typtype <> 'd' JOIN pg_attribute a ON a.attnum = num AND a.attrelid = ");
    sql_put_regclass(b, t); /* indkey counts from 0 */
    buf_puts(b, " LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary"
                " AND a.attnum = ANY (i.indkey) LEFT JOIN (");
    put_unique_indexes(b, t);
    buf_puts(b, ") AS u ON u.num = a.attnum ORDER BY a.attnum;");
}

void sql_missing_values(struct buf *b, const struct relation *t)
{
    buf_puts(b, "WITH RECURSIVE tree(oid) AS (SELECT ");
    sql_put_regclass(b, t);
    buf_puts(b, "::oid UNION SELECT inhrelid FROM pg_inherits JOIN tree ON inhparent = tree.oid)"
                " SELECT DISTINCT attname FROM tree JOIN pg_attribute ON attrelid = tree.oid"
                " WHERE atthasmissing AND NOT attisdropped");
}

static void put_column(struct buf *b, const struct sql_query *q, size_t i)
{
    const struct rowtype_column *column = &q->rowtype->columns[i];

    buf_puts(b, column->wants_to_json ? ", to_json(" : ", ");
    put_qualified(b, q->table->name, column->name);
    if (column->wants_to_json)
        buf_putc(b, ')');
}

/* The function that hashes a column of the key, by its type's own idea of equality only where
 * that is the same as that of its text, since keys are compared as text. */
static const char *hash_function(const char *type)
{
    static const char *const functions[][2] = {
        { "bigint", "hashint8extended" }, { "integer", "hashint4extended" },
        { "smallint", "hashint2extended" }, { "uuid", "uuid_hash_extended" },
    };

    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (strcmp(type, functions[i][0]) == 0)
            return functions[i][1];
    return NULL;
}

/* The hash of the first <n> columns of the key: each is the seed of the next. */
static void put_hash_of(struct buf *b, const struct sql_query *q, const char *alias, size_t n)
{
    const struct rowtype_column *column;
    const char *f;

    if (n == 0) {
        buf_putc(b, '0');
        return;
    }
    column = &q->rowtype->columns[q->rowtype->key[n - 1]];
    f = hash_function(column->type);
    buf_puts(b, "coalesce(");
    buf_puts(b, f != NULL ? f : "hashtextextended");
    buf_putc(b, '(');
    put_qualified(b, alias, column->name);
    buf_puts(b, f != NULL ? ", " : "::text COLLATE \"C\", ");
    put_hash_of(b, q, alias, n - 1);
    buf_puts(b, "), 0)");
}

void sql_put_hash(struct buf *b, const struct sql_query *q, const char *alias)
{
    put_hash_of(b, q, alias, q->rowtype->n_key);
}

static void put_system_column(struct buf *b, const struct sql_query *q, const char *name)
{
    sql_put_ident(b, q->table->name);
    buf_putc(b, '.');
    buf_puts(b, name);
}

/* The hash of the row's text or, if the key is unique, of that of the key. */
static void put_fingerprint(struct buf *b, const struct sql_query *q)
{
    const struct rowtype *s = q->rowtype;

    buf_puts(b, "hashtextextended(ROW");
    for (size_t i = 0; i < (s->has_place ? s->n_columns : s->n_key); i++) {
        buf_puts(b, i > 0 ? ", " : "(");
        put_qualified(b, q->table->name, s->columns[s->has_place ? i : s->key[i]].name);
    }
    buf_puts(b, ")::text COLLATE \"C\", 0)");
}

void sql_put_fingerprint(struct buf *b, const struct sql_query *q)
{
    if (q->rowtype->order != ROW_ORDER_BY_FINGERPRINT)
        return;
    buf_puts(b, ", ");
    put_fingerprint(b, q);
}

void sql_put_columns(struct buf *b, const struct sql_query *q)
{
    if (q->rowtype->has_place) {
        buf_puts(b, ", ");
        put_system_column(b, q, "tableoid");
        buf_puts(b, ", ");
        put_system_column(b, q, "ctid");
    }
    if (q->with_hash) {
        buf_puts(b, ", ");
        sql_put_hash(b, q, q->table->name);
    }
    for (size_t i = 0; i < q->rowtype->n_columns; i++)
        put_column(b, q, i);
}

/* FROM the table as a whole; its name serves as alias everywhere. */
static void put_from_table(struct buf *b, const struct sql_query *q)
{
    buf_puts(b, q->table->is_tree ? " FROM " : " FROM ONLY ");
    put_qualified(b, q->table->schema, q->table->name);
    buf_puts(b, " WHERE ");
}

static void put_from_leaf(struct buf *b, const struct sql_query *q,
                          const struct relation_leaf *leaf)
{
    if (q->through_root || !leaf->is_readable) {
        put_from_table(b, q);
        put_system_column(b, q, "tableoid");
        buf_printf(b, " = %" PRIu32 " AND ", leaf->oid);
        return;
    }
    buf_puts(b, " FROM ONLY ");
    put_qualified(b, leaf->schema, leaf->name);
    buf_puts(b, " AS ");
    sql_put_ident(b, q->table->name);
    buf_puts(b, " WHERE ");
}

void sql_put_from(struct buf *b, const struct sql_query *q, const struct relation_leaf *leaf)
{
    if (leaf != NULL)
        put_from_leaf(b, q, leaf);
    else
        put_from_table(b, q);
}

void sql_put_known_leaves(struct buf *b, const struct sql_query *q, const struct position *p)
{
    if (q->table->is_tree) {
        /* a leaf attached between the snapshot and the plan of this statement is not ours yet */
        buf_puts(b, " AND ");
        put_system_column(b, q, "tableoid");
        buf_puts(b, " = ANY ('{");
        for (size_t i = 0; i < p->n_leaves; i++)
            buf_printf(b, "%s%" PRIu32, i > 0 ? "," : "", p->leaves[i].oid);
        buf_puts(b, "}'::oid[])");
    } else if (p->n_leaves == 0) { /* its one leaf is read whole, before the poll */
        buf_puts(b, " AND false");
    }
}

void sql_put_new(struct buf *b, const struct sql_query *q, uint64_t floor)
{
    buf_puts(b, "age(");
    put_system_column(b, q, "xmin");
    buf_printf(b, ") <= (SELECT age('%" PRIu32 "'::xid)) AND age(", horizon_floor32(floor));
    put_system_column(b, q, "xmin");
    buf_puts(b, ") >= 0");
}

void sql_put_since(struct buf *b, const struct sql_query *q, const struct position *p,
                   uint64_t floor)
{
    sql_put_new(b, q, floor);
    sql_put_known_leaves(b, q, p);
}

/* The newline ends a comment that the condition may end with. */
void sql_put_where(struct buf *b, const struct sql_query *q)
{
    if (q->where == NULL)
        return;
    buf_puts(b, " AND (");
    buf_puts(b, q->where);
    buf_puts(b, "\n)");
}

void sql_put_key(struct buf *b, const struct sql_query *q, bool by_bytes)
{
    for (size_t i = 0; i < q->rowtype->n_key; i++) {
        const struct rowtype_column *column = &q->rowtype->columns[q->rowtype->key[i]];

        if (i > 0)
            buf_puts(b, ", ");
        put_qualified(b, q->table->name, column->name);
        if (by_bytes && column->is_text)
            buf_puts(b, " COLLATE \"C\"");
    }
}

/* The fields of a key that was kept as COPY text. */
void sql_put_kept_key(struct buf *b, const struct sql_query *q, const char *key)
{
    const char *f = key;

    for (size_t i = 0; i < q->rowtype->n_key; i++) {
        const struct rowtype_column *column = &q->rowtype->columns[q->rowtype->key[i]];
        struct copytext_field field = { f, strcspn(f, "\t") };
        char *text = malloc(field.len + 1);

        if (i > 0)
            buf_puts(b, ", ");
        /* NULL compares as unknown: then rows come again, and none is lost */
        if (text == NULL)
            b->failed = true;
        else if (copytext_is_null(field) || column->wants_to_json)
            buf_puts(b, "NULL");
        else
            put_literal(b, text, copytext_unescape(field, text));
        free(text);
        f += field.len + (f[field.len] == '\t');
    }
}

/* (By fingerprint the rows at the point itself may be new: reading.c counts them.) */
void sql_put_before(struct buf *b, const struct sql_query *q,
                    const struct position_resume_point *p)
{
    if (p->order == ROW_ORDER_BY_FINGERPRINT) {
        put_fingerprint(b, q);
        buf_printf(b, " < '%" PRId64 "'::bigint", p->fingerprint);
        return;
    }
    buf_putc(b, '(');
    sql_put_key(b, q, p->order == ROW_ORDER_BY_BYTES);
    buf_puts(b, ") <= (");
    sql_put_kept_key(b, q, p->key);
    buf_putc(b, ')');
}

/* Leaves out what polls that ended early had delivered of their last xids. */
void sql_put_after_resume_points(struct buf *b, const struct sql_query *q,
                                 const struct position *p)
{
    for (size_t i = 0; i < p->n_resume_points; i++) {
        buf_puts(b, " AND (");
        put_system_column(b, q, "xmin");
        buf_printf(b, " = '%" PRIu32 "'::xid AND ", (uint32_t)p->resume_points[i].xid);
        sql_put_before(b, q, &p->resume_points[i]);
        buf_puts(b, ") IS NOT TRUE");
    }
}

void sql_put_order(struct buf *b, const struct sql_query *q)
{
    buf_puts(b, " ORDER BY age(");
    put_system_column(b, q, "xmin");
    buf_puts(b, ") DESC, ");
    if (q->rowtype->order == ROW_ORDER_BY_FINGERPRINT)
        put_fingerprint(b, q);
    else
        sql_put_key(b, q, q->rowtype->order == ROW_ORDER_BY_BYTES);
}

void sql_try(struct buf *b, const struct sql_query *q)
{
    buf_puts(b, "SELECT ");
    put_system_column(b, q, "xmin");
    sql_put_columns(b, q);
    sql_put_from(b, q, NULL);
    buf_puts(b, "false");
    sql_put_where(b, q);
    sql_put_order(b, q);
}

void sql_poll(struct buf *b, const struct sql_query *q, const struct position *p)
{
    buf_puts(b, "COPY (SELECT ");
    put_system_column(b, q, "xmin");
    sql_put_fingerprint(b, q);
    sql_put_columns(b, q);
    sql_put_from(b, q, NULL);
    sql_put_since(b, q, p, p->horizon.floor);
    sql_put_after_resume_points(b, q, p);
    sql_put_where(b, q);
    sql_put_order(b, q);
    buf_puts(b, ") TO STDOUT");
}

void sql_leaf(struct buf *b, const struct sql_query *q, const struct relation_leaf *leaf)
{
    buf_puts(b, "COPY (SELECT ");
    put_system_column(b, q, "xmin");
    sql_put_columns(b, q);
    sql_put_from(b, q, leaf);
    buf_puts(b, "true");
    sql_put_where(b, q);
    buf_puts(b, ") TO STDOUT");
}

void sql_range(struct buf *b, const struct sql_query *q, const struct relation_leaf *leaf,
               uint32_t block, uint32_t end)
{
    buf_puts(b, "COPY (SELECT ");
    put_system_column(b, q, "xmin");
    sql_put_columns(b, q);
    sql_put_from(b, q, leaf);
    put_system_column(b, q, "ctid");
    buf_printf(b, " >= '(%" PRIu32 ",0)'::tid AND ", block);
    put_system_column(b, q, "ctid");
    buf_printf(b, " < '(%" PRIu32 ",0)'::tid", end);
    sql_put_where(b, q);
    buf_puts(b, ") TO STDOUT");
}

void sql_put_from_all(struct buf *b, const struct sql_query *q)
{
    sql_put_from(b, q, NULL);
    if (q->table->is_tree) {
        put_system_column(b, q, "tableoid");
        buf_puts(b, " = ANY ('{");
        for (size_t i = 0; i < q->table->n_leaves; i++)
            buf_printf(b, "%s%" PRIu32, i > 0 ? "," : "", q->table->leaves[i].oid);
        buf_puts(b, "}'::oid[])");
    } else {
        buf_puts(b, "true");
    }
    sql_put_where(b, q);
}

void sql_keys(struct buf *b, const struct sql_query *q, const unsigned char *asked,
              bool is_whole)
{
    buf_puts(b, "COPY (SELECT ");
    put_system_column(b, q, "xmin");
    buf_puts(b, ", ");
    sql_put_hash(b, q, q->table->name);
    for (size_t i = 0; is_whole && i < q->rowtype->n_columns; i++)
        put_column(b, q, i);
    for (size_t k = 0; !is_whole && k < q->rowtype->n_key; k++)
        put_column(b, q, q->rowtype->key[k]);
    sql_put_from_all(b, q);
    buf_puts(b, " AND get_bit('\\x");
    for (size_t i = 0; i < TALLY_BUCKETS / 8; i++)
        buf_printf(b, "%02x", asked[i]);
    buf_puts(b, "'::bytea, (");
    sql_put_hash(b, q, q->table->name);
    buf_printf(b, " >> %d & %u)::int) = 1) TO STDOUT", TALLY_SHIFT, TALLY_BUCKETS - 1);
}

void sql_xmins(struct buf *b, const struct sql_query *q, const struct position *p)
{
    buf_puts(b, "COPY (SELECT DISTINCT ");
    put_system_column(b, q, "xmin");
    sql_put_from(b, q, NULL);
    sql_put_since(b, q, p, p->horizon.floor);
    buf_puts(b, ") TO STDOUT");
}
