/* logical_facts.c -- what the server says of the log, a publication and a slot.
 * SPDX-License-Identifier: MIT */
#include "capture/logical_facts.h"

#include "capture/sql.h"
#include "capture/sql_altered.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { F_LEVEL, F_PUBLICATION, F_OPS, F_ROOT, F_PUBLISHED, F_FILTERED, F_IDENTITY, F_PLUGIN,
       F_HERE, F_STATUS, F_CONFIRMED, F_MIXED, F_HASH, F_VERSION, F_SYNCED, F_MOVED,
       F_CHILD, F_LEAVES, F_KEPT, F_ALTERED, F_COLUMNS };

const struct result_shape logical_facts_shape = {
    "what the log brings", "tBBBbbcTBTUbuubbbTcUT", 1, 1
};

/* Rows of the catalogs that are made anew when a table, or the schema that it is in, leaves the
 * publication and enters it again, and are written anew when its other properties change. (Servers
 * before 15 have no pg_publication_namespace; that a row of it is there is in pg_depend.) */
static void put_published(struct buf *sql)
{
    buf_puts(sql, ", hashtextextended(concat_ws(' ', p.oid, p.xmin, (SELECT"
                  " string_agg(r.oid::text, ',' ORDER BY r.oid) FROM pg_publication_rel r WHERE"
                  " r.prpubid = p.oid AND (r.prrelid = c.oid OR r.prrelid IN (SELECT"
                  " pg_partition_ancestors(c.oid)))), (SELECT string_agg(d.objid::text, ',' ORDER"
                  " BY d.objid) FROM pg_depend d JOIN pg_depend n ON n.classid = d.classid AND"
                  " n.objid = d.objid WHERE d.classid = to_regclass('pg_publication_namespace')"
                  " AND d.refclassid = 'pg_publication'::regclass AND d.refobjid = p.oid AND"
                  " n.refclassid = 'pg_namespace'::regclass AND n.refobjid = c.relnamespace)), 0)"
                  " & 9223372036854775807");
}

/* What was written to a table before it inherited from this one is perhaps not in the log. */
static void put_child(const struct source *s, struct buf *sql)
{
    buf_puts(sql, ", c.relkind <> 'p' AND EXISTS (WITH RECURSIVE tree(oid) AS (SELECT c.oid UNION"
                  " ALL SELECT i.inhrelid FROM pg_inherits i JOIN tree ON i.inhparent = tree.oid)"
                  " SELECT FROM tree JOIN pg_class l USING (oid) WHERE l.relkind = 'r' AND l.oid"
                  " NOT IN (0");
    for (size_t i = 0; i < s->position.n_leaves; i++)
        buf_printf(sql, ",%" PRIu32, s->position.leaves[i].oid);
    buf_puts(sql, "))");
}

/* The partitions, see log_leaves.h. (One that is being detached may stay so for long. In 14 one
 * that is empty now but had rows is as one that has some.) */
static void put_leaves(const struct source *s, struct buf *sql)
{
    buf_puts(sql, ", (WITH RECURSIVE tree(oid, attached) AS (SELECT c.oid, 0::int8 UNION ALL SELECT"
                  " i.inhrelid, hashtextextended(concat_ws(' ', i.inhrelid, i.inhparent, i.xmin),"
                  " tree.attached) FROM pg_inherits i JOIN tree ON i.inhparent = tree.oid WHERE NOT"
                  " i.inhdetachpending) SELECT string_agg(concat_ws(' ', l.oid, attached &"
                  " 9223372036854775807 | 1, CASE WHEN l.oid IN (0");
    for (size_t i = 0; i < s->position.n_leaves; i++)
        buf_printf(sql, ",%" PRIu32, s->position.leaves[i].oid);
    buf_puts(sql, ") OR (pg_relation_size(l.oid) = 0 AND (l.relfilenode = l.oid OR"
                  " current_setting('server_version_num')::int >= 150000))"
                  " THEN 0 ELSE 1 END), ' ' ORDER BY l.oid) FROM"
                  " tree JOIN pg_class l USING (oid) WHERE l.relkind = 'r' AND c.relkind = 'p')");
}

