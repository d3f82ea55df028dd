/* sql_trigger.c -- the SQL of capture = "trigger".
 *
 * The poll must go by the index whatever the planner believes: the caller
 * turns sequential scans off for it. Whether a tombstone's key is in the table
 * again is a scalar subselect, which cannot become a join that reads a whole index.
 *
 * The aliases pgcdc_d, pgcdc_l and pgcdc_k stand for a tombstone, for its key as it was written,
 * under labels, and for that under the names of the columns.
 *
 * SPDX-License-Identifier: MIT */
#include "capture/sql_trigger.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void put_column(struct buf *b, const char *alias, const char *name)
{
    sql_put_ident(b, alias);
    buf_putc(b, '.');
    sql_put_ident(b, name);
}

static void put_stamp(struct buf *b, const struct sql_query *q)
{
    put_column(b, q->table->name, ROWTYPE_STAMP_COLUMN);
}

static void put_xmin(struct buf *b, const struct sql_query *q)
{
    sql_put_ident(b, q->table->name);
    buf_puts(b, ".xmin");
}

static const struct rowtype_column *key_column(const struct sql_query *q, size_t k)
{
    return &q->rowtype->columns[q->rowtype->key[k]];
}

const char sql_trigger_readable[] =
    "SELECT count(*) = 2 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE n.nspname = 'pgcdc' AND c.relname IN ('tables', 'deleted')"
    " AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')";

const struct result_shape sql_trigger_readable_shape = {
    "whether notes of triggers can be read", "b", 1, 1,
};

const struct result_shape sql_trigger_installed_shape = {
    "what is installed for the table", "uuubtt", 0, 1,
};

void sql_trigger_installed(struct buf *b, const struct relation *t)
{
    /* by to_jsonb(t), since tables of earlier versions have no column attnums */
    buf_puts(b, "SELECT number, since, pruned, notify, array_to_string(key, E'\\n'),"
                " (SELECT string_agg(coalesce(named.attname, numbered.attname, ''), E'\\n'"
                " ORDER BY k.place) FROM unnest(t.key) WITH ORDINALITY AS k (label, place)"
                " LEFT JOIN pg_attribute named ON named.attrelid = t.\"table\""
                " AND named.attname = k.label AND named.attnum > 0 AND NOT named.attisdropped"
                " LEFT JOIN pg_attribute numbered ON numbered.attrelid = t.\"table\""
                " AND to_jsonb(t) ->> 'relation' = numbered.attrelid::text"
                " AND (to_jsonb(t) -> 'attnums' ->> (k.place - 1)::int)::int2 = numbered.attnum"
                " AND NOT numbered.attisdropped)"
                " FROM pgcdc.tables t WHERE \"table\" = ");
    sql_put_regclass(b, t);
    buf_putc(b, ';');
}

const char *sql_trigger_label(const char *labels, const char *columns, const char *name,
                              size_t *len)
{
    for (size_t n; *columns != '\0'; columns += n + (columns[n] == '\n')) {
        n = strcspn(columns, "\n");
        *len = strcspn(labels, "\n");
        if (strlen(name) == n && strncmp(name, columns, n) == 0)
            return labels;
        labels += *len + (labels[*len] == '\n');
    }
    return NULL;
}

const struct result_shape sql_trigger_health_shapes[3] = {
    { "the triggers of the table", "tbbb", 0, RESULT_MANY },
    { "the stamps of the table", "b", 1, 1 },
    { "the key's types", "tt", 0, 1664 },
};

