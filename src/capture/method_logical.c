/* method_logical.c -- capture = "logical": changes are read from the server's log.
 *
 * The first read is that of xmins, and so is the poll that hands its position over (logical.h).
 * Then the stream (stream.h) brings the changes, and a step only reads facts. For the way back the
 * horizon follows the log: the xids that the stream delivers are seen; and of each snapshot the
 * xmin becomes the floor once the stream has passed the LSN that was read after it, since all xids
 * below it were over then.
 *
 * SPDX-License-Identifier: MIT */
#include "capture/method.h"

#include "capture/complete_plan.h"
#include "capture/slot_errors.h"
#include "capture/slot_mark.h"
#include "pg/lsn.h"
#include "pg/replication.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_HEAD 64 /* at the beginning of a page the server skips so much at most */

/* What is kept of a source. */
struct own {
    bool is_known; /* the facts below were read */
    char wal_level[16];
    /* of the publication: */
    bool is_published, has_publication, has_all_ops, has_root, is_filtered;
    uint64_t published; /* another number once any of that may have been otherwise for a while */
    char identity;   /* of the table: relreplident */
    bool is_mixed;   /* it is FULL, and that of a partition is not */
    bool has_strange; /* a leaf that the position does not know may have rows that the log lacks */
    /* of the slot: */
    bool has_slot, is_ours, is_lost;
    bool is_synced; /* a standby has it from the primary, where it is to be read */
    bool is_moved;  /* the table was written anew since the imported snapshot */
    uint64_t version; /* of the server */
    uint64_t confirmed;
    /* of the slot that was made last, until the position was handed over: */
    struct slot_mark mark;
    uint64_t published_before; /* <published>, as it was read before */
    /* a snapshot, for the floor: its xmin, and an LSN that was read after it; 0: none */
    uint64_t xmin, xmin_lsn;
};

static void fini_source(void *own)
{
    struct own *log = own;

    slot_mark_fini(&log->mark);
}

static struct own *log_of(const struct source *s)
{
    return s->own;
}

static bool holds(const struct position *p)
{
    return p->logical.lsn != 0;
}

/* ---- facts ---- */

enum { F_LEVEL, F_PUBLICATION, F_OPS, F_ROOT, F_PUBLISHED, F_FILTERED, F_IDENTITY, F_PLUGIN,
       F_HERE, F_STATUS, F_CONFIRMED, F_MIXED, F_HASH, F_VERSION, F_SYNCED, F_MOVED,
       F_STRANGE };

static const struct result_shape facts_shape = {
    "what the log brings", "tBBBbbcTBTUbuubbb", 1, 1
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

/* What was written to a leaf before it was part of the table is not in the log. So one that is new
 * is followed only if it is a partition and has no block yet: the log brings what it gets. */
static void put_strange(const struct source *s, struct buf *sql)
{
    buf_puts(sql, ", EXISTS (WITH RECURSIVE tree(oid) AS (SELECT c.oid UNION ALL SELECT i.inhrelid"
                  " FROM pg_inherits i JOIN tree ON i.inhparent = tree.oid) SELECT FROM tree JOIN"
                  " pg_class l USING (oid) WHERE l.relkind = 'r' AND l.oid NOT IN (0");
    for (size_t i = 0; i < s->position.n_leaves; i++)
        buf_printf(sql, ",%" PRIu32, s->position.leaves[i].oid);
    buf_puts(sql, ") AND (c.relkind <> 'p' OR pg_relation_size(l.oid) > 0))");
}

static void put_facts(const struct source *s, struct buf *sql)
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
    put_strange(s, sql);
    buf_puts(sql, " FROM pg_class c LEFT JOIN pg_publication p ON p.pubname = ");
    sql_put_literal(sql, s->config->publication);
    buf_puts(sql, " LEFT JOIN pg_replication_slots s ON s.slot_name = ");
    sql_put_literal(sql, s->config->slot);
    buf_puts(sql, " WHERE c.oid = ");
    sql_put_regclass(sql, t);
    buf_puts(sql, ";");
}

