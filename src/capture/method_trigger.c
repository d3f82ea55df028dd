/* method_trigger.c -- capture = "trigger": changes are found by what triggers leave.
 *
 * lua/pgcdc/postgres/trigger.lua installs them. Every row that is written carries the top-level
 * xid of its writer (its stamp). Every key that is deleted leaves a tombstone with the top-level
 * xid of the transaction that deleted it. So the capture rule of horizon.h holds for these xids as
 * it does for xmins, and more simply: a transaction has one, of 64 bits. A row without a stamp was
 * not written since the triggers were installed, and all such rows were committed before: a
 * snapshot reads them, or a poll by xmin did.
 *
 * A position of xmins is taken over by one more poll by xmin, which also learns the stamps of the
 * rows that it reads. A position of stamps can serve as one of xmins without a poll, since no xid
 * of a row is below that of its transaction. But where the source looks for deletes from now on it
 * is given back by one more poll by triggers: that tells what was deleted until now, and the census
 * of the same snapshot learns what is there.
 *
 * SPDX-License-Identifier: MIT */
#include "capture/method.h"

#include "capture/sql_trigger.h"
#include "capture/triggers.h"
#include "pg/copytext.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is kept while a poll is under way. */
struct step {
    uint64_t empty; /* tombstones without a key */
};

static void fini_source(void *own)
{
    triggers_fini(own);
}

/* What this method keeps of <s>; zeroed if the source names another method, and did not look back.
 */
static const struct triggers *triggers_of(const struct source *s)
{
    static const struct triggers none = { 0 };

    return s->own_of == &method_trigger ? s->own : &none;
}

static struct sql_trigger_query query(const struct source *s)
{
    return (struct sql_trigger_query){
        .query = method_query(s),
        .number = triggers_of(s)->number,
        .labels = triggers_of(s)->labels,
        .columns = triggers_of(s)->columns,
        .xmax = s->facts.snapshot.xmax,
    };
}

/* ---- facts ---- */

static void put_facts(const struct source *s, struct buf *sql)
{
    sql_trigger_installed(sql, &s->facts.table);
}

static bool read_facts(struct source *s, const struct result *r, struct err *e)
{
    return triggers_read(s->own, r, e);
}

static bool refuse(const struct source *s, const char *why, struct err *e)
{
    return err_set(e, ERR_REFUSED, "%s.%s: %s", s->facts.table.schema, s->facts.table.name, why);
}

static bool refuse_missing(const struct source *s, struct err *e)
{
    return refuse(s, "capture = \"trigger\" finds no triggers: run `pgcdc-lua trigger "
                  "action=install table=...` first", e);
}

/* True if <e> says that a text is no value of the type that it was cast to. */
static bool is_of_type(const struct err *e)
{
    static const char *const states[] = { "22P02", "22003", "22007", "22008" };
    bool is = false;

    for (size_t i = 0; i < sizeof states / sizeof *states; i++)
        is = is || strcmp(e->sqlstate, states[i]) == 0;
    return is && e->code == ERR_SQL;
}

static void add_advice(struct err *e)
{
    const struct err cause = *e;

    err_set(e, cause.code, "%.300s (if the type of a key column was changed, run `pgcdc-lua "
            "trigger action=install` again: keys that were deleted before cannot be read)",
            cause.msg);
    memcpy(e->sqlstate, cause.sqlstate, sizeof e->sqlstate);
}

static void explain(const struct source *s, struct err *e)
{
    if (is_of_type(e))
        add_advice(e);
    if (e->code != ERR_SQL || strstr(e->msg, "pgcdc") == NULL)
        return;
    if (strcmp(e->sqlstate, "42P01") == 0 || strcmp(e->sqlstate, "3F000") == 0)
        (void)!refuse_missing(s, e);
    else if (strcmp(e->sqlstate, "42501") == 0)
        (void)!refuse(s, "this role may not read what the triggers note: run `pgcdc-lua trigger "
                      "action=install` again with readers=", e);
}

static bool check(const struct source *s, struct err *e)
{
    const struct rowtype *rowtype = s->facts.rowtype;
    const struct triggers *t = triggers_of(s);

    if (t->since == 0 || !rowtype->has_stamp)
        return refuse_missing(s, e);
    return triggers_know_key(t, rowtype) ||
           refuse(s, "the triggers note another key than the source's pk: run `pgcdc-lua "
                  "trigger action=install` again, with pk= if it is not the primary key", e);
}