void sql_trigger_health(struct buf *b, const struct sql_trigger_query *q)
{
    const struct relation *t = q->query.table;

    buf_puts(b,
        "SELECT c.oid::regclass, (SELECT count(*) = 3 FROM pg_trigger t WHERE t.tgrelid = c.oid"
        " AND t.tgname IN ('zz_pgcdc_stamp', 'zz_pgcdc_gone', 'zz_pgcdc_key')"
        " AND t.tgenabled IN ('O', 'A')),"
        " EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid"
        " AND t.tgname = 'zz_pgcdc_emptied' AND t.tgenabled IN ('O', 'A')),"
        " EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = c.oid"
        " AND a.attnum = i.indkey[0] WHERE i.indrelid = c.oid AND i.indisvalid"
        " AND a.attname = '" ROWTYPE_STAMP_COLUMN "')"
        " FROM pg_class c WHERE c.oid = ANY ('{");
    for (size_t i = 0; i < t->n_leaves; i++)
        buf_printf(b, "%s%" PRIu32, i > 0 ? "," : "", t->leaves[i].oid);
    buf_puts(b, "}'::oid[]) ORDER BY 1::text;SELECT EXISTS (SELECT");
    sql_put_from(b, &q->query, NULL);
    put_stamp(b, &q->query);
    buf_printf(b, " >= '%" PRIu64 "'::xid8);"
               "SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a"
               " JOIN pg_type d ON d.oid = a.atttypid"
               " JOIN pg_type t ON t.oid = coalesce(nullif(d.typbasetype, 0), d.oid)"
               " WHERE t.typtype = 'b' AND t.typcategory <> 'A' AND NOT EXISTS (SELECT"
               " FROM pg_opclass o JOIN pg_am m ON m.oid = o.opcmethod WHERE o.opcdefault"
               " AND m.amname IN ('btree', 'hash') AND (o.opcintype = t.oid OR EXISTS (SELECT"
               " FROM pg_cast WHERE castsource = t.oid AND casttarget = o.opcintype"
               " AND castmethod = 'b' AND castcontext = 'i'))) AND a.attrelid = ", q->xmax);
    sql_put_regclass(b, t);
    buf_puts(b, " AND a.attname IN (");
    for (size_t k = 0; k < q->query.rowtype->n_key; k++) {
        buf_puts(b, k > 0 ? ", " : "");
        sql_put_literal(b, key_column(&q->query, k)->name);
    }
    buf_puts(b, ")");
}

/* Stamps that a poll is to look at. */
static void put_in_reach(struct buf *b, const struct sql_trigger_query *q, uint64_t floor)
{
    put_stamp(b, &q->query);
    buf_printf(b, " >= '%" PRIu64 "'::xid8 AND ", floor);
    put_stamp(b, &q->query);
    buf_printf(b, " < '%" PRIu64 "'::xid8", q->xmax);
}

static void put_tombstones_in_reach(struct buf *b, const struct sql_trigger_query *q,
                                    uint64_t floor)
{
    buf_printf(b, " FROM pgcdc.deleted AS pgcdc_d WHERE pgcdc_d.\"table\" = %" PRIu64
               " AND pgcdc_d.xid >= '%" PRIu64 "'::xid8 AND pgcdc_d.xid < '%" PRIu64 "'::xid8",
               q->number, floor, q->xmax);
}

/* (table.k1, table.k2) or (pgcdc_k.k1, ...) */
static void put_key_of(struct buf *b, const struct sql_query *q, const char *alias,
                       enum row_order order)
{
    for (size_t k = 0; k < q->rowtype->n_key; k++) {
        buf_puts(b, k > 0 ? ", " : "(");
        put_column(b, alias, key_column(q, k)->name);
        if (order == ROW_ORDER_BY_BYTES && key_column(q, k)->is_text)
            buf_puts(b, " COLLATE \"C\"");
    }
    buf_putc(b, ')');
}

/* The fingerprint of a tombstone: the hash of its key, since it has no other columns. */
static void put_tombstone_fingerprint(struct buf *b)
{
    buf_puts(b, "hashtextextended(pgcdc_d.key::text COLLATE \"C\", 0)");
}

/* A condition on tombstones, as sql_put_before is one on rows. */
static void put_tombstones_before(struct buf *b, const struct sql_query *q,
                                  const struct position_resume_point *point)
{
    if (point->order == ROW_ORDER_BY_FINGERPRINT) {
        put_tombstone_fingerprint(b);
        buf_printf(b, " < '%" PRId64 "'::bigint", point->fingerprint);
        return;
    }
    put_key_of(b, q, "pgcdc_k", point->order);
    buf_puts(b, " <= (");
    sql_put_kept_key(b, q, point->key);
    buf_putc(b, ')');
}