static bool read_facts(struct source *s, const struct result *r, struct err *e)
{
    struct own *log = log_of(s);
    const char *plugin = result_text(r, 0, F_PLUGIN), *status = result_text(r, 0, F_STATUS);

    (void)e;
    log->is_known = true;
    snprintf(log->wal_level, sizeof log->wal_level, "%s", result_text(r, 0, F_LEVEL));
    log->has_publication = result_bool(r, 0, F_PUBLICATION);
    log->has_all_ops = result_bool(r, 0, F_OPS);
    log->has_root = result_bool(r, 0, F_ROOT);
    log->is_published = result_bool(r, 0, F_PUBLISHED);
    log->is_filtered = result_bool(r, 0, F_FILTERED);
    log->identity = *result_text(r, 0, F_IDENTITY);
    log->is_mixed = result_bool(r, 0, F_MIXED);
    log->has_slot = plugin != NULL;
    log->is_ours = plugin != NULL && strcmp(plugin, "pgoutput") == 0 && result_bool(r, 0, F_HERE);
    log->is_lost = status != NULL && strcmp(status, "lost") == 0;
    log->confirmed = result_u64(r, 0, F_CONFIRMED);
    log->published = result_u64(r, 0, F_HASH);
    log->version = result_u64(r, 0, F_VERSION);
    log->is_synced = result_bool(r, 0, F_SYNCED);
    log->is_moved = result_bool(r, 0, F_MOVED);
    log->has_strange = result_bool(r, 0, F_STRANGE);
    return true;
}

static void explain(const struct source *s, struct err *e)
{
    slot_errors_explain(s->config, NULL, e);
    if (s->snapshot != NULL && e->code == ERR_SQL) /* who has exported it is perhaps not there */
        log_of(s)->mark.lsn = 0;
}

static bool refuse_publication(const struct source *s, const char *what, struct err *e)
{
    return err_set(e, ERR_REFUSED, "%s.%s: publication %s %s", s->facts.table.schema,
                   s->facts.table.name, s->config->publication, what);
}

static bool check_publication(const struct source *s, struct err *e)
{
    const struct own *log = log_of(s);
    const struct relation *t = &s->facts.table;

    if (!log->has_publication)
        return err_set(e, ERR_REFUSED, "there is no publication %s: CREATE PUBLICATION %s FOR TABLE"
                       " %s.%s WITH (publish_via_partition_root = true)", s->config->publication,
                       s->config->publication, t->schema, t->name);
    if (!log->is_published)
        return err_set(e, ERR_REFUSED, "publication %s does not have %s.%s: ALTER PUBLICATION %s "
                       "ADD TABLE %s.%s", s->config->publication, t->schema, t->name,
                       s->config->publication, t->schema, t->name);
    if (!log->has_all_ops)
        return refuse_publication(s, "leaves out inserts, updates or deletes: ALTER PUBLICATION ..."
                                  " SET (publish = 'insert, update, delete, truncate')", e);
    if (log->is_filtered)
        return refuse_publication(s, "has a row filter or a list of columns: name a publication "
                                  "without", e);
    return !t->is_tree || log->has_root ||
           refuse_publication(s, "publishes partitions one by one: ALTER PUBLICATION ... SET "
                              "(publish_via_partition_root = true)", e);
}

/* (Of a partition whose identity is not FULL, the log has old rows with nothing but the key where
 * that of the whole table says that they are complete.) */
static bool check_identity(const struct source *s, struct err *e)
{
    const struct own *log = log_of(s);
    const struct relation *t = &s->facts.table;
    const struct config *c = s->config;
    const char *option = c->keeps_old ? "old = true"
                         : c->skips_unchanged ? "skip_unchanged = true"
                         : c->toast == CONFIG_TOAST_REQUIRE ? "toast = \"require\"" : NULL;

    if (log->identity == 'n' || s->facts.rowtype->n_key == 0)
        return err_set(e, ERR_REFUSED, "%s.%s: updates and deletes of it do not say of which row, "
                       "see ALTER TABLE ... REPLICA IDENTITY", t->schema, t->name);
    if (log->is_mixed)
        return err_set(e, ERR_REFUSED, "%s.%s has REPLICA IDENTITY FULL, and a partition of it has "
                       "not: ALTER TABLE ... REPLICA IDENTITY FULL of each partition",
                       t->schema, t->name);
    return option == NULL || log->identity == 'f' ||
           err_set(e, ERR_REFUSED, "%s.%s: %s needs old rows, which the log has only with ALTER "
                   "TABLE %s.%s REPLICA IDENTITY FULL", t->schema, t->name, option, t->schema,
                   t->name);
}

