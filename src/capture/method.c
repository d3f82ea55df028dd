/* method.c -- what a step of capture reads: the COPY, and its rows' xids.
 * SPDX-License-Identifier: MIT */
#include "capture/method.h"

#include "pg/copytext.h"
#include "capture/key_census.h"

#include <errno.h>
#include <string.h>

bool reads_by_trigger(const struct source *s)
{
    return s->config->capture == CONFIG_BY_TRIGGER;
}

bool reads_values(const struct source *s)
{
    return s->position.increment.column != NULL || s->config->capture == CONFIG_BY_INCREMENT;
}

bool reads_same_column(const struct source *s)
{
    const struct increment *i = &s->position.increment;

    return s->config->capture == CONFIG_BY_INCREMENT && i->column != NULL &&
           strcmp(i->column, s->config->column) == 0 && i->growth == s->facts.growth;
}

struct sql_query reads_query(const struct source *s)
{
    return (struct sql_query){
        .table = &s->facts.table,
        .rowtype = s->facts.rowtype,
        .where = s->config->where,
        .through_root = s->config->rls,
        .with_hash = s->config->deletes,
    };
}

struct sql_increment_query reads_sql_increment(const struct source *s)
{
    const struct increment *i = &s->position.increment;
    bool is_other = i->column != NULL && i->growth != s->facts.growth;

    return (struct sql_increment_query){
        .query = reads_query(s),
        .column = i->column != NULL ? i->column : s->config->column,
        .growth = is_other ? INCREMENT_GROWS_NOT : s->facts.growth,
    };
}

bool reads_stamps(const struct source *s)
{
    return s->position.stamps.is_used;
}

const char *reads_setting(const struct reads *r, const struct source *s, bool has_new_leaves)
{
    if (s->config->capture == CONFIG_BY_XMIN)
        return NULL;
    if (r->is_switch || r->is_recheck || r->what == READ_LEAF)
        return "SET LOCAL enable_seqscan = on";
    return has_new_leaves ? "SET LOCAL enable_seqscan = off" : NULL;
}

/* ---- statements ---- */

static void put_plain(const struct reads *r, const struct sql_query *q, const struct position *p,
                      const struct relation_leaf *leaf, const unsigned char *asked, struct buf *sql)
{
    switch (r->what) {
    case READ_RANGE:
        sql_range(sql, q, relation_leaf(q->table, r->leaf), position_leaf(p, r->leaf)->next,
                  r->end);
        return;
    case READ_LEAF:
        sql_leaf(sql, q, leaf);
        return;
    case READ_POLL:
        sql_poll(sql, q, p);
        return;
    case READ_XMINS:
        sql_xmins(sql, q, p);
        return;
    case READ_TALLY:
        sql_tally(sql, q);
        return;
    case READ_KEYS:
        sql_keys(sql, q, asked);
        return;
    case READ_WINDOW: /* these go by values */
    case READ_PAGE:
    case READ_NOTHING:
        return;
    }
}

static void put_valued(const struct reads *r, const struct sql_increment_query *q,
                       const struct position *p, const struct relation_leaf *leaf, struct buf *sql)
{
    if (r->what == READ_LEAF)
        sql_increment_leaf(sql, q, leaf);
    else if (r->what == READ_PAGE)
        sql_increment_page(sql, q, p);
    else if (r->what == READ_WINDOW)
        sql_increment_window(sql, q, p);
    else if (r->what == READ_POLL)
        sql_increment_recheck(sql, q, p);
    else
        put_plain(r, &q->query, p, leaf, NULL, sql);
}