void logical_facts_put(const struct source *s, struct buf *sql)
{
    const struct relation *t = &s->facts.table;

    buf_puts(sql, "SELECT current_setting('wal_level'), p.oid IS NOT NULL, p.pubinsert AND"
                  " p.pubupdate AND p.pubdelete, p.pubviaroot, EXISTS (SELECT FROM"
                  " pg_publication_tables WHERE pubname = p.pubname AND schemaname = ");
    sql_put_literal(sql, t->schema);
    buf_puts(sql, " AND tablename = ");
    sql_put_literal(sql, t->name);
    /* columns of 15: row filters and lists of columns */
    buf_puts(sql, "), EXISTS (SELECT FROM pg_publication_rel r WHERE r.prpubid = p.oid AND"
                  " r.prrelid = c.oid AND (to_jsonb(r)->>'prqual' IS NOT NULL OR"
                  " to_jsonb(r)->>'prattrs' IS NOT NULL)), c.relreplident, coalesce(s.plugin::text,"
                  " CASE WHEN s.slot_name IS NOT NULL THEN '' END),"
                  " s.database = current_database(), s.wal_status,"
                  " s.confirmed_flush_lsn - '0/0', c.relreplident = 'f' AND EXISTS (SELECT FROM"
                  " pg_partition_tree(c.oid) t JOIN pg_class l ON l.oid = t.relid WHERE t.isleaf"
                  " AND l.relreplident <> 'f')");
    put_published(sql);
    /* a slot that a standby has from the primary; and whether a snapshot that is older than the
     * lock has another file than is there now: it shows nothing of that */
    buf_puts(sql, ", current_setting('server_version_num')::int8, pg_is_in_recovery() AND"
                  " coalesce((to_jsonb(s)->>'synced')::bool, false), EXISTS (WITH RECURSIVE"
                  " tree(oid) AS (SELECT c.oid UNION ALL SELECT i.inhrelid FROM pg_inherits i JOIN"
                  " tree ON i.inhparent = tree.oid) SELECT FROM tree JOIN pg_class l USING (oid)"
                  " WHERE l.relfilenode <> 0 AND l.relfilenode"
                  " IS DISTINCT FROM pg_relation_filenode(l.oid))");
    put_child(s, sql);
    put_leaves(s, sql);
    buf_puts(sql, ", CASE WHEN c.oid < 16384 THEN 'c' WHEN c.relpersistence = 'u' OR EXISTS (SELECT"
                  " FROM pg_partition_tree(c.oid) t JOIN pg_class l ON l.oid = t.relid WHERE"
                  " l.relpersistence = 'u') THEN 'u' ELSE 'p' END");
    buf_puts(sql, ", ");
    if (s->config->keeps_old)
        sql_altered_put(sql, t);
    else
        buf_puts(sql, "0::int8");
    buf_puts(sql, ", ");
    log_columns_put(sql);
    buf_puts(sql, " FROM pg_class c LEFT JOIN pg_publication p ON p.pubname = ");
    sql_put_literal(sql, s->config->publication);
    buf_puts(sql, " LEFT JOIN pg_replication_slots s ON s.slot_name = ");
    sql_put_literal(sql, s->config->slot);
    buf_puts(sql, " WHERE c.oid = ");
    sql_put_regclass(sql, t);
    buf_puts(sql, ";");
}

bool logical_facts_read(struct logical_facts *f, struct source *s, const struct result *r,
                        struct err *e)
{
    const char *plugin = result_text(r, 0, F_PLUGIN), *status = result_text(r, 0, F_STATUS);

    f->is_known = true;
    snprintf(f->wal_level, sizeof f->wal_level, "%s", result_text(r, 0, F_LEVEL));
    f->has_publication = result_bool(r, 0, F_PUBLICATION);
    f->has_all_ops = result_bool(r, 0, F_OPS);
    f->has_root = result_bool(r, 0, F_ROOT);
    f->is_published = result_bool(r, 0, F_PUBLISHED);
    f->is_filtered = result_bool(r, 0, F_FILTERED);
    f->kept = *result_text(r, 0, F_KEPT);
    f->identity = *result_text(r, 0, F_IDENTITY);
    f->is_mixed = result_bool(r, 0, F_MIXED);
    f->has_slot = plugin != NULL;
    f->is_ours = plugin != NULL && strcmp(plugin, "pgoutput") == 0 && result_bool(r, 0, F_HERE);
    f->is_lost = status != NULL && strcmp(status, "lost") == 0;
    f->confirmed = result_u64(r, 0, F_CONFIRMED);
    f->published = result_u64(r, 0, F_HASH);
    f->version = result_u64(r, 0, F_VERSION);
    f->is_synced = result_bool(r, 0, F_SYNCED);
    f->is_moved = result_bool(r, 0, F_MOVED);
    f->has_child = result_bool(r, 0, F_CHILD);
    s->log_altered = result_u64(r, 0, F_ALTERED);
    if (!log_columns_read(&s->log_columns, f->is_filtered ? NULL : result_text(r, 0, F_COLUMNS), e))
        return false;
    return log_leaves_read(&s->log_leaves, result_text(r, 0, F_LEAVES), s->facts.identity.lsn, e);
}

/* ---- whether that will do ---- */

static bool refuse_publication(const struct source *s, const char *what, struct err *e)
{
    return err_set(e, ERR_REFUSED, "%s.%s: publication %s %s", s->facts.table.schema,
                   s->facts.table.name, s->config->publication, what);
}