/* The first answer to sql_trigger_health. */
enum { H_NAME, H_ROWS, H_EMPTIED, H_INDEX };

/* One sentence: <name> and what is wrong with it. */
static bool add_notice(struct source *s, const char *name, const char *what, struct err *e)
{
    struct buf text;
    bool ok;

    buf_init(&text, BUF_SQL_MAX);
    buf_printf(&text, "%s%s", name, what);
    ok = buf_ok(&text) ? source_add_notice(s, LOG_WARN, text.data, e) : err_memory(e);
    buf_fini(&text);
    return ok;
}

static bool add_notices_of_leaf(struct source *s, const struct result *leaves, size_t i,
                                struct err *e)
{
    const char *name = result_text(leaves, i, H_NAME);

    if (!result_bool(leaves, i, H_ROWS)) {
        if (!add_notice(s, name, " lacks triggers, or they are disabled: changes of it are missed "
                        "until they are installed", e))
            return false;
    } else if (!result_bool(leaves, i, H_EMPTIED) &&
               !add_notice(s, name, " has no trigger for TRUNCATE, which would go unseen: install "
                           "them again", e)) {
        return false;
    }
    return result_bool(leaves, i, H_INDEX) ||
           add_notice(s, name, " lacks a valid index on " ROWTYPE_STAMP_COLUMN
                      ": each poll reads all of it", e);
}

/* Without equality nobody can tell whether a deleted row's key is in the table again. */
static bool refuse_unequal(const struct source *s, const char *column, const char *type,
                           struct err *e)
{
    return err_set(e, ERR_REFUSED, "%s.%s: column \"%s\" of the key is of type %s, which has no "
                   "operator for equality: capture = \"trigger\" needs another key, see pk",
                   s->facts.table.schema, s->facts.table.name, column, type);
}

static bool check_health(struct source *s, struct conn *conn, struct err *e)
{
    const struct sql_trigger_query q = {
        .query = { .table = &s->facts.table, .rowtype = s->facts.rowtype },
        .xmax = s->facts.snapshot.xmax,
    };
    struct result *rows[3] = { NULL };
    struct buf sql;
    bool ok;

    buf_init(&sql, BUF_SQL_MAX);
    sql_trigger_health(&sql, &q);
    ok = buf_ok(&sql) ? conn_run(conn, sql.data, sql_trigger_health_shapes, rows, 3, e)
                : err_memory(e);
    buf_fini(&sql);
    if (ok && result_count(rows[2]) > 0)
        ok = refuse_unequal(s, result_text(rows[2], 0, 0), result_text(rows[2], 0, 1), e);
    for (size_t i = 0; ok && i < result_count(rows[0]); i++)
        ok = add_notices_of_leaf(s, rows[0], i, e);
    if (ok && result_bool(rows[1], 0, 0))
        ok = add_notice(s, "", "some rows carry stamps that this cluster has not reached, from "
                        "another one: they count as old, until it does", e);
    result_free(rows[0]);
    result_free(rows[1]);
    result_free(rows[2]);
    return ok;
}

static uint64_t announced_as(const struct source *s)
{
    return triggers_of(s)->notifies ? triggers_of(s)->number : 0;
}

/* ---- positions ---- */

static bool holds(const struct position *p)
{
    return p->stamps.is_used;
}

/* The tombstone floor stays where it was, so that tombstones that were not delivered still are. */
static void begin_position(struct source *s, const struct position_stamps *before)
{
    const struct triggers *t = triggers_of(s);
    uint64_t floor = s->position.horizon.floor;

    if (before->is_used && before->tombstone_floor < floor)
        floor = before->tombstone_floor;
    if (floor < t->pruned)
        floor = t->pruned;
    if (t->since != 0 && !source_counts_keys(s)) /* else the poll that takes over counts first */
        s->position.stamps = (struct position_stamps){ true, t->since, floor };
}

/* The source looks for deletes by another method from now on: reads what the last poll by triggers
 * needs, see begin. */
static bool look_back(struct source *s, struct conn *conn, struct err *e)
{
    return !s->config->deletes || s->position.phase != POSITION_POLL ||
           triggers_ask(s->own, &s->facts.table, conn, e);
}

/* True if the notes of the triggers tell all that happened since the position. */
static bool has_notes(const struct source *s)
{
    const struct triggers *t = triggers_of(s);

    return t->since == s->position.stamps.since && s->facts.rowtype->has_stamp &&
           triggers_know_key(t, s->facts.rowtype);
}

