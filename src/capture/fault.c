/* fault.c -- whether a position still means what it says.
 * SPDX-License-Identifier: MIT */
#include "capture/fault.h"

#include "capture/alter.h"
#include "capture/declared.h"
#include "capture/method.h"
#include "capture/snapshot.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the facts ---- */

/* Checks what the method needs, each time, and the health of the table, once for this number of
 * leaves. */
static bool check(struct source *s, struct conn *conn, struct err *e)
{
    const struct method *m = s->declared;
    size_t n = s->facts.table.n_leaves;

    if (s->config->is_joint && !s->facts.table.has_xmin)
        return err_set(e, ERR_REFUSED, "%s.%s: its rows have no xmin and are read page by page, so "
                       "they cannot be of one moment with other tables: leave it out of together",
                       s->facts.table.schema, s->facts.table.name);
    if (m->check != NULL && !m->check(s, e))
        return false;
    if (m->check_health == NULL || (s->is_checked && s->checked_leaves == n))
        return true;
    if (!m->check_health(s, conn, e))
        return false;
    s->is_checked = true;
    s->checked_leaves = n;
    return true;
}

static bool begin(struct source *s, struct conn *conn, bool with_sizes, struct err *e)
{
    const struct method *m = s->declared;
    struct result *answer = NULL;
    struct buf more;
    struct begin_request request = {
        .config = s->config,
        .with_sizes = with_sizes,
        .snapshot = s->snapshot,
        .by_value = m->without_xmin != NULL,
        .by_index = m->by_index,
        .column = s->position.increment.column,
        .locked = s->locked,
        .n_locked = s->n_locked,
        .leader = s->leader != NULL ? &s->leader->facts : NULL,
        .answer = &answer,
    };
    bool ok;

    buf_init(&more, BUF_SQL_MAX);
    if (m->put_facts != NULL) {
        m->put_facts(s, &more);
        request.more = more.data;
        request.shape = m->facts_shape;
    }
    if (!buf_ok(&more))
        ok = err_memory(e);
    else
        ok = begin_transaction(&s->facts, conn, &request, e);
    buf_fini(&more);
    if (!ok && m->explain != NULL)
        m->explain(s, e);
    if (ok && m->read_facts != NULL && !m->read_facts(s, answer, e)) {
        conn_rollback(conn);
        ok = false;
    }
    result_free(answer);
    return ok;
}

bool fault_look(struct source *s, struct conn *conn, bool with_sizes, struct err *e)
{
    if (!begin(s, conn, with_sizes, e))
        return false;
    if (check(s, conn, e))
        return true;
    conn_rollback(conn);
    return false;
}

/* ---- what the facts mean for the position ---- */

/* An unflushed floor must be guarded against a crash until it is flushed. */
static uint64_t lsn_to_flush(const struct identity *id)
{
    return id->in_recovery || id->lsn <= id->flush_lsn ? 0 : id->lsn;
}

static void forget_seen(struct source *s)
{
    source_forget_polled(s);
    xidset_fini(&s->position.horizon.seen);
    increment_forget(&s->position.increment, s->position.horizon.floor);
    position_forget_resume_points(&s->position);
    s->durable.n = 0;
}

/* Makes the position a fresh one, at <floor>, from the facts of the open transaction. Its phase was
 * set by the caller. */
static void begin_position(struct source *s, uint64_t floor)
{
    const struct method *m = method_of_table(s);
    struct position *p = &s->position;
    const struct position_stamps before = p->stamps;

    forget_seen(s);
    increment_fini(&p->increment);
    pages_fini(&p->pages);
    logical_end(&p->logical);
    p->stamps = (struct position_stamps){ 0 };
    position_forget_done(p);
    reread_fini(&p->reread); /* the whole table is read */
    free(p->declared);
    p->declared = NULL;
    s->durable = (struct horizon_durable){ 0 };
    p->horizon.floor = floor;
    p->floor_lsn = lsn_to_flush(&s->facts.identity);
    p->hint_xid = p->hint_lsn = 0;
    if (s->hints.rule.read_to != s->hints.rule.lsn) /* it has forgotten what was below the floor */
        hints_drop(&s->hints.rule);
    p->table = s->facts.table.oid;
    p->rows = 0;
    if (m->begin_position != NULL)
        m->begin_position(s, &before);
}