static bool check_publication(const struct logical_facts *f, const struct source *s,
                              struct err *e)
{
    const struct relation *t = &s->facts.table;

    if (!f->has_publication)
        return err_set(e, ERR_REFUSED, "there is no publication %s: CREATE PUBLICATION %s FOR TABLE"
                       " %s.%s WITH (publish_via_partition_root = true)", s->config->publication,
                       s->config->publication, t->schema, t->name);
    if (!f->is_published)
        return err_set(e, ERR_REFUSED, "publication %s does not have %s.%s: ALTER PUBLICATION %s "
                       "ADD TABLE %s.%s", s->config->publication, t->schema, t->name,
                       s->config->publication, t->schema, t->name);
    if (!f->has_all_ops)
        return refuse_publication(s, "leaves out inserts, updates or deletes: ALTER PUBLICATION ..."
                                  " SET (publish = 'insert, update, delete, truncate')", e);
    if (f->is_filtered)
        return refuse_publication(s, "has a row filter or a list of columns: name a publication "
                                  "without", e);
    return !t->is_tree || f->has_root ||
           refuse_publication(s, "publishes partitions one by one: ALTER PUBLICATION ... SET "
                              "(publish_via_partition_root = true)", e);
}

/* (Of a partition whose identity is not FULL, the log has old rows with nothing but the key where
 * that of the whole table says that they are complete.) */
static bool check_identity(const struct logical_facts *f, const struct source *s, struct err *e)
{
    const struct relation *t = &s->facts.table;
    const struct config *c = s->config;
    bool may_keep = s->position.is_learned ||
                    (s->position.phase == POSITION_NONE && c->counts_first);
    const char *option = c->skips_unchanged ? "skip_unchanged = true"
                         : c->toast == CONFIG_TOAST_REQUIRE && !c->keeps_old
                             ? "toast = \"require\"" : NULL;

    if (f->identity == 'n' || s->facts.rowtype->n_key == 0)
        return err_set(e, ERR_REFUSED, "%s.%s: updates and deletes of it do not say of which row, "
                       "see ALTER TABLE ... REPLICA IDENTITY", t->schema, t->name);
    if (f->is_mixed)
        return err_set(e, ERR_REFUSED, "%s.%s has REPLICA IDENTITY FULL, and a partition of it has "
                       "not: ALTER TABLE ... REPLICA IDENTITY FULL of each partition",
                       t->schema, t->name);
    if (c->keeps_old && !may_keep && f->identity != 'f')
        return err_set(e, ERR_REFUSED, "%s.%s: old = true needs old rows, which the log has only "
                       "with ALTER TABLE %s.%s REPLICA IDENTITY FULL; or rows are kept for it from "
                       "the first read on: leave deletes and start out, and --reset the source",
                       t->schema, t->name, t->schema, t->name);
    return option == NULL || f->identity == 'f' ||
           err_set(e, ERR_REFUSED, "%s.%s: %s needs old rows, which the log has only with ALTER "
                   "TABLE %s.%s REPLICA IDENTITY FULL", t->schema, t->name, option, t->schema,
                   t->name);
}

static bool check_kept(const struct logical_facts *f, const struct source *s, struct err *e)
{
    const struct relation *t = &s->facts.table;

    if (f->kept == 'c')
        return err_set(e, ERR_REFUSED, "%s.%s is a catalog of the server, which the log does not "
                       "have: use capture = \"xmin\"", t->schema, t->name);
    return f->kept != 'u' ||
           err_set(e, ERR_REFUSED, "%s.%s is unlogged, and the log does not have it: use capture ="
                   " \"xmin\"", t->schema, t->name);
}

bool logical_facts_check(const struct logical_facts *f, const struct source *s, struct err *e)
{
    if (s->facts.identity.in_recovery && f->version < 160000)
        return err_set(e, ERR_REFUSED, "capture = \"logical\" reads standbys from Postgres 16 on, "
                       "and this is an older one: connect to the primary");
    if (f->is_synced)
        return err_set(e, ERR_REFUSED, "slot %s is one of the primary: connect there, or name "
                       "another slot for this standby", s->config->slot);
    if (strcmp(f->wal_level, "logical") != 0)
        return err_set(e, ERR_REFUSED, "capture = \"logical\" needs wal_level = logical, and it is "
                       "%s: ALTER SYSTEM SET wal_level = 'logical', and restart the server",
                       f->wal_level);
    if (!check_kept(f, s, e))
        return false;
    /* where a position is by the log, what the publication lacks now is a hole: see why_lost */
    if (s->position.logical.lsn == 0 && !check_publication(f, s, e))
        return false;
    if (!check_identity(f, s, e))
        return false;
    return !f->has_slot || f->is_ours ||
           err_set(e, ERR_REFUSED, "slot %s is of another database or plug-in: name another one",
                   s->config->slot);
}
