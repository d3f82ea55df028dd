/* fault.c -- where a source stands, against what the server says.
 * SPDX-License-Identifier: MIT */
#include "capture/fault.h"

#include "capture/sql_increment.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void fault_init(struct source *s, const struct config *config, size_t number)
{
    *s = (struct source){ .config = config, .number = number };
}

void fault_fini(struct source *s)
{
    struct message *b;

    while ((b = fault_take_word(s)) != NULL)
        message_free(b);
    begin_facts_fini(&s->facts);
    position_fini(&s->position);
    free(s->polled);
    s->polled = NULL;
}

bool fault_restore(struct source *s, const struct position *kept)
{
    position_fini(&s->position);
    s->durable = (struct horizon_durable){ .xmax = kept->identity.durable_xmax,
                                   .lsn = kept->identity.durable_lsn };
    return position_copy(&s->position, kept);
}

/* ---- words ---- */

struct message *fault_take_word(struct source *s)
{
    return queue_list_is_empty(&s->words) ? NULL : message_of(queue_list_take(&s->words));
}

static bool add_notice(struct source *s, enum log_level level, const char *text, struct err *e)
{
    struct message *b = message_new(MESSAGE_NOTICE, s->number);

    if (b == NULL)
        return err_memory(e);
    b->notice.level = level;
    err_set(&b->notice.err, ERR_NONE, "%s", text);
    queue_list_push(&s->words, &b->item);
    return true;
}

bool fault_add_notice(struct source *s, enum log_level level, const char *text,
                      struct err *e)
{
    return add_notice(s, level, text, e);
}

static bool add_schema_word(struct source *s, struct err *e)
{
    struct position *p = &s->position;
    const char *now = s->facts.rowtype->signature;
    char *copy;

    if (p->signature != NULL && strcmp(p->signature, now) == 0)
        return true;
    if ((copy = strdup(now)) == NULL)
        return err_memory(e);
    if (p->signature != NULL) {
        struct message *b = message_new(MESSAGE_SCHEMA, s->number);

        if (b == NULL || (b->schema.new_signature = strdup(now)) == NULL) {
            message_free(b);
            free(copy);
            return err_memory(e);
        }
        b->schema.old_signature = p->signature; /* moves */
        queue_list_push(&s->words, &b->item);
    }
    p->signature = copy;
    return true;
}

bool fault_add_ready(struct source *s, struct err *e)
{
    struct message *b;

    if (s->is_ready)
        return true;
    s->is_ready = true;
    if ((b = message_new(MESSAGE_READY, s->number)) == NULL)
        return err_memory(e);
    queue_list_push(&s->words, &b->item);
    return true;
}

/* ---- the facts ---- */

/* What is wrong with the triggers, a notice for each line. */
static bool add_faults(struct source *s, char *faults, struct err *e)
{
    for (char *line = faults, *end; *line != '\0'; line = end + 1) {
        if ((end = strchr(line, '\n')) == NULL)
            break;
        *end = '\0';
        if (!add_notice(s, LOG_WARN, line, e))
            return false;
    }
    return true;
}

/* Says which leaves lack the index that windows go by; once, and again for others. */
static bool check_indexes(struct source *s, struct conn *conn, struct err *e)
{
    const struct sql_increment_query q = {
        .query = { .table = &s->facts.table },
        .column = s->config->column,
    };
    struct result *rows = NULL;
    char text[256];
    struct buf sql;
    bool ok;

    if (s->indexed_leaves == s->facts.table.n_leaves || !s->facts.table.has_xmin)
        return true;
    buf_init(&sql, BUF_SQL_MAX);
    sql_increment_health(&sql, &q);
    ok = buf_ok(&sql) ? conn_run(conn, sql.data, &rows, 1, e) : err_memory(e);
    buf_fini(&sql);
    for (int i = 0; ok && i < result_count(rows); i++) {
        snprintf(text, sizeof text, "%.100s has no index that begins with \"%.60s\": each poll "
                 "reads all of it", result_text(rows, i, 0), s->config->column);
        ok = add_notice(s, LOG_WARN, text, e);
    }
    result_free(rows);
    if (ok)
        s->indexed_leaves = s->facts.table.n_leaves;
    else
        conn_rollback(conn);
    return ok;
}