/* A first read in one poll: no leaf is known, so that all of them are new. <brings_all>: all rows,
 * and not just what differs. */
static bool begin_whole(struct source *s, bool brings_all, enum fault_news *news, struct err *e)
{
    *news = FAULT_STARTS;
    if (!position_set_leaves(&s->position, 0))
        return err_memory(e);
    s->position.phase = POSITION_SNAPSHOT;
    begin_position(s, s->facts.snapshot.xmin);
    s->position.reads += source_counts_keys(s);
    s->is_ready = s->is_impatient = false;
    return source_add_notice(s, LOG_INFO, "the table is read whole, in one transaction", e) &&
           (!brings_all || source_add_reading(s, e));
}

/* The facts may have been read without sizes, which only a first read in ranges needs: reads them
 * again in a new transaction, so that snapshot, lock and sizes belong together. */
static bool begin_snapshot(struct source *s, struct conn *conn, enum fault_news *news,
                           struct err *e)
{
    /* with deletes a table that is read again brings only what differs from what is known; by
     * triggers nothing is known */
    bool is_first = s->position.phase == POSITION_NONE;
    bool brings_all = is_first || !s->config->deletes || s->knows_no_keys ||
                      s->position.stamps.is_used;
    char *text;

    s->knows_no_keys = false;
    if (s->config->is_joint)
        return begin_whole(s, brings_all, news, e);
    *news = FAULT_STARTS;
    conn_rollback(conn);
    if (!fault_look(s, conn, true, e) || !source_know_leaves(s, e))
        return false;
    if ((text = strdup(s->facts.snapshot.text)) == NULL)
        return err_memory(e);
    s->position.phase = POSITION_SNAPSHOT;
    s->position.is_learned = s->position.is_learned || (is_first && s->config->counts_first);
    begin_position(s, s->facts.snapshot.xmin);
    /* where no transaction was under way the snapshot's rows are all that there is, and the first
     * poll need not look unless something commits meanwhile */
    if (s->facts.snapshot.xmin == s->facts.snapshot.xmax && !position_owes_tombstones(&s->position))
        s->polled = text;
    else
        free(text);
    s->position.reads += source_counts_keys(s);
    s->is_ready = s->is_impatient = false;
    return !brings_all || source_add_reading(s, e);
}

static bool begin_anew(struct source *s, struct conn *conn, const char *why,
                       enum fault_news *news, struct err *e)
{
    char text[256];

    snprintf(text, sizeof text, "%s: the table is read again from its start", why);
    return source_add_notice(s, LOG_WARN, text, e) && begin_snapshot(s, conn, news, e);
}

static bool begin_first(struct source *s, struct conn *conn, enum fault_news *news, struct err *e)
{
    const struct horizon_snapshot *now = &s->facts.snapshot;
    uint64_t xid = s->config->start_xid;

    switch (s->config->start) {
    case CONFIG_START_SNAPSHOT:
        return begin_snapshot(s, conn, news, e);
    case CONFIG_START_NOW:
        s->position.phase = POSITION_POLL;
        begin_position(s, now->xmin);
        *news = FAULT_STARTS_NOW;
        break;
    case CONFIG_START_XID:
        if (!s->facts.table.has_xmin)
            return err_set(e, ERR_REFUSED, "%s.%s: its rows have no transaction ids to start at",
                           s->facts.table.schema, s->facts.table.name);
        if (xid < now->xmax && now->xmax - xid > HORIZON_MAX_AGE)
            return err_set(e, ERR_REFUSED,
                           "start = %" PRIu64 " is more than two thousand million transactions "
                           "ago, too far to compare: use start = \"snapshot\"", xid);
        s->position.phase = POSITION_POLL;
        begin_position(s, xid);
        s->position.floor_lsn = 0;
        *news = FAULT_STARTS;
        break;
    }
    return source_know_leaves(s, e);
}

static bool fail_other(const char *why, struct err *e)
{
    return err_set(e, ERR_STATE,
                   "the kept position belongs to %s than the one that answers: connect to the "
                   "right one, use another state file, or forget the position with --reset", why);
}