/* Deletes since the last poll by triggers cannot be told. False: the source looks for deletes by
 * another method from now on, and the table must be read again, *why: why. */
static bool check_lost(struct source *s, const char **why)
{
    static const char lost[] = "the triggers that noted deletes since the last poll were removed "
                               "or installed anew";
    struct err ignored;
    char text[256];

    if (s->config->deletes && s->config->start == CONFIG_START_SNAPSHOT) {
        *why = s->position.phase == POSITION_POLL
                   ? lost : "the first read by triggers was not over";
        return false;
    }
    snprintf(text, sizeof text, "%s: deletes since then are not told", lost);
    if (s->config->deletes && !source_add_notice(s, LOG_WARN, text, &ignored))
        return true; /* no memory for it: the next step says so */
    source_forget_polled(s);
    position_forget_resume_points(&s->position);
    s->position.stamps = (struct position_stamps){ 0 };
    return true;
}

/* If the triggers were dropped or installed anew, the position is one of xmins from now on. */
static bool check_position(struct source *s, const char **why)
{
    if (!has_notes(s))
        return check_lost(s, why);
    *why = "deletes that were not read yet were pruned";
    return s->position.stamps.tombstone_floor >= triggers_of(s)->pruned;
}

static bool stays(const struct source *s)
{
    return s->declared == &method_trigger;
}

/* True if triggers were installed or dropped: the position must be handed over. */
static bool wants_poll(const struct source *s)
{
    return s->position.stamps.is_used != (triggers_of(s)->since != 0);
}

/* ---- rows ---- */

/* What stands before the fields of a row in the COPYs of sql_trigger.h. */
struct head {
    uint32_t xmin;  /* 0 of a tombstone */
    uint64_t later; /* of a tombstone: the xid of the next one of its key; 0: none */
    uint64_t stamp; /* 0: none */
    enum sql_trigger_line line;
};

static bool is_tombstone(const struct head *head)
{
    return head->line == SQL_TRIGGER_TOMBSTONE || head->line == SQL_TRIGGER_EMPTY;
}

static bool parse_head(const char **p, const char *end, struct head *head)
{
    uint64_t first, line;

    if (!copytext_read_u64(p, end, &first))
        return false;
    head->stamp = 0;
    if (!copytext_skip_null(p, end) && !copytext_read_u64(p, end, &head->stamp))
        return false;
    if (!copytext_read_u64(p, end, &line) || line > SQL_TRIGGER_EMPTY)
        return false;
    head->line = (enum sql_trigger_line)line;
    head->later = is_tombstone(head) ? first : 0;
    head->xmin = is_tombstone(head) ? 0 : (uint32_t)first;
    return true;
}

/* Reads the head. *horizon_xid: the xid by which the horizon tells whether the row is new, its
 * stamp or, in a position of xmins, its xmin. An xmin in doubt makes it METHOD_LEAVE. */
static bool take_head(const struct source *s, struct method_row *row, struct head *head,
                      uint64_t *horizon_xid, struct err *e)
{
    bool is_doubtful;

    if (!parse_head(&row->p, row->end, head))
        return method_fail_row(e);
    if (head->stamp >= s->facts.snapshot.xmax)
        head->stamp = 0; /* one that this cluster has not reached is from another */
    row->xid = horizon_widen_visible(head->xmin, &s->facts.snapshot, &s->facts.in_doubt,
                                     &is_doubtful);
    *horizon_xid = row->xid;
    row->is_tombstone = is_tombstone(head);
    if (s->position.stamps.is_used || row->is_tombstone) {
        is_doubtful = false;
        *horizon_xid = head->stamp;
        if (head->stamp > 0)
            row->xid = head->stamp;
    }
    row->fate = is_doubtful ? METHOD_LEAVE : METHOD_DELIVER;
    return true;
}

/* In the poll by xmin that takes over, remembers the stamp of a row that was delivered now or
 * before: it will count as seen. */
static bool learn_stamp(struct method_step *step, const struct head *head)
{
    return step->hand_over != METHOD_TAKES || head->stamp == 0 ||
           xidset_add(&step->there, head->stamp);
}

static bool take_range(const struct source *s, struct method_step *step, struct method_row *row,
                       struct err *e)
{
    struct head head;
    uint64_t horizon_xid = 0;