static bool check(const struct source *s, struct err *e)
{
    const struct own *log = log_of(s);

    if (s->facts.identity.in_recovery && log->version < 160000)
        return err_set(e, ERR_REFUSED, "capture = \"logical\" reads standbys from Postgres 16 on, "
                       "and this is an older one: connect to the primary");
    if (log->is_synced)
        return err_set(e, ERR_REFUSED, "slot %s is one of the primary: connect there, or name "
                       "another slot for this standby", s->config->slot);
    if (strcmp(log->wal_level, "logical") != 0)
        return err_set(e, ERR_REFUSED, "capture = \"logical\" needs wal_level = logical, and it is "
                       "%s: ALTER SYSTEM SET wal_level = 'logical', and restart the server",
                       log->wal_level);
    /* where a position is by the log, what the publication lacks now is a hole: see why_lost */
    if (!holds(&s->position) && !check_publication(s, e))
        return false;
    if (!check_identity(s, e))
        return false;
    return !log->has_slot || log->is_ours ||
           err_set(e, ERR_REFUSED, "slot %s is of another database or plug-in: name another one",
                   s->config->slot);
}

/* ---- positions ---- */

static uint64_t oldest_xid(const struct position *p)
{
    return p->horizon.floor;
}

static bool stays(const struct source *s)
{
    return s->declared == &method_logical;
}

static bool wants_poll(const struct source *s)
{
    return !holds(&s->position) || !stays(s);
}

static bool is_ready(const struct source *s)
{
    return holds(&s->position) || !stays(s);
}

/* What the publication may not have had of the table since the position was handed over; NULL:
 * nothing. */
static const char *why_unpublished(const struct source *s)
{
    const struct own *log = log_of(s);

    if (!log->is_published || !log->has_all_ops || log->is_filtered)
        return "the publication does not have all changes of the table any more";
    return log->published == s->position.logical.published
               ? NULL
               : "the publication was altered, and may have lacked changes of the table";
}

/* Why the log cannot bring what follows the position; NULL: it can. */
static const char *why_lost(const struct source *s)
{
    const struct logical *l = &s->position.logical;
    const struct own *log = log_of(s);

    if (strcmp(l->slot, s->config->slot) != 0)
        return "the source names another slot";
    if (!log->has_slot)
        return "the slot is not there any more";
    if (log->is_lost)
        return "the slot is lost, since it held too much of the log";
    if (log->confirmed > l->lsn)
        return "the slot was moved by somebody else, or the state file is an old one";
    if (why_unpublished(s) != NULL)
        return why_unpublished(s);
    return log->has_strange ? "a partition is new, and has rows" : NULL;
}

/* Nobody but the user knows whether others use it. */
static bool tell_of_slot(struct source *s, struct err *e)
{
    char text[200];

    snprintf(text, sizeof text, "this source does not use slot %s any more: unless another one does"
             ", drop it, or it holds the server's log: SELECT pg_drop_replication_slot('%s')",
             s->position.logical.slot, s->position.logical.slot);
    return source_add_notice(s, LOG_WARN, text, e);
}

/* A slot that standbys have too: all that the position speaks of is before the point at which the
 * new primary left the old one's timeline, and xids below the floor are not given out again. */
static bool outlives(struct source *s, struct conn *conn, bool *is_so, char *why, size_t size,
                     struct err *e)
{
    const struct identity *now = &s->facts.identity, *then = &s->position.identity;
    const struct logical *l = &s->position.logical;
    const struct own *log = log_of(s);
    struct replication *r;
    uint64_t end;
    bool ok;

    *is_so = false;
    if (!stays(s) || now->timeline == then->timeline || now->in_recovery || !log->has_slot ||
        log->is_lost || strcmp(l->slot, s->config->slot) != 0 || log->confirmed > l->lsn ||
        s->facts.snapshot.xmax < s->position.horizon.floor)
        return true;
    r = replication_open(conn, s->config->slot_conninfo, NULL, e);
    ok = r != NULL && replication_ask_switch(r, now->timeline, then->timeline, &end, e);
    replication_close(r, NULL);
    if (!ok)
        return false;
    *is_so = l->lsn <= end;
    if (!*is_so)
        snprintf(why, size, "the new primary lacks what we saw: set synchronized_standby_slots "
                 "there");
    return true;
}

/* Rows since the floor come again, what is not there any more is not known: nothing else is lost,
 * so the position goes on as one of xmins. */