/* The method of the position checks it, and may make it one of xmins. False: the table must be read
 * again, *why: why; or <e> says what failed, *why is NULL. */
static bool check_position(struct source *s, struct conn *conn, const char **why, struct err *e)
{
    const struct method *m = method_that_holds(&s->position);
    uint64_t xmax = s->facts.snapshot.xmax;

    *why = NULL;
    if (!method_look_back(s, conn, e))
        return false;
    if (m->check_position != NULL && !m->check_position(s, why))
        return false;
    m = method_that_holds(&s->position);
    *why = "too many transactions have passed since the last poll";
    return m->oldest_xid == NULL || xmax <= m->oldest_xid(&s->position) + HORIZON_MAX_AGE;
}

/* True if changes are read from the log. To read the table again would leave out those that come
 * before. */
static bool comes_by_log(const struct source *s)
{
    const struct method *m = method_that_holds(&s->position);

    return m == &method_logical && m == s->declared;
}

/* The columns may be others than those that the position knows: reads the table again if rows that
 * were delivered have other values now, see alter.h. */
static bool check_columns(struct source *s, struct conn *conn, enum fault_news *news,
                          struct err *e)
{
    struct position *p = &s->position;
    struct alter_news found;
    char text[320];

    if (p->columns != NULL && s->facts.is_new_rowtype &&
        !alter_set_former(s->facts.rowtype, p->columns))
        return err_memory(e);
    if (!alter_find(s, conn, method_that_holds(p) == &method_xmin, &found, e))
        return false;
    if (*found.why == '\0')
        return true;
    if (comes_by_log(s) && !found.is_other_key) {
        snprintf(text, sizeof text, "%s; rows do not come again because of that, since the log has "
                 "only what is written", found.why);
        return source_add_notice(s, LOG_WARN, text, e);
    }
    if (s->config->start == CONFIG_START_SNAPSHOT) {
        s->knows_no_keys = found.is_other_key;
        return begin_anew(s, conn, found.why, news, e);
    }
    snprintf(text, sizeof text, "%s; rows do not come again because of that, since the source did "
             "not begin with the rows that were there", found.why);
    return source_add_notice(s, LOG_WARN, text, e);
}

/* Another server answers, or an older state of it. *is_over: the table is to be read again. */
static bool check_failover(struct source *s, struct conn *conn, char *why, size_t size,
                           bool *is_over, struct err *e)
{
    const struct method *m = method_that_holds(&s->position);
    bool outlives = false;

    if (m->outlives != NULL && s->position.phase == POSITION_POLL &&
        !m->outlives(s, conn, &outlives, why, size, e))
        return false;
    *is_over = !outlives;
    if (!outlives)
        return true;
    source_forget_polled(s);
    return source_add_notice(s, LOG_WARN, "the timeline changed: a failover; the slot is there, and"
                             " the log goes on", e);
}

/* The fault table: brings the position in line with the server that answers now. */
static bool check_server(struct source *s, struct conn *conn, enum fault_news *news, struct err *e)
{
    struct position *p = &s->position;
    const struct identity *now = &s->facts.identity;
    enum identity_verdict verdict;
    const char *lost;
    char why[200];
    bool is_over;

    if (p->phase == POSITION_NONE)
        return begin_first(s, conn, news, e);
    verdict = identity_compare(&p->identity, now, why, sizeof why);
    if (verdict != IDENTITY_SAME)
        log_floor_forget(&s->log_floor);
    switch (verdict) {
    case IDENTITY_OTHER:
        return fail_other(why, e);
    case IDENTITY_BEHIND:
        if (s->is_impatient)
            return begin_anew(s, conn, "the standby does not come to where we were", news, e);
        return err_set(e, ERR_BEHIND, "%s", why);
    case IDENTITY_FAILED_OVER:
        if (!check_failover(s, conn, why, sizeof why, &is_over, e))
            return false;
        if (!is_over)
            break;
        if (p->stamps.is_used) /* any tombstone may be of a row that was deleted in between */
            p->stamps.tombstone_floor = 1;
        return begin_anew(s, conn, why, news, e);
    case IDENTITY_CRASHED:
        if (p->floor_lsn != 0)
            return begin_anew(s, conn, "the server crashed before the start was safely on its disk",
                              news, e);
        if (p->horizon.seen.n > 0 && !source_add_notice(s, LOG_INFO, why, e))
            return false;
        forget_seen(s);
        break;
    case IDENTITY_PROMOTED:
        source_forget_polled(s);
        if (!source_add_notice(s, LOG_INFO, why, e))
            return false;
        break;
    case IDENTITY_SAME:
        break;
    }
    if (p->table != s->facts.table.oid)
        return begin_anew(s, conn, "the table was dropped and created again, or swapped", news, e);
    if (!check_position(s, conn, &lost, e))
        return lost != NULL && begin_anew(s, conn, lost, news, e);
    return declared_check(s, e) && check_columns(s, conn, news, e);
}