    (void)step;
    if (!take_head(s, row, &head, &horizon_xid, e))
        return false;
    row->is_old = true;
    if (row->fate == METHOD_DELIVER && horizon_xid >= s->position.horizon.floor)
        row->fate = METHOD_SKIP;
    return true;
}

static bool take_reread(const struct source *s, struct method_step *step, struct method_row *row,
                        struct err *e)
{
    struct head head;
    uint64_t horizon_xid = 0;

    (void)step;
    if (!take_head(s, row, &head, &horizon_xid, e))
        return false;
    row->is_old = true;
    if (row->fate == METHOD_LEAVE || horizon_is_new(&s->position.horizon, horizon_xid))
        row->fate = METHOD_SKIP;
    return true;
}

static bool take_leaf(const struct source *s, struct method_step *step, struct method_row *row,
                      struct err *e)
{
    struct head head;
    uint64_t horizon_xid = 0;

    if (!take_head(s, row, &head, &horizon_xid, e))
        return false;
    if (row->fate == METHOD_LEAVE)
        return true;
    row->is_old = !horizon_is_new(&s->position.horizon, horizon_xid);
    return (learn_stamp(step, &head) &&
            (row->is_old || xidset_add(&step->delivered, row->xid))) || err_memory(e);
}

/* The xids whose tombstones were told. */
static const struct xidset *told_deletes(const struct source *s)
{
    const struct position_stamps *stamps = &s->position.stamps;

    return !stamps->is_used && stamps->tombstone_floor > 0 ? &s->restored_seen
                                                           : &s->position.horizon.seen;
}

static bool take_row(const struct source *s, struct method_step *step, struct method_row *row,
                     struct err *e)
{
    const struct horizon *h = &s->position.horizon;
    struct step *own = step->own;
    struct head head;
    uint64_t horizon_xid = 0;
    bool is_new;

    if (!take_head(s, row, &head, &horizon_xid, e))
        return false;
    if (row->fate == METHOD_LEAVE)
        return true;
    is_new = row->is_tombstone ? !xidset_has(told_deletes(s), horizon_xid)
                               : head.line == SQL_TRIGGER_ROW && horizon_is_new(h, horizon_xid);
    own->empty += is_new && head.line == SQL_TRIGGER_EMPTY;
    if (!is_new || head.line == SQL_TRIGGER_EMPTY ||
        (head.later > 0 && !xidset_has(told_deletes(s), head.later)))
        row->fate = METHOD_SKIP; /* not new, or a later tombstone of this poll has the same key */
    return (learn_stamp(step, &head) && (!is_new || xidset_add(&step->delivered, row->xid))) ||
           err_memory(e);
}

static bool take_xid(const struct source *s, struct method_step *step, struct method_row *row,
                     struct err *e)
{
    struct head head;
    uint64_t horizon_xid = 0;

    if (!take_head(s, row, &head, &horizon_xid, e))
        return false;
    if (row->fate == METHOD_LEAVE)
        return true;
    row->fate = METHOD_SKIP;
    return horizon_xid < s->position.horizon.floor || xidset_add(&step->there, horizon_xid) ||
           err_memory(e);
}

/* ---- steps ---- */

static void put_range(const struct source *s, const struct method_extent *extent, struct buf *sql)
{
    const struct sql_query q = method_query(s);

    sql_trigger_range(sql, &q, extent->leaf, extent->block, extent->end);
}

static void put_reread(const struct source *s, const struct method_extent *extent, struct buf *sql)
{
    method_put_reread_by(sql_trigger_range, s, extent, sql);
}

static void put_leaf(const struct source *s, const struct method_extent *extent, struct buf *sql)
{
    const struct sql_query q = method_query(s);

    sql_trigger_leaf(sql, &q, extent->leaf);
}

static void put_xids(const struct source *s, const struct method_extent *extent, struct buf *sql)
{
    const struct sql_trigger_query q = query(s);

    (void)extent;
    sql_trigger_xids(sql, &q, &s->position);
}

static void put_poll(const struct source *s, const struct method_extent *extent, struct buf *sql)
{
    const struct sql_trigger_query q = query(s);

    (void)extent;
    sql_trigger_poll(sql, &q, &s->position);
}

static void put_take_over(const struct source *s, const struct method_extent *extent,
                          struct buf *sql)
{
    const struct sql_trigger_query q = query(s);

    (void)extent;
    sql_trigger_take_over(sql, &q, &s->position);
}