static void put_stamped(const struct reads *r, const struct sql_trigger_query *q,
                        const struct position *p, const struct relation_leaf *leaf, struct buf *sql)
{
    switch (r->what) {
    case READ_RANGE:
        sql_trigger_range(sql, &q->query, relation_leaf(q->query.table, r->leaf),
                          position_leaf(p, r->leaf)->next, r->end);
        return;
    case READ_LEAF:
        sql_trigger_leaf(sql, &q->query, leaf);
        return;
    case READ_POLL:
        (r->is_switch ? sql_trigger_switch : sql_trigger_poll)(sql, q, p);
        return;
    case READ_XMINS:
        sql_trigger_xids(sql, q, p);
        return;
    case READ_WINDOW: /* these go by values */
    case READ_PAGE:
    case READ_TALLY: /* triggers tell what is gone */
    case READ_KEYS:
    case READ_NOTHING:
        return;
    }
}

/* Do the rows of this step carry a value? */
static bool has_value(const struct reads *r, const struct source *s)
{
    return r->what == READ_WINDOW || r->what == READ_PAGE || r->is_recheck ||
           (r->what == READ_LEAF && reads_values(s));
}

void reads_put(const struct reads *r, const struct source *s, const struct relation_leaf *leaf,
               const unsigned char *asked, struct buf *sql)
{
    const struct sql_increment_query valued = reads_sql_increment(s);
    const struct sql_trigger_query q = {
        .query = valued.query,
        .number = s->facts.marks.number,
        .xmax = s->facts.snapshot.xmax,
    };

    if (has_value(r, s))
        put_valued(r, &valued, &s->position, leaf, sql);
    else if (reads_by_trigger(s))
        put_stamped(r, &q, &s->position, leaf, sql);
    else
        put_plain(r, &q.query, &s->position, leaf, asked, sql);
}

void reads_put_try(const struct source *s, struct buf *sql)
{
    const struct sql_increment_query q = reads_sql_increment(s);

    if (s->facts.table.has_xmin)
        sql_try(sql, &q.query);
    else
        sql_increment_try(sql, &q);
}

/* ---- rows ---- */

/* The value of the column that grows, or \N, and the tab behind it. */
static bool parse_value(const char **p, const char *end, struct reads_row *row)
{
    row->has_value = !copytext_skip_null(p, end);
    return !row->has_value || (copytext_read_i64(p, end, &row->value) && (*p)[-1] == '\t');
}

bool reads_parse(const struct reads *r, const struct source *s, const char **p, const char *end,
                 struct reads_row *row)
{
    const struct horizon *h = &s->position.horizon;
    uint64_t xmax = s->facts.snapshot.xmax;
    struct stamp_row parsed = { .mark = SQL_TRIGGER_ROW };
    bool is_valued = has_value(r, s);

    row->has_value = false;
    if (r->what == READ_PAGE) {
        *row = (struct reads_row){ 0 };
        return parse_value(p, end, row) && row->has_value;
    }
    if (!(reads_by_trigger(s) && !is_valued
              ? stamps_parse(p, end, &parsed)
              : key_census_read_xmin(p, end, r->what == READ_XMINS, &parsed.xmin)) ||
        (is_valued && !parse_value(p, end, row)))
        return false;
    /* one that this cluster has not reached is from another */
    row->stamp = parsed.stamp < xmax ? parsed.stamp : 0;
    row->xid = row->judged = horizon_widen_visible(parsed.xmin, &s->facts.snapshot,
                                                   &s->facts.in_doubt, &row->is_doubtful);
    if (reads_stamps(s)) {
        row->is_doubtful = false;
        row->judged = row->stamp;
        if (row->stamp > 0)
            row->xid = row->stamp;
    }
    row->is_gone = parsed.mark == SQL_TRIGGER_TOMBSTONE;
    row->is_superseded = row->is_gone && parsed.later > 0 && !xidset_has(&h->seen, parsed.later);
    row->is_new = row->is_gone ? !xidset_has(&h->seen, row->judged)
                               : parsed.mark == SQL_TRIGGER_ROW && horizon_is_new(h, row->judged);
    if (r->is_recheck && s->position.increment.column != NULL)
        row->is_new = increment_escaped(&s->position.increment, h, row->xid,
                                        row->has_value ? &row->value : NULL);
    return true;
}