/* Leaves out what polls that ended early have delivered of their last xids: tombstones, or rows. */
static void put_after_resume_points(struct buf *b, const struct sql_query *q,
                                    const struct position *p, bool of_tombstones)
{
    for (size_t i = 0; i < p->n_resume_points; i++) {
        const struct position_resume_point *point = &p->resume_points[i];

        if (point->is_tombstone && !of_tombstones)
            continue;
        buf_puts(b, " AND (");
        if (of_tombstones)
            buf_puts(b, "pgcdc_d.xid");
        else
            put_stamp(b, q);
        buf_printf(b, " = '%" PRIu64 "'::xid8", point->xid);
        if (point->is_tombstone == of_tombstones) {
            buf_puts(b, " AND ");
            (of_tombstones ? put_tombstones_before : sql_put_before)(b, q, point);
        }
        buf_puts(b, ") IS NOT TRUE");
    }
}

/* The key's columns once more, to order by: as JSON they would have no order. */
static void put_order_columns(struct buf *b, const struct sql_query *q, const char *alias)
{
    if (q->rowtype->order == ROW_ORDER_BY_FINGERPRINT)
        return;
    for (size_t k = 0; k < q->rowtype->n_key; k++) {
        buf_puts(b, ", ");
        put_column(b, alias, key_column(q, k)->name);
    }
}

static void put_rows(struct buf *b, const struct sql_trigger_query *q, const struct position *p)
{
    const struct sql_query *r = &q->query;

    buf_puts(b, "SELECT '0'::xid8, ");
    put_stamp(b, r);
    buf_printf(b, ", %d", SQL_TRIGGER_ROW);
    sql_put_fingerprint(b, r);
    sql_put_columns(b, r);
    put_order_columns(b, r, r->table->name);
    sql_put_from(b, r, NULL);
    put_in_reach(b, q, p->horizon.floor);
    sql_put_known_leaves(b, r, p);
    put_after_resume_points(b, r, p, false);
    sql_put_where(b, r);
}

static bool is_key(const struct rowtype *s, size_t column)
{
    for (size_t k = 0; k < s->n_key; k++)
        if (s->key[k] == column)
            return true;
    return false;
}

/* The columns of a row of which only the key is left. */
static void put_tombstone_columns(struct buf *b, const struct sql_query *q)
{
    const struct rowtype *s = q->rowtype;

    if (s->order == ROW_ORDER_BY_FINGERPRINT) {
        buf_puts(b, ", ");
        put_tombstone_fingerprint(b);
    }
    if (s->has_place)
        buf_puts(b, ", '0'::oid, '(0,0)'::tid");
    if (q->with_hash) {
        buf_puts(b, ", ");
        sql_put_hash(b, q, "pgcdc_k");
    }
    for (size_t i = 0; i < s->n_columns; i++) {
        if (!is_key(s, i)) {
            buf_puts(b, ", NULL");
            continue;
        }
        buf_puts(b, s->columns[i].wants_to_json ? ", to_json(" : ", ");
        put_column(b, "pgcdc_k", s->columns[i].name);
        if (s->columns[i].wants_to_json)
            buf_putc(b, ')');
    }
}

/* The row has the tombstone's key, as = understands it, which can use the index. */
static void put_same_key(struct buf *b, const struct sql_query *q)
{
    for (size_t k = 0; k < q->rowtype->n_key; k++) {
        const struct rowtype_column *column = key_column(q, k);

        buf_puts(b, k > 0 ? " AND (" : "(");
        put_column(b, q->table->name, column->name);
        buf_puts(b, " = ");
        put_column(b, "pgcdc_k", column->name);
        if (column->is_nullable) {
            buf_puts(b, " OR ");
            put_column(b, q->table->name, column->name);
            buf_puts(b, " IS NULL AND ");
            put_column(b, "pgcdc_k", column->name);
            buf_puts(b, " IS NULL");
        }
        buf_putc(b, ')');
    }
}

/* True if the table has no row with the tombstone's key. Compares by = and then by *=, which
 * compares bytes: 1.0 and 1.00 are two keys for sinks. */
static void put_not_there(struct buf *b, const struct sql_query *q)
{
    /* a tombstone without a key (SQL_TRIGGER_EMPTY) is not one of a key that is NULL */
    buf_puts(b, " AND (pgcdc_d.key = '{}' OR (SELECT true");
    sql_put_from(b, q, NULL);
    put_same_key(b, q);
    buf_puts(b, " AND ROW");
    put_key_of(b, q, q->table->name, ROW_ORDER_BY_KEY);
    buf_puts(b, "::record *= ROW");
    put_key_of(b, q, "pgcdc_k", ROW_ORDER_BY_KEY);
    buf_puts(b, "::record");
    sql_put_where(b, q);
    buf_puts(b, " LIMIT 1) IS NULL)");
}