static bool check_position(struct source *s, const char **why)
{
    const struct identity *now = &s->facts.identity;
    const char *lost = stays(s) ? why_lost(s) : NULL;
    struct err ignored;
    char text[200];

    if (s->position.logical.lsn > now->flush_lsn + PAGE_HEAD) {
        *why = "the server's log ends before what was read of it: a restore";
        return false;
    }
    if (lost == NULL)
        return true;
    snprintf(text, sizeof text, "%s: what changed since transaction %llu is read by xmin; deletes "
             "since then are not known", lost, (unsigned long long)s->position.horizon.floor);
    if (!source_add_notice(s, LOG_WARN, text, &ignored))
        return true; /* no memory for it: the next step says so */
    source_forget_polled(s);
    if (strcmp(s->position.logical.slot, s->config->slot) != 0 && !tell_of_slot(s, &ignored))
        return true;
    if (why_unpublished(s) != NULL) /* of a transaction that was seen, a part may be unseen */
        xidset_fini(&s->position.horizon.seen);
    logical_end(&s->position.logical);
    return true;
}

/* ---- the slot ---- */

/* True if the position is to be handed over, and may be: it says which slot is ours. */
static bool is_handing_over(const struct source *s)
{
    const struct position *p = &s->position;

    return p->phase == POSITION_POLL && !holds(p) && log_of(s)->is_known &&
           p->logical.slot != NULL && strcmp(p->logical.slot, s->config->slot) == 0 &&
           method_that_holds(p) == &method_xmin;
}

/* Nobody can make use of the slot that was made last any more. */
static void forget_slot(struct source *s)
{
    slot_mark_forget(&log_of(s)->mark);
    s->snapshot = NULL;
}

/* What the log brings begins with a slot, which must be there before the poll's snapshot is taken.
 * A standby's snapshot does not list who is under way, so there the poll has the slot's. */
static bool prepare(struct source *s, struct conn *conn, struct err *e)
{
    struct own *log = log_of(s);
    const struct slot_mark_request request = {
        .config = s->config, .is_beside = s->shares_log, .number = s->number,
        .keeps = s->facts.identity.in_recovery,
    };

    if (!is_handing_over(s)) {
        forget_slot(s);
        return true;
    }
    if (log->mark.lsn != 0 && s->log_passed <= log->mark.lsn)
        return true;
    forget_slot(s);
    if (!slot_mark_make(&log->mark, conn, &request, e))
        return false;
    log->published_before = log->published;
    s->snapshot = request.keeps ? log->mark.name : NULL;
    return true;
}

/* ---- steps ---- */

/* The position is to name the slot before that is made, so that nobody else's is dropped. */
static bool name_slot(struct source *s, struct err *e)
{
    char *copy;

    if (log_of(s)->has_slot && !s->has_slot)
        return err_set(e, ERR_REFUSED, "slot %s is there already, and was not made by this script: "
                       "name another one, or, if nobody needs it, drop it: SELECT "
                       "pg_drop_replication_slot('%s')", s->config->slot, s->config->slot);
    copy = strdup(s->config->slot);
    if (copy == NULL)
        return err_memory(e);
    free(s->position.logical.slot);
    s->position.logical.slot = copy;
    return true;
}

static bool begin_taking(struct source *s, struct method_step *step, struct conn *conn,
                         struct err *e)
{
    struct own *log = log_of(s);
    struct horizon_snapshot s0;

    if (!is_handing_over(s)) {
        step->is_idle = true;
        return name_slot(s, e);
    }
    /* another source may have made the slot anew since, or the position has become one of xmins in
     * this step */
    if (log->mark.lsn == 0 || !log->has_slot || log->confirmed > log->mark.lsn ||
        log->published != log->published_before || (s->snapshot != NULL && log->is_moved) ||
        !horizon_parse_snapshot(&s0, log->mark.shown)) {
        forget_slot(s);
        step->is_idle = true;
        return true;
    }
    if (!logical_contains(&s->facts.snapshot, &s0)) {
        err_set(e, ERR_SQL, "a transaction is in the log and not visible yet: does a standby let it"
                " wait?");
        memcpy(e->sqlstate, "40001", 6);
        return false;
    }
    step->is_held = true;
    return method_xmin.begin(s, step, conn, e);
}

