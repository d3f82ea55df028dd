/* method_logical.c -- capture = "logical": changes are read from the server's log.
 *
 * The first read is that of xmins, and so is the poll that hands its position over (logical.h).
 * Then the stream (stream.h) brings the changes, and a step only reads facts. For the way back the
 * horizon follows the log (log_floor.h).
 *
 * SPDX-License-Identifier: MIT */
#include "capture/method.h"

#include "base/clock.h"
#include "capture/complete_plan.h"
#include "capture/log_keys.h"
#include "capture/logical_facts.h"
#include "capture/reread_log.h"
#include "capture/slot_errors.h"
#include "capture/slot_mark.h"
#include "pg/lsn.h"
#include "pg/replication.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef METHOD_LOGICAL_LOOK_MS
#define METHOD_LOGICAL_LOOK_MS 10000 /* from one look at the facts to the next, at most */
#endif
#define PAGE_HEAD 64 /* at the beginning of a page the server skips so much at most */

/* What is kept of a source. */
struct own {
    struct logical_facts now;
    /* of the slot that was made last, until the position was handed over: */
    struct slot_mark mark;
    uint64_t published_before; /* <published>, as it was read before */
    struct log_keys keys; /* while partitions or rows are read that the log may bring */
    /* of the partitions that are read, see log_leaves.h: */
    bool is_sure;
    bool is_again;  /* the one in hand was known, and detached */
    bool is_odd;    /* it has a row that cannot be there */
};