/* If the snapshot has the same text as at the newest poll, nothing has committed anywhere in the
 * cluster. On a standby that text lists no xids, so the LSN up to which it has replayed is compared
 * too. */
static bool is_unchanged_since(const struct source *s)
{
    const struct identity *then = &s->position.identity, *now = &s->facts.identity;

    return s->position.phase == POSITION_POLL && s->polled != NULL &&
           s->position.n_resume_points == 0 && strcmp(s->polled, s->facts.snapshot.text) == 0 &&
           strcmp(then->started, now->started) == 0 && strcmp(then->stats, now->stats) == 0 &&
           then->in_recovery == now->in_recovery &&
           (now->in_recovery ? then->lsn == now->lsn : then->lsn <= now->lsn);
}

bool fault_glance(struct source *s, struct conn *conn, bool *is_unchanged, struct err *e)
{
    *is_unchanged = false;
    s->glance_lsn = 0;
    if (s->position.phase != POSITION_POLL && !s->config->is_joint)
        return true;
    if (!begin_glance(&s->facts, conn, e))
        return false;
    s->glance_lsn = s->facts.identity.lsn;
    *is_unchanged = is_unchanged_since(s);
    return true;
}

bool fault_take_glance(struct source *s, const struct begin_facts *now, bool *is_unchanged,
                       struct err *e)
{
    if (!begin_share(&s->facts, now, false, e))
        return false;
    s->glance_lsn = s->facts.identity.lsn;
    *is_unchanged = is_unchanged_since(s);
    return true;
}

/* The facts could not be read, perhaps because another cluster answers, which lacks the table: then
 * <e> says so. Returns false. */
static bool fail_stranger(struct source *s, struct conn *conn, struct err *e)
{
    char why[128];
    struct err own;

    if (e->code == ERR_SQL && s->position.phase != POSITION_NONE &&
        begin_identify(&s->facts, conn, &own) &&
        identity_compare(&s->position.identity, &s->facts.identity, why, sizeof why) ==
        IDENTITY_OTHER)
        return fail_other(why, e);
    return false;
}

bool fault_begin(struct source *s, struct conn *conn, enum fault_news *news, struct err *e)
{
    enum position_phase phase = s->position.phase;
    /* the transaction of several sources cannot be begun anew when one of them finds that it must
     * know sizes */
    bool with_sizes = phase == (s->config->is_joint ? POSITION_SNAPSHOT : POSITION_NONE) ||
                      snapshot_wants_sizes(&s->position.reread);

    *news = FAULT_GOES_ON;
    if (!fault_look(s, conn, with_sizes, e))
        return fail_stranger(s, conn, e);
    if (!s->config->is_joint && snapshot_has_moved(s)) {
        conn_rollback(conn);
        if (!fault_look(s, conn, true, e))
            return false;
    }
    if (!check_server(s, conn, news, e)) {
        conn_rollback(conn);
        return false;
    }
    source_keep_identity(s);
    return source_add_schema(s, e) && source_check_resume_points(s, e);
}

void fault_forget_start(struct source *s)
{
    source_forget_polled(s);
    position_fini(&s->position);
    s->position = (struct position){ 0 };
}

void fault_end_snapshot(struct source *s)
{
    s->position.phase = POSITION_POLL;
}