static bool begin(struct source *s, struct method_step *step, struct conn *conn, struct err *e)
{
    switch (step->hand_over) {
    case METHOD_TAKES:
        return begin_taking(s, step, conn, e);
    case METHOD_GIVES:
        step->is_held = step->learns_all = true;
        return tell_of_slot(s, e) && method_xmin.begin(s, step, conn, e);
    case METHOD_STAYS:
        step->is_idle = true;
        break;
    }
    return true;
}

static bool take_over(struct source *s, struct method_step *step, struct err *e)
{
    struct own *log = log_of(s);

    if (step->is_idle) {
        step->goes_on = true;
        return true;
    }
    if (!method_move_horizon(s, step, e))
        return false;
    step->goes_on = step->has_left || (source_counts_keys(s) && !step->is_counted);
    if (step->goes_on)
        return true;
    s->position.is_learned = false; /* the log tells what is deleted from now on */
    /* what the log brings after its own snapshot, that does not show */
    if (!logical_begin(&s->position.logical, log->mark.lsn, s->facts.snapshot.text,
                       s->snapshot != NULL ? log->mark.lsn : s->facts.identity.lsn,
                       log->published_before))
        return err_memory(e);
    forget_slot(s);
    return true;
}

/* All xids below <floor> are over, and delivered. */
static bool set_floor(struct horizon *h, uint64_t floor, struct err *e)
{
    struct xidset left = { 0 };

    for (size_t i = xidset_lower_bound(&h->seen, floor); i < h->seen.n; i++)
        if (!xidset_add(&left, h->seen.v[i])) {
            xidset_fini(&left);
            return err_memory(e);
        }
    xidset_fini(&h->seen);
    h->seen = left; /* moves */
    h->floor = floor;
    return true;
}

/* The floor of the horizon follows, see above. */
static bool raise_floor(struct source *s, struct err *e)
{
    struct horizon *h = &s->position.horizon;
    struct own *log = log_of(s);

    if (log->xmin_lsn != 0 && s->position.logical.lsn >= log->xmin_lsn) {
        if (log->xmin > h->floor && !set_floor(h, log->xmin, e))
            return false;
        log->xmin_lsn = 0;
    }
    if (log->xmin_lsn == 0) {
        log->xmin = s->facts.snapshot.xmin;
        log->xmin_lsn = s->facts.identity.lsn;
    }
    return true;
}

/* Those that are new are empty, see why_lost. */
static bool follow_leaves(struct source *s, struct err *e)
{
    bool is_same = s->facts.table.n_leaves == s->position.n_leaves;

    for (size_t i = 0; i < s->facts.table.n_leaves; i++)
        is_same = is_same && position_leaf(&s->position, s->facts.table.leaves[i].oid) != NULL;
    return is_same || source_know_leaves(s, e);
}

/* Also what rows of the log lack is asked for. */
static void put_try(const struct source *s, struct buf *sql)
{
    method_put_try(s, sql);
    complete_plan_put_try(s, sql);
}

static bool advance(struct source *s, struct method_step *step, struct err *e)
{
    char *text;

    switch (step->hand_over) {
    case METHOD_TAKES:
        return take_over(s, step, e);
    case METHOD_GIVES:
        logical_fini(&s->position.logical);
        return method_move_horizon(s, step, e);
    case METHOD_STAYS:
        break;
    }
    text = strdup(s->facts.snapshot.text);
    if (text == NULL)
        return err_memory(e);
    source_forget_polled(s);
    s->polled = text;
    return follow_leaves(s, e) && raise_floor(s, e);
}

const struct method method_logical = {
    .capture = CONFIG_BY_LOGICAL,
    .report = ", by the log",
    .source_size = sizeof(struct own),
    .source_fini = fini_source,
    .put_facts = put_facts,
    .read_facts = read_facts,
    .facts_shape = &facts_shape,
    .explain = explain,
    .check = check,
    .put_try = put_try,
    .holds = holds,
    .check_position = check_position,
    .outlives = outlives,
    .stays = stays,
    .is_ready = is_ready,
    .oldest_xid = oldest_xid,
    .prepare = prepare,
    .wants_poll = wants_poll,
    .range = { .put = method_put_range, .take = method_take_range },
    .leaf = { .put = method_put_leaf, .take = method_take_leaf },
    .xids = { .put = method_put_xids, .take = method_take_xid },
    .begin = begin,
    .advance = advance,
};