/* The label of a column of the key. */
static void put_label(struct buf *b, const struct sql_trigger_query *q, size_t k)
{
    size_t len;
    const char *label = sql_trigger_label(q->labels, q->columns, key_column(&q->query, k)->name,
                                          &len);
    char *copy = label != NULL ? strndup(label, len) : NULL;

    if (copy == NULL)
        b->failed = true;
    else
        sql_put_ident(b, copy);
    free(copy);
}

/* The tombstones from <floor> on. <p>: a position of stamps, whose resume points count, or NULL. */
static void put_tombstones(struct buf *b, const struct sql_trigger_query *q, uint64_t floor,
                           const struct position *p)
{
    const struct sql_query *r = &q->query;

    buf_printf(b, "SELECT pgcdc_d.later, pgcdc_d.xid, CASE pgcdc_d.key WHEN '{}' THEN %d ELSE %d"
               " END", SQL_TRIGGER_EMPTY, SQL_TRIGGER_TOMBSTONE);
    put_tombstone_columns(b, r);
    put_order_columns(b, r, "pgcdc_k");
    buf_puts(b, " FROM (SELECT pgcdc_d.key, pgcdc_d.xid, coalesce(lead(pgcdc_d.xid) OVER"
                " (PARTITION BY pgcdc_d.key::text ORDER BY pgcdc_d.xid), '0') AS later");
    put_tombstones_in_reach(b, q, floor);
    buf_puts(b, ") AS pgcdc_d CROSS JOIN LATERAL jsonb_to_record(pgcdc_d.key) AS pgcdc_l (");
    for (size_t k = 0; k < r->rowtype->n_key; k++) {
        buf_puts(b, k > 0 ? ", " : "");
        put_label(b, q, k);
        buf_printf(b, " %s", key_column(r, k)->type);
    }
    buf_puts(b, ") CROSS JOIN LATERAL (SELECT ");
    for (size_t k = 0; k < r->rowtype->n_key; k++) {
        buf_puts(b, k > 0 ? ", pgcdc_l." : "pgcdc_l.");
        put_label(b, q, k);
        buf_puts(b, " AS ");
        sql_put_ident(b, key_column(r, k)->name);
    }
    buf_puts(b, ") AS pgcdc_k WHERE true");
    if (p != NULL)
        put_after_resume_points(b, r, p, true);
    put_not_there(b, r);
}

/* The names of the columns of the subquery that puts rows and tombstones together. */
static void put_names(struct buf *b, const struct rowtype *s, bool with_hash)
{
    buf_puts(b, "x, s, m");
    if (s->order == ROW_ORDER_BY_FINGERPRINT)
        buf_puts(b, ", f");
    if (s->has_place)
        buf_puts(b, ", o, l");
    if (with_hash)
        buf_puts(b, ", h");
    for (size_t i = 0; i < s->n_columns; i++)
        buf_printf(b, ", c%zu", i);
}

void sql_trigger_poll(struct buf *b, const struct sql_trigger_query *q, const struct position *p)
{
    const struct rowtype *s = q->query.rowtype;
    size_t n_key = s->order == ROW_ORDER_BY_FINGERPRINT ? 0 : s->n_key;

    buf_puts(b, "COPY (SELECT ");
    put_names(b, s, q->query.with_hash);
    buf_puts(b, " FROM (");
    put_rows(b, q, p);
    buf_puts(b, " UNION ALL ");
    put_tombstones(b, q, p->stamps.tombstone_floor, p);
    buf_puts(b, ") AS u (");
    put_names(b, s, q->query.with_hash);
    for (size_t k = 0; k < n_key; k++)
        buf_printf(b, ", k%zu", k);
    buf_puts(b, ") ORDER BY s, m");
    if (s->order == ROW_ORDER_BY_FINGERPRINT)
        buf_puts(b, ", f");
    for (size_t k = 0; k < n_key; k++)
        buf_printf(b, ", k%zu%s", k, s->order == ROW_ORDER_BY_BYTES &&
                   key_column(&q->query, k)->is_text ? " COLLATE \"C\"" : "");
    buf_puts(b, ") TO STDOUT");
}