static void fini_source(void *own)
{
    struct own *log = own;

    slot_mark_fini(&log->mark);
    log_keys_fini(&log->keys);
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

static bool read_facts(struct source *s, const struct result *r, struct err *e)
{
    return logical_facts_read(&log_of(s)->now, s, r, e);
}

static bool check(const struct source *s, struct err *e)
{
    return logical_facts_check(&log_of(s)->now, s, e);
}

static void explain(const struct source *s, struct err *e)
{
    slot_errors_explain(s->config, NULL, e);
    if (s->snapshot != NULL && e->code == ERR_SQL) /* who has exported it is perhaps not there */
        log_of(s)->mark.lsn = 0;
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
    return !holds(&s->position) || !stays(s) || s->log_leaves.due_lsn != 0 ||
           s->log_leaves.met_lsn != 0 ||
           (reread_is_due(&s->position.reread) && s->reread_wait.lsn == UINT64_MAX);
}

/* Once more after the step that was made just now, also where `interval` is longer. */
static int64_t due_ms(const struct source *s)
{
    return stays(s) ? clock_mono_ms() + METHOD_LOGICAL_LOOK_MS : INT64_MAX;
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

    if (!log->now.is_published || !log->now.has_all_ops || log->now.is_filtered)
        return "the publication does not have all changes of the table any more";
    return log->now.published == s->position.logical.published
               ? NULL
               : "the publication was altered, and may have lacked changes of the table";
}

/* Why it cannot be told which rows of new partitions to read; NULL: it can, or there are none. */
static const char *why_unread(const struct source *s)
{
    if (!log_leaves_has_new(&s->log_leaves, &s->position))
        return NULL;
    if (log_of(s)->now.version < 150000)
        return "a partition is new, and has rows";
    return log_keys_can_tell(s->facts.rowtype)
               ? s->log_leaves.doubt
               : "a partition is new, and the key does not tell its rows apart";
}

/* Why the log cannot bring what follows the position; NULL: it can. */
static const char *why_lost(const struct source *s)
{
    const struct logical *l = &s->position.logical;
    const struct own *log = log_of(s);

    if (strcmp(l->slot, s->config->slot) != 0)
        return "the source names another slot";
    if (!log->now.has_slot)
        return "the slot is not there any more";
    if (log->now.is_lost)
        return "the slot is lost, since it held too much of the log";
    if (log->now.confirmed > l->lsn)
        return "the slot was moved by somebody else, or the state file is an old one";
    if (why_unpublished(s) != NULL)
        return why_unpublished(s);
    if (log->now.has_child)
        return "a table is new that inherits from this one, and may have rows";
    return why_unread(s);
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
    if (!stays(s) || now->timeline == then->timeline || now->in_recovery || !log->now.has_slot ||
        log->now.is_lost || strcmp(l->slot, s->config->slot) != 0 || log->now.confirmed > l->lsn ||
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
             "since then are %s", lost, (unsigned long long)s->position.horizon.floor,
             s->position.is_learned ? "found by the rows that are kept" : "not known");
    if (!source_add_notice(s, LOG_WARN, text, &ignored))
        return true; /* no memory for it: the next step says so */
    source_forget_polled(s);
    if (strcmp(s->position.logical.slot, s->config->slot) != 0 && !tell_of_slot(s, &ignored))
        return true;
    /* of a transaction that was seen, a part may be unseen */
    if (why_unpublished(s) != NULL || why_unread(s) != NULL)
        xidset_fini(&s->position.horizon.seen);
    s->log_leaves.is_stale = why_unread(s) != NULL;
    s->log_leaves.doubt = NULL;
    s->log_leaves.due_lsn = s->log_leaves.met_lsn = 0;
    logical_end(&s->position.logical);
    return true;
}

/* ---- the slot ---- */

/* True if the position is to be handed over, and may be: it says which slot is ours. */
static bool is_handing_over(const struct source *s)
{
    const struct position *p = &s->position;

    return p->phase == POSITION_POLL && !holds(p) && log_of(s)->now.is_known &&
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
    log->published_before = log->now.published;
    s->snapshot = request.keeps ? log->mark.name : NULL;
    return true;
}

/* ---- steps ---- */

/* The position is to name the slot before that is made, so that nobody else's is dropped. */
static bool name_slot(struct source *s, struct err *e)
{
    char *copy;

    if (log_of(s)->now.has_slot && !s->has_slot)
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
    /* the slot may be another one now, or lost, or the position became one of xmins in this step */
    if (log->mark.lsn == 0 || !log->now.has_slot || log->now.is_lost ||
        log->now.confirmed > log->mark.lsn || log->now.published != log->published_before ||
        (s->snapshot != NULL && log->now.is_moved) ||
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

/* ---- partitions that are new, see log_leaves.h ---- */

static bool is_new_leaf(const struct source *s, uint32_t oid)
{
    return holds(&s->position) && stays(s)
               ? log_leaves_is_new(&s->log_leaves, &s->position, oid)
               : position_leaf(&s->position, oid) == NULL;
}

static bool tell_of_leaves(struct source *s, struct err *e)
{
    size_t n_new = 0, n_again = 0;
    char text[200];

    for (size_t i = 0; i < s->facts.table.n_leaves; i++) {
        uint32_t oid = s->facts.table.leaves[i].oid;

        if (is_new_leaf(s, oid))
            *(position_leaf(&s->position, oid) == NULL ? &n_new : &n_again) += 1;
    }
    snprintf(text, sizeof text, "%zu partitions were attached with rows, which are read", n_new);
    if (n_new > 0 && !source_add_notice(s, LOG_INFO, text, e))
        return false;
    snprintf(text, sizeof text, "%zu partitions were detached and attached again: their rows that "
             "are new are read; deletes meanwhile are not known", n_again);
    return n_again == 0 || source_add_notice(s, LOG_WARN, text, e);
}

/* Nobody can tell which rows to read. The next step goes by xmin. */
static bool fail_doubt(struct source *s, const char *why, struct err *e)
{
    s->log_leaves.doubt = why;
    err_set(e, ERR_SQL, "%s", why);
    memcpy(e->sqlstate, "40001", 6);
    return false;
}

static bool begin_leaves(struct source *s, struct method_step *step, struct conn *conn,
                         struct err *e)
{
    struct own *log = log_of(s);

    step->is_held = true;
    log->is_odd = false;
    if (!log_keys_read(&log->keys, s, s->log_leaves.lsn, conn, e))
        return false;
    if (log->keys.is_full)
        return fail_doubt(s, "a partition is new, and not all is known of what came since", e);
    if (log->keys.is_truncated && !log->is_sure)
        return fail_doubt(s, "a partition is new, and the table was truncated since", e);
    return tell_of_leaves(s, e);
}

static void put_leaf(const struct source *s, const struct method_extent *extent, struct buf *sql)
{
    log_of(s)->is_again = position_leaf(&s->position, extent->leaf->oid) != NULL;
    method_put_leaf(s, extent, sql);
}

/* True if the log brings the row, or a version of it that comes later. *is_odd: it would have to,
 * if the partition had been attached once only. */
static bool is_in_log(const struct own *log, const struct log_keys_item *key,
                      const struct method_row *row, const char *fields, bool *is_odd)
{
    if (key == NULL || (key->is_deleted && log->is_sure))
        return false;
    *is_odd = !log->is_sure &&
              (key->is_deleted ||
               (key->xid != (uint32_t)row->xid &&
                key->row != log_keys_hash_row(fields, (size_t)(row->end - fields))));
    return true;
}

/* Of what the partition had when it was attached. */
static bool take_leaf(const struct source *s, struct method_step *step, struct method_row *row,
                      struct err *e)
{
    struct own *log = log_of(s);
    const struct log_keys_item *key;
    const char *fields;
    bool ok, is_odd = false;

    if (step->hand_over != METHOD_STAYS)
        return method_take_leaf(s, step, row, e);
    if (!method_take_xmin(s, row, false, e))
        return false;
    row->fate = METHOD_DELIVER;
    row->is_old = true;
    fields = row->p;
    key = log_keys_find_row(&log->keys, s, &fields, row->end, &ok);
    if (!ok)
        return method_fail_row(e);
    if ((log->is_again && row->xid < s->position.horizon.floor) ||
        is_in_log(log, key, row, fields, &is_odd))
        row->fate = METHOD_SKIP;
    log->is_odd = log->is_odd || is_odd;
    return true;
}

static bool begin(struct source *s, struct method_step *step, struct conn *conn, struct err *e)
{
    switch (step->hand_over) {
    case METHOD_TAKES:
        return begin_taking(s, step, conn, e);
    case METHOD_GIVES:
        step->is_held = step->learns_all = true;
        if (log_leaves_has_new(&s->log_leaves, &s->position)) /* as in check_position */
            xidset_fini(&s->position.horizon.seen);
        return tell_of_slot(s, e) && method_xmin.begin(s, step, conn, e);
    case METHOD_STAYS:
        log_keys_fini(&log_of(s)->keys);
        if (log_leaves_are_due(&s->log_leaves, &s->position, &log_of(s)->is_sure))
            return begin_leaves(s, step, conn, e);
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
    /* the log tells what is deleted from now on, but has old rows only with that identity */
    s->position.is_learned = s->position.is_learned && s->config->keeps_old &&
                             log->now.identity != 'f';
    log_leaves_know_all(&s->log_leaves, &s->position);
    /* what the log brings after its own snapshot, that does not show */
    if (!logical_begin(&s->position.logical, log->mark.lsn, s->facts.snapshot.text,
                       s->snapshot != NULL ? log->mark.lsn : s->facts.identity.lsn,
                       log->published_before))
        return err_memory(e);
    forget_slot(s);
    return true;
}

/* Those that are new are empty, or were read. */
static bool follow_leaves(struct source *s, struct err *e)
{
    bool is_same = s->facts.table.n_leaves == s->position.n_leaves;

    for (size_t i = 0; i < s->facts.table.n_leaves; i++)
        is_same = is_same && position_leaf(&s->position, s->facts.table.leaves[i].oid) != NULL;
    if (!is_same && !source_know_leaves(s, e))
        return false;
    log_leaves_know_all(&s->log_leaves, &s->position);
    return true;
}

/* ---- what is read again ---- */

static bool may_reread(const struct source *s)
{
    return holds(&s->position) && stays(s) && reread_log_is_due(s);
}

static bool begin_reread(struct source *s, const struct method_extent *extent, struct conn *conn,
                         bool *is_ready, struct err *e)
{
    *is_ready = false; /* the position may have become one of xmins in this step */
    return !may_reread(s) || reread_log_begin(&log_of(s)->keys, s, extent, conn, is_ready, e);
}

static bool take_reread(const struct source *s, struct method_step *step, struct method_row *row,
                        struct err *e)
{
    (void)step;
    return reread_log_take(&log_of(s)->keys, s, row, e);
}

static void end_reread(struct source *s)
{
    reread_log_end(&log_of(s)->keys, s);
}

/* ---- ends of steps ---- */

/* The step has read facts, and perhaps partitions. */
static bool go_on(struct source *s, const struct method_step *step, struct err *e)
{
    char *text;

    if (log_of(s)->is_odd)
        return fail_doubt(s, "a partition was attached, and perhaps more than once", e);
    log_keys_fini(&log_of(s)->keys);
    if (s->reread_wait.lsn == UINT64_MAX)
        s->reread_wait.lsn = s->facts.identity.lsn;
    if (step->is_idle && s->log_leaves.due_lsn != 0)
        return true; /* they are yet to be read */
    text = strdup(s->facts.snapshot.text);
    if (text == NULL)
        return err_memory(e);
    source_forget_polled(s);
    s->polled = text;
    /* (the LSN was read after the snapshot; that of the identity may be older) */
    log_floor_note(&s->log_floor, s->facts.snapshot.xmin,
                   s->log_leaves.lsn + s->facts.identity.in_recovery);
    log_floor_rise(&s->log_floor, s->position.logical.lsn, &s->position.horizon);
    return follow_leaves(s, e);
}

/* Also what rows of the log lack is asked for. */
static void put_try(const struct source *s, struct buf *sql)
{
    method_put_try(s, sql);
    complete_plan_put_try(s, sql);
}

/* The stream may be behind what has committed: only log_floor.h knows. */
static bool may_rise(const struct source *s)
{
    return !holds(&s->position);
}

static bool advance(struct source *s, struct method_step *step, struct err *e)
{
    switch (step->hand_over) {
    case METHOD_TAKES:
        return take_over(s, step, e);
    case METHOD_GIVES:
        logical_fini(&s->position.logical);
        return method_move_horizon(s, step, e);
    case METHOD_STAYS:
        break;
    }
    return go_on(s, step, e);
}

const struct method method_logical = {
    .capture = CONFIG_BY_LOGICAL,
    .report = ", by the log",
    .source_size = sizeof(struct own),
    .source_fini = fini_source,
    .put_facts = logical_facts_put,
    .read_facts = read_facts,
    .facts_shape = &logical_facts_shape,
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
    .due_ms = due_ms,
    .range = { .put = method_put_range, .take = method_take_range },
    .reread = { .put = method_put_reread, .take = take_reread },
    .may_reread = may_reread,
    .why_no_reread = reread_log_why_not,
    .begin_reread = begin_reread,
    .end_reread = end_reread,
    .leaf = { .put = put_leaf, .take = take_leaf },
    .is_new_leaf = is_new_leaf,
    .xids = { .put = method_put_xids, .take = method_take_xid },
    .begin = begin,
    .advance = advance,
    .may_rise = may_rise,
};