bool fault_look(struct source *s, struct conn *conn, bool with_sizes, struct err *e)
{
    struct buf faults;
    bool ok;

    ok = begin_transaction(&s->facts, conn, s->config, with_sizes, s->position.increment.column, e);
    if (s->config->capture == CONFIG_BY_INCREMENT)
        return ok && check_indexes(s, conn, e);
    if (s->config->capture != CONFIG_BY_TRIGGER)
        return ok;
    if (!ok) {
        stamps_explain(&s->facts, e);
        return false;
    }
    buf_init(&faults, BUF_SQL_MAX);
    ok = stamps_check(&s->stamps, conn, &s->facts, &faults, e) &&
         (faults.len == 0 || add_faults(s, faults.data, e));
    buf_fini(&faults);
    if (!ok)
        conn_rollback(conn);
    return ok;
}

/* ---- what the facts mean for the position ---- */

/* An unflushed floor must be guarded against a crash until it is flushed. */
static uint64_t lsn_to_flush(const struct identity *id)
{
    return id->in_recovery || id->lsn <= id->flush_lsn ? 0 : id->lsn;
}

/* Rows that leave with their partition leave no tombstones. */
static bool tell_of_gone_leaves(struct source *s, struct err *e)
{
    const struct position *p = &s->position;
    size_t gone = 0;
    char text[128];

    for (size_t i = 0; i < p->n_leaves; i++)
        gone += relation_leaf(&s->facts.table, p->leaves[i].oid) == NULL;
    if (gone == 0 || p->phase != POSITION_POLL || !p->stamps.is_used)
        return true;
    snprintf(text, sizeof text, "%zu of the partitions were detached or dropped: no deletes come "
             "for their rows", gone);
    return add_notice(s, LOG_WARN, text, e);
}

bool fault_know_leaves(struct source *s, struct err *e)
{
    const struct relation *t = &s->facts.table;

    if (!tell_of_gone_leaves(s, e))
        return false;
    if (!position_set_leaves(&s->position, t->n_leaves))
        return err_memory(e);
    for (size_t i = 0; i < t->n_leaves; i++)
        s->position.leaves[i] = (struct position_leaf){ .oid = t->leaves[i].oid,
                                               .filenode = t->leaves[i].filenode,
                                               .blocks = t->leaves[i].blocks };
    return true;
}

static void forget_polled(struct source *s)
{
    free(s->polled);
    s->polled = NULL;
}

static void forget_seen(struct source *s)
{
    forget_polled(s);
    xidset_fini(&s->position.horizon.seen);
    increment_forget(&s->position.increment, s->position.horizon.floor);
    position_forget_resume_points(&s->position);
    s->durable.n = 0;
}

/* The horizon is one of stamps from now on (or never, where there are no triggers). Where there was
 * one before, tombstones that were not delivered still are to be. */
static void set_stamps(struct position *p, const struct stamp_marks *marks)
{
    uint64_t floor = p->horizon.floor;

    if (p->stamps.is_used && p->stamps.tombstone_floor < floor)
        floor = p->stamps.tombstone_floor;
    if (floor < marks->pruned)
        floor = marks->pruned;
    p->stamps = (struct position_stamps){ 0 };
    if (marks->since != 0)
        p->stamps = (struct position_stamps){ true, marks->since, floor };
}

/* Takes a fresh horizon from the snapshot of the open transaction. */
static void set_horizon(struct source *s, uint64_t floor)
{
    forget_seen(s);
    increment_fini(&s->position.increment);
    pages_fini(&s->position.pages);
    s->position.pages.is_used = !s->facts.table.has_xmin;
    position_forget_done(&s->position);
    s->durable = (struct horizon_durable){ 0 };
    s->position.horizon.floor = floor;
    set_stamps(&s->position, &s->facts.marks);
    s->position.floor_lsn = lsn_to_flush(&s->facts.identity);
    s->position.table = s->facts.table.oid;
    s->position.rows = 0;
}

/* The facts was made without sizes, which only a snapshot needs: asks again
 * inside a new transaction, so that snapshot, lock and sizes belong together. */
static bool begin_snapshot(struct source *s, struct conn *conn, enum fault_news *news,
                           struct err *e)
{
    *news = FAULT_STARTS;
    conn_rollback(conn);
    if (!fault_look(s, conn, true, e) || !fault_know_leaves(s, e))
        return false;
    set_horizon(s, s->facts.snapshot.xmin);
    /* where nobody was under way the snapshot's rows are all that there is, and the first poll
     * need not look unless something commits meanwhile */
    if (s->facts.snapshot.xmin == s->facts.snapshot.xmax &&
        (!s->position.stamps.is_used ||
         s->position.stamps.tombstone_floor == s->position.horizon.floor) &&
        (s->polled = strdup(s->facts.snapshot.text)) == NULL)
        return err_memory(e);
    s->position.reads += s->config->deletes;
    s->position.phase = POSITION_SNAPSHOT;
    s->is_ready = s->is_impatient = false;
    return true;
}

