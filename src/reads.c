/* reads.c -- what a step of capture reads: the COPY, and its rows' xids. floor 2
 * SPDX-License-Identifier: MIT */
#include "reads.h"

#include "census.h"

bool reads_by_trigger(const struct standing *s)
{
    return s->config->capture == BY_TRIGGER;
}

bool reads_stamps(const struct standing *s)
{
    return s->position.stamped_since != 0;
}

const char *reads_setting(const struct reads *r, const struct standing *s, bool has_new_leaves)
{
    if (!reads_by_trigger(s))
        return NULL;
    if (r->is_switch || r->what == READ_LEAF)
        return "SET LOCAL enable_seqscan = on";
    return has_new_leaves ? "SET LOCAL enable_seqscan = off" : NULL;
}

/* ---- statements ---- */

static void put_plain(const struct reads *r, const struct query *q, const struct position *p,
                      const struct leaf_facts *leaf, const unsigned char *asked, struct buf *sql)
{
    switch (r->what) {
    case READ_RANGE:
        query_range(sql, q, table_leaf(q->table, r->leaf), position_leaf(p, r->leaf)->next, r->end);
        return;
    case READ_LEAF:
        query_leaf(sql, q, leaf);
        return;
    case READ_POLL:
        query_poll(sql, q, p);
        return;
    case READ_XMINS:
        query_xmins(sql, q, p);
        return;
    case READ_TALLY:
        query_tally(sql, q);
        return;
    case READ_KEYS:
        query_keys(sql, q, asked);
        return;
    case READ_NOTHING:
        return;
    }
}

static void put_stamped(const struct reads *r, const struct stamp_query *q,
                        const struct position *p, const struct leaf_facts *leaf, struct buf *sql)
{
    switch (r->what) {
    case READ_RANGE:
        query_stamps_range(sql, &q->query, table_leaf(q->query.table, r->leaf),
                           position_leaf(p, r->leaf)->next, r->end);
        return;
    case READ_LEAF:
        query_stamps_leaf(sql, &q->query, leaf);
        return;
    case READ_POLL:
        (r->is_switch ? query_stamps_switch : query_stamps_poll)(sql, q, p);
        return;
    case READ_XMINS:
        query_stamps_xids(sql, q, p);
        return;
    case READ_TALLY: /* triggers tell what is gone */
    case READ_KEYS:
    case READ_NOTHING:
        return;
    }
}

void reads_put(const struct reads *r, const struct standing *s, const struct leaf_facts *leaf,
               const unsigned char *asked, struct buf *sql)
{
    struct stamp_query q = {
        .query = {
            .table = &s->survey.table,
            .shape = s->survey.shape,
            .where = s->config->where,
            .through_root = s->config->rls,
            .with_hash = s->config->deletes,
        },
        .number = s->survey.marks.number,
        .xmax = s->survey.snapshot.xmax,
    };

    if (reads_by_trigger(s))
        put_stamped(r, &q, &s->position, leaf, sql);
    else
        put_plain(r, &q.query, &s->position, leaf, asked, sql);
}

/* ---- rows ---- */

bool reads_parse(const struct reads *r, const struct standing *s, const char **p, const char *end,
                 struct reads_row *row)
{
    const struct horizon *h = &s->position.horizon;
    uint64_t xmax = s->survey.snapshot.xmax;
    struct stamp_row parsed = { .mark = STAMP_ROW };

    if (!(reads_by_trigger(s) ? stamps_parse(p, end, &parsed)
                              : census_read_xmin(p, end, r->what == READ_XMINS, &parsed.xmin)))
        return false;
    /* one that this cluster has not reached is from another */
    row->stamp = parsed.stamp < xmax ? parsed.stamp : 0;
    row->xid = row->judged = horizon_widen(parsed.xmin, xmax);
    if (reads_stamps(s)) {
        row->judged = row->stamp;
        if (row->stamp > 0)
            row->xid = row->stamp;
    }
    row->is_gone = parsed.mark == STAMP_GONE;
    row->is_superseded = row->is_gone && parsed.later > 0 && !xidset_has(&h->seen, parsed.later);
    row->is_new = row->is_gone ? !xidset_has(&h->seen, row->judged)
                               : parsed.mark == STAMP_ROW && horizon_is_new(h, row->judged);
    return true;
}