static const struct method_copy poll = { .put = put_poll, .take = take_row };
static const struct method_copy take_over = {
    .put = put_take_over, .take = take_row, .reads_all = true,
};

/* The poll that takes over counts keys, and so finds deletes by itself: adds the xids of their
 * tombstones to <there>, so that these are not told as well. */
static bool learn_tombstones(const struct source *s, struct method_step *step, struct conn *conn,
                             struct err *e)
{
    const struct sql_trigger_query q = query(s);
    struct result *rows = NULL;
    struct buf sql;
    bool ok;

    buf_init(&sql, BUF_SQL_MAX);
    sql_trigger_tombstone_xids(&sql, &q, s->position.horizon.floor);
    ok = buf_ok(&sql) ? conn_run(conn, sql.data, &sql_trigger_xids_shape, &rows, 1, e)
                      : err_memory(e);
    buf_fini(&sql);
    for (size_t i = 0; ok && i < result_count(rows); i++) {
        if (i > 0 && result_u64(rows, i, 0) <= result_u64(rows, i - 1, 0))
            ok = err_set(e, ERR_ANSWER, "the server's xids of deletes have no order");
        else
            ok = xidset_add(&step->there, result_u64(rows, i, 0)) || err_memory(e);
    }
    result_free(rows);
    return ok;
}

static bool begin(struct source *s, struct method_step *step, struct conn *conn, struct err *e)
{
    step->copy = step->hand_over == METHOD_TAKES ? &take_over : &poll;
    step->is_held = step->hand_over != METHOD_STAYS;
    step->learns_all = step->hand_over == METHOD_GIVES;
    return step->hand_over != METHOD_TAKES || !source_counts_keys(s) ||
           learn_tombstones(s, step, conn, e);
}

static bool rise(struct source *s, struct err *e)
{
    (void)e;
    if (s->position.stamps.is_used)
        s->position.stamps.tombstone_floor = s->position.horizon.floor;
    return true;
}

/* Adds a notice if <empty>, the number of tombstones without a key, is not 0. */
static bool tell_of_empty(struct source *s, uint64_t empty, struct err *e)
{
    char text[256];

    if (empty == 0)
        return true;
    snprintf(text, sizeof text, "%" PRIu64 " deletes cannot be told, since a column of the key was "
             "dropped before `pgcdc-lua trigger action=install` ran again: compare what you have "
             "with the table", empty);
    return source_add_notice(s, LOG_WARN, text, e);
}

static bool advance(struct source *s, struct method_step *step, struct err *e)
{
    const struct step *own = step->own;

    if (!tell_of_empty(s, own->empty, e))
        return false;
    /* the stamps of rows that are left to the next poll are not known yet */
    if (step->hand_over == METHOD_TAKES && !step->has_left &&
        (step->is_counted || !source_counts_keys(s))) {
        if (!xidset_add_all(&step->delivered, &step->there))
            return err_memory(e);
        s->position.stamps.is_used = true;
        s->position.stamps.since = triggers_of(s)->since;
        s->position.is_learned = false; /* tombstones tell what is deleted from now on */
    }
    if (step->hand_over == METHOD_GIVES && step->is_counted) {
        bool ok = method_move_horizon(s, step, e);

        s->position.stamps = (struct position_stamps){ 0 };
        return ok;
    }
    return method_move_horizon(s, step, e) && rise(s, e);
}

const struct method method_trigger = {
    .capture = CONFIG_BY_TRIGGER,
    .report = ", by triggers",
    .by_index = true,
    .source_size = sizeof(struct triggers),
    .source_fini = fini_source,
    .put_facts = put_facts,
    .read_facts = read_facts,
    .facts_shape = &sql_trigger_installed_shape,
    .explain = explain,
    .check = check,
    .check_health = check_health,
    .put_try = method_put_try,
    .announced_as = announced_as,
    .holds = holds,
    .begin_position = begin_position,
    .look_back = look_back,
    .check_position = check_position,
    .stays = stays,
    .wants_poll = wants_poll,
    .step_size = sizeof(struct step),
    .range = { .put = put_range, .take = take_range },
    .reread = { .put = put_reread, .take = take_reread },
    .leaf = { .put = put_leaf, .take = take_leaf, .reads_all = true },
    .xids = { .put = put_xids, .take = take_xid },
    .begin = begin,
    .advance = advance,
    .rise = rise,
};