static bool begin_anew(struct source *s, struct conn *conn, const char *why,
                       enum fault_news *news, struct err *e)
{
    char text[256];

    snprintf(text, sizeof text, "%s: the table is read again from its start", why);
    return add_notice(s, LOG_WARN, text, e) && begin_snapshot(s, conn, news, e);
}

static bool begin_first(struct source *s, struct conn *conn, enum fault_news *news, struct err *e)
{
    const struct horizon_snapshot *now = &s->facts.snapshot;
    uint64_t xid = s->config->start_xid;

    switch (s->config->start) {
    case CONFIG_START_SNAPSHOT:
        return begin_snapshot(s, conn, news, e);
    case CONFIG_START_NOW:
        set_horizon(s, now->xmin);
        s->position.pages.is_silent = s->position.pages.is_used;
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
        set_horizon(s, xid);
        s->position.floor_lsn = 0;
        *news = FAULT_STARTS;
        break;
    }
    s->position.phase = POSITION_POLL;
    return fault_know_leaves(s, e);
}

static bool fail_other(const char *why, struct err *e)
{
    return err_set(e, ERR_STATE,
                   "the kept position belongs to %s than the one that answers: connect to the "
                   "right one, use another state file, or forget the position with --reset", why);
}

/* A horizon of stamps goes on if they are of the same triggers; of xmins, which is what it is else,
 * any horizon can be one, since no xid is below its transaction's. False: tombstones that were not
 * delivered are gone. */
static bool judge_stamps(struct source *s)
{
    struct position *p = &s->position;

    if (!p->stamps.is_used)
        return true;
    if (p->stamps.since != s->facts.marks.since) {
        forget_polled(s);
        position_forget_resume_points(p);
        p->stamps = (struct position_stamps){ 0 };
        return true;
    }
    return p->stamps.tombstone_floor >= s->facts.marks.pruned;
}

/* The oldest xid that a poll may ask for by its age. */
static uint64_t oldest_asked(const struct position *p)
{
    return p->increment.column != NULL ? p->increment.since : p->horizon.floor;
}

/* The fault table: brings the position in line with who answers now. */
static bool judge(struct source *s, struct conn *conn, enum fault_news *news, struct err *e)
{
    struct position *p = &s->position;
    const struct identity *now = &s->facts.identity;
    char why[128];

    if (p->phase == POSITION_NONE)
        return begin_first(s, conn, news, e);
    switch (identity_judge(&p->identity, now, why, sizeof why)) {
    case IDENTITY_OTHER:
        return fail_other(why, e);
    case IDENTITY_BEHIND:
        if (s->is_impatient)
            return begin_anew(s, conn, "the standby does not come to where we were", news, e);
        return err_set(e, ERR_BEHIND, "%s", why);
    case IDENTITY_FAILED_OVER:
        if (p->stamps.is_used) /* any tombstone may be of a row that went in between */
            p->stamps.tombstone_floor = 1;
        return begin_anew(s, conn, why, news, e);
    case IDENTITY_CRASHED:
        if (p->floor_lsn != 0)
            return begin_anew(s, conn, "the server crashed before the start was safely on its disk",
                              news, e);
        if (p->horizon.seen.n > 0 && !add_notice(s, LOG_INFO, why, e))
            return false;
        forget_seen(s);
        break;
    case IDENTITY_PROMOTED:
        forget_polled(s);
        if (!add_notice(s, LOG_INFO, why, e))
            return false;
        break;
    case IDENTITY_SAME:
        break;
    }
    if (p->table != s->facts.table.oid)
        return begin_anew(s, conn, "the table was dropped and created again, or swapped", news, e);
    if (!judge_stamps(s))
        return begin_anew(s, conn, "deletes that were not read yet were pruned", news, e);
    if (!p->stamps.is_used && !p->pages.is_used &&
        s->facts.snapshot.xmax > oldest_asked(p) + HORIZON_MAX_AGE)
        return begin_anew(s, conn, "too many transactions have passed since the last poll", news,
                          e);
    return true;
}

/* Notes who answered, and what of it a crash cannot take back. */
void fault_keep_identity(struct source *s)
{
    struct identity *id = &s->facts.identity;

    if (id->in_recovery) {
        /* read behind the snapshot, it may count commits that the snapshot does not show */
        if (s->glance_lsn != 0 && s->glance_lsn < id->lsn)
            id->lsn = s->glance_lsn;
        s->durable = (struct horizon_durable){ .xmax = s->facts.snapshot.xmax, .lsn = id->lsn };
    } else {
        horizon_add_durable(&s->durable, s->facts.snapshot.xmax, id->lsn);
        horizon_flush_durable(&s->durable, id->flush_lsn);
    }
    if (s->position.floor_lsn != 0 && id->flush_lsn >= s->position.floor_lsn)
        s->position.floor_lsn = 0;
    id->durable_xmax = s->durable.xmax;
    id->durable_lsn = s->durable.lsn;
    s->position.identity = *id;
}