const struct result_shape sql_trigger_xids_shape = {
    "the xids of deletes", "u", 0, RESULT_MANY,
};

void sql_trigger_tombstone_xids(struct buf *b, const struct sql_trigger_query *q, uint64_t floor)
{
    buf_puts(b, "SELECT DISTINCT pgcdc_d.xid");
    put_tombstones_in_reach(b, q, floor);
    buf_puts(b, " ORDER BY 1");
}

/* "COPY (SELECT xmin, stamp": what the line is comes next. */
static void put_head(struct buf *b, const struct sql_query *q)
{
    buf_puts(b, "COPY (SELECT ");
    put_xmin(b, q);
    buf_puts(b, ", ");
    put_stamp(b, q);
}

/* The rows of a poll by xmin. */
static void put_take_over(struct buf *b, const struct sql_trigger_query *q,
                          const struct position *p)
{
    const struct sql_query *r = &q->query;

    buf_puts(b, "(SELECT ");
    put_xmin(b, r);
    buf_puts(b, "::text::xid8, ");
    put_stamp(b, r);
    buf_puts(b, ", CASE WHEN true");
    sql_put_after_resume_points(b, r, p);
    buf_printf(b, " THEN %d ELSE %d END", SQL_TRIGGER_ROW, SQL_TRIGGER_OLD);
    sql_put_fingerprint(b, r);
    sql_put_columns(b, r);
    put_order_columns(b, r, r->table->name);
    sql_put_from(b, r, NULL);
    sql_put_since(b, r, p, p->horizon.floor);
    sql_put_where(b, r);
    sql_put_order(b, r);
    buf_putc(b, ')');
}

void sql_trigger_take_over(struct buf *b, const struct sql_trigger_query *q,
                           const struct position *p)
{
    const struct rowtype *s = q->query.rowtype;
    uint64_t floor = p->stamps.tombstone_floor > 0 ? p->stamps.tombstone_floor : p->horizon.floor;

    buf_puts(b, "COPY (SELECT ");
    put_names(b, s, q->query.with_hash);
    buf_puts(b, " FROM (");
    if (!q->query.with_hash) {
        put_tombstones(b, q, floor, NULL);
        buf_puts(b, " UNION ALL ");
    }
    put_take_over(b, q, p);
    buf_puts(b, ") AS u (");
    put_names(b, s, q->query.with_hash);
    buf_puts(b, ")) TO STDOUT");
}

void sql_trigger_leaf(struct buf *b, const struct sql_query *q, const struct relation_leaf *leaf)
{
    put_head(b, q);
    buf_printf(b, ", %d", SQL_TRIGGER_ROW);
    sql_put_columns(b, q);
    sql_put_from(b, q, leaf);
    buf_puts(b, "true");
    sql_put_where(b, q);
    buf_puts(b, ") TO STDOUT");
}

void sql_trigger_range(struct buf *b, const struct sql_query *q, const struct relation_leaf *leaf,
                       uint32_t block, uint32_t end)
{
    put_head(b, q);
    buf_printf(b, ", %d", SQL_TRIGGER_ROW);
    sql_put_columns(b, q);
    sql_put_from(b, q, leaf);
    sql_put_ident(b, q->table->name);
    buf_printf(b, ".ctid >= '(%" PRIu32 ",0)'::tid AND ", block);
    sql_put_ident(b, q->table->name);
    buf_printf(b, ".ctid < '(%" PRIu32 ",0)'::tid", end);
    sql_put_where(b, q);
    buf_puts(b, ") TO STDOUT");
}

void sql_trigger_xids(struct buf *b, const struct sql_trigger_query *q, const struct position *p)
{
    buf_printf(b, "COPY (SELECT 0, s, %d FROM (SELECT DISTINCT ", SQL_TRIGGER_ROW);
    put_stamp(b, &q->query);
    sql_put_from(b, &q->query, NULL);
    put_in_reach(b, q, p->horizon.floor);
    sql_put_known_leaves(b, &q->query, p);
    buf_puts(b, " UNION SELECT pgcdc_d.xid");
    put_tombstones_in_reach(b, q, p->horizon.floor);
    buf_puts(b, ") AS u (s)) TO STDOUT");
}