uint64_t fault_durable_bound(const struct source *s)
{
    return s->position.identity.in_recovery ? HORIZON_UNBOUNDED : s->durable.xmax;
}

/* Leaves that are gone are forgotten: should one come back, it is a new one. */
static void forget_gone_leaves(struct source *s)
{
    struct position *p = &s->position;
    size_t n = 0;

    for (size_t i = 0; i < p->n_leaves; i++)
        if (relation_leaf(&s->facts.table, p->leaves[i].oid) != NULL)
            p->leaves[n++] = p->leaves[i];
    p->n_leaves = n;
}

/* VACUUM FULL and CLUSTER move rows to other blocks with their old xids. */
static bool has_moved(const struct position_leaf *leaf, const struct relation_leaf *now)
{
    return now != NULL && now->filenode != leaf->filenode;
}

/* Only then the sizes of the new files are wanted, together with all else: in one transaction. */
static bool some_have_moved(const struct source *s)
{
    const struct position *p = &s->position;

    for (size_t i = 0; p->phase == POSITION_SNAPSHOT && i < p->n_leaves; i++)
        if (has_moved(&p->leaves[i], relation_leaf(&s->facts.table, p->leaves[i].oid)))
            return true;
    return false;
}

bool fault_check_leaves(struct source *s, struct err *e)
{
    struct position *p = &s->position;

    forget_gone_leaves(s);
    for (size_t i = 0; i < p->n_leaves; i++) {
        struct position_leaf *leaf = &p->leaves[i];
        const struct relation_leaf *now = relation_leaf(&s->facts.table, leaf->oid);
        char text[256];

        if (!has_moved(leaf, now))
            continue;
        snprintf(text, sizeof text, "%.100s was rewritten while it was read: it is read again "
                 "from its start", now->name);
        if (p->done.leaf == leaf->oid)
            position_forget_done(p);
        if (leaf->next > 0 &&
            !add_notice(s, LOG_WARN, text, e))
            return false;
        *leaf = (struct position_leaf){ .oid = now->oid, .filenode = now->filenode,
                                        .blocks = now->blocks };
    }
    return true;
}

/* Is there nothing to read? If the snapshot is the same text as at the last poll, nothing has
 * committed anywhere in the cluster. A standby lists nobody: there what it replayed counts too. */
bool fault_glance(struct source *s, struct conn *conn, bool *unchanged, struct err *e)
{
    const struct identity *then = &s->position.identity, *now = &s->facts.identity;

    *unchanged = false;
    s->glance_lsn = 0;
    if (s->position.phase != POSITION_POLL)
        return true;
    if (!begin_glance(&s->facts, conn, e))
        return false;
    s->glance_lsn = now->lsn;
    *unchanged = s->polled != NULL &&
                 s->position.stamps.is_used == (s->facts.marks.since != 0) &&
                 s->position.n_resume_points == 0 &&
                 strcmp(s->polled, s->facts.snapshot.text) == 0 &&
                 strcmp(then->started, now->started) == 0 && strcmp(then->stats, now->stats) == 0 &&
                 then->in_recovery == now->in_recovery &&
                 (now->in_recovery ? then->lsn == now->lsn : then->lsn <= now->lsn);
    return true;
}

/* The facts failed: perhaps because another cluster answers, which lacks the table. */
static bool fail_stranger(struct source *s, struct conn *conn, struct err *e)
{
    char why[128];
    struct err own;

    if (e->code == ERR_SQL && s->position.phase != POSITION_NONE &&
        begin_identify(&s->facts, conn, &own) &&
        identity_judge(&s->position.identity, &s->facts.identity, why, sizeof why) ==
        IDENTITY_OTHER)
        return fail_other(why, e);
    return false;
}

bool fault_begin(struct source *s, struct conn *conn, enum fault_news *news, struct err *e)
{
    bool is_new = s->position.phase == POSITION_NONE;

    *news = FAULT_GOES_ON;
    if (!fault_look(s, conn, is_new, e))
        return fail_stranger(s, conn, e);
    if (some_have_moved(s)) {
        conn_rollback(conn);
        if (!fault_look(s, conn, true, e))
            return false;
    }
    if (!judge(s, conn, news, e)) {
        conn_rollback(conn);
        return false;
    }
    fault_keep_identity(s);
    return add_schema_word(s, e);
}
