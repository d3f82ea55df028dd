/* method.c -- the ways to find changes: the table, and what the methods share.
 * SPDX-License-Identifier: MIT */
#include "capture/method.h"

#include "capture/key_census.h"

#include <stdlib.h>
#include <string.h>

/* The first one that holds a position is its method. The last one holds all. */
static const struct method *const methods[] = {
    &method_pages, &method_increment, &method_trigger, &method_logical, &method_xmin,
};

#define N_METHODS (sizeof methods / sizeof *methods)

/* True if sources name <m>. False: it stands in for one that they name, see without_xmin. */
static bool has_name(const struct method *m)
{
    for (size_t i = 0; i < N_METHODS; i++)
        if (methods[i]->without_xmin == m)
            return false;
    return true;
}

static const struct method *find_declared(const struct config *c)
{
    for (size_t i = 0; i < N_METHODS; i++)
        if (methods[i]->capture == c->capture && has_name(methods[i]))
            return methods[i];
    return &method_xmin;
}

/* Makes room for what <m> keeps of the source. False: out of memory. */
static bool make_own(struct source *s, const struct method *m)
{
    if (s->own_of == m || m->source_size == 0)
        return true;
    s->own = calloc(1, m->source_size);
    s->own_of = s->own != NULL ? m : NULL;
    return s->own != NULL;
}

bool method_init(struct source *s)
{
    s->declared = find_declared(s->config);
    return make_own(s, s->declared);
}

void method_fini(struct source *s)
{
    if (s->own != NULL && s->own_of->source_fini != NULL)
        s->own_of->source_fini(s->own);
    free(s->own);
    s->own = NULL;
    s->own_of = NULL;
}

bool method_look_back(struct source *s, struct conn *conn, struct err *e)
{
    const struct method *m = method_that_holds(&s->position);

    if (m == s->declared || m->look_back == NULL)
        return true;
    return make_own(s, m) ? m->look_back(s, conn, e) : err_memory(e);
}

const struct method *method_of_table(const struct source *s)
{
    return s->facts.table.has_xmin || s->declared->without_xmin == NULL
               ? s->declared
               : s->declared->without_xmin;
}

const struct method *method_that_holds(const struct position *p)
{
    for (size_t i = 0; i < N_METHODS; i++)
        if (methods[i]->holds(p))
            return methods[i];
    return &method_xmin;
}

const struct method *method_of(const struct source *s)
{
    const struct method *m = method_that_holds(&s->position);

    return m != &method_xmin ? m : s->declared;
}

void method_step_fini(struct method_step *step)
{
    if (step->own != NULL && step->method->step_fini != NULL)
        step->method->step_fini(step->own);
    free(step->own);
    xidset_fini(&step->delivered);
    xidset_fini(&step->there);
    *step = (struct method_step){ 0 };
}

static enum method_hand_over hand_over(const struct source *s, const struct method *m)
{
    if (!m->holds(&s->position))
        return METHOD_TAKES;
    return m->stays == NULL || m->stays(s) ? METHOD_STAYS : METHOD_GIVES;
}

bool method_is_new_leaf(const struct method *m, const struct source *s, uint32_t oid)
{
    return m->is_new_leaf != NULL ? m->is_new_leaf(s, oid)
                                  : position_leaf(&s->position, oid) == NULL;
}

bool method_begin(struct source *s, struct method_step *step, struct conn *conn, struct err *e)
{
    const struct relation *t = &s->facts.table;
    const struct method *m = method_of(s);

    step->method = m;
    step->hand_over = hand_over(s, m);
    for (size_t i = 0; i < t->n_leaves && m->leaf.put != NULL; i++)
        if (method_is_new_leaf(m, s, t->leaves[i].oid))
            step->has_new_leaves = true;
    if (m->step_size > 0 && (step->own = calloc(1, m->step_size)) == NULL)
        return err_memory(e);
    return m->begin(s, step, conn, e);
}

/* ---- what the methods share ---- */

struct sql_query method_query(const struct source *s)
{
    return (struct sql_query){
        .table = &s->facts.table,
        .rowtype = s->facts.rowtype,
        .where = s->config->where,
        .through_root = s->config->rls,
        .with_hash = source_has_hashes(s),
    };
}

bool method_move_horizon(struct source *s, struct method_step *step, struct err *e)
{
    char *text = strdup(s->facts.snapshot.text);

    if (text == NULL)
        return err_memory(e);
    source_forget_polled(s);
    if (step->has_left) /* the next poll has to read */
        free(text);
    else
        s->polled = text;
    if (!position_take_resume_points(&s->position, &step->delivered) ||
        !horizon_advance(&s->position.horizon, &s->facts.snapshot, &step->delivered,
                         source_durable_bound(s)))
        return err_memory(e);
    return source_know_leaves(s, e);
}

bool method_start(struct source *s, struct method_step *step, struct err *e)
{
    const struct method *m = method_of(s);

    xidset_fini(&s->position.horizon.seen);
    s->position.horizon.seen = step->there; /* moves */
    step->there = (struct xidset){ 0 };
    step->goes_on = true;
    return method_move_horizon(s, step, e) && (m->rise == NULL || m->rise(s, e));
}

bool method_rise(struct source *s, bool *has_risen, struct err *e)
{
    const struct method *m = method_of(s);
    struct horizon *h = &s->position.horizon;
    const struct xidset nothing = { 0 };
    uint64_t floor = h->floor;
    bool was_guarded = s->position.floor_lsn != 0;

    *has_risen = false;
    if (s->position.identity.in_recovery ||
        (floor >= s->facts.snapshot.xmin && !was_guarded && s->durable.n == 0) ||
        (m->may_rise != NULL && !m->may_rise(s)))
        return true;
    source_keep_identity(s);
    if (!horizon_advance(h, &s->facts.snapshot, &nothing, source_durable_bound(s)))
        return err_memory(e);
    if (m->rise != NULL && !m->rise(s, e))
        return false;
    *has_risen = h->floor != floor || was_guarded != (s->position.floor_lsn != 0);
    return true;
}

bool method_fail_row(struct err *e)
{
    return err_set(e, ERR_ANSWER, "a row of it cannot be read");
}

bool method_take_xmin(const struct source *s, struct method_row *row, bool is_alone,
                      struct err *e)
{
    bool is_doubtful;
    uint32_t xmin;

    if (!key_census_read_xmin(&row->p, row->end, is_alone, &xmin))
        return method_fail_row(e);
    row->xid = horizon_widen_visible(xmin, &s->facts.snapshot, &s->facts.in_doubt, &is_doubtful);
    row->fate = is_doubtful ? METHOD_LEAVE : METHOD_DELIVER;
    return true;
}

void method_put_range(const struct source *s, const struct method_extent *extent, struct buf *sql)
{
    const struct sql_query q = method_query(s);

    sql_range(sql, &q, extent->leaf, extent->block, extent->end);
}

bool method_take_range(const struct source *s, struct method_step *step, struct method_row *row,
                       struct err *e)
{
    (void)step;
    if (!method_take_xmin(s, row, false, e))
        return false;
    row->is_old = true;
    if (row->fate == METHOD_DELIVER && row->xid >= s->position.horizon.floor)
        row->fate = METHOD_SKIP;
    return true;
}

char *method_reread_where(const struct source *s, bool *ok)
{
    const char *own = s->config->where, *asked = s->position.reread.where;
    struct buf b;
    char *where;

    *ok = true;
    if (*asked == '\0' && own == NULL)
        return NULL;
    buf_init(&b, BUF_SQL_MAX);
    if (own != NULL)
        buf_printf(&b, "(%s\n)", own);
    if (*asked != '\0')
        buf_printf(&b, "%s(%s\n)", own != NULL ? " AND " : "", asked);
    where = buf_take(&b);
    *ok = where != NULL;
    return where;
}

void method_put_reread_by(method_put_blocks *put, const struct source *s,
                          const struct method_extent *extent, struct buf *sql)
{
    struct sql_query q = method_query(s);
    bool ok;
    char *where = method_reread_where(s, &ok);

    q.where = where;
    if (ok)
        put(sql, &q, extent->leaf, extent->block, extent->end);
    sql->failed = sql->failed || !ok;
    free(where);
}

void method_put_reread(const struct source *s, const struct method_extent *extent, struct buf *sql)
{
    method_put_reread_by(sql_range, s, extent, sql);
}

/* A row that nobody can tell of is left to the next poll, as one that is new. */
bool method_take_reread(const struct source *s, struct method_step *step, struct method_row *row,
                        struct err *e)
{
    (void)step;
    if (!method_take_xmin(s, row, false, e))
        return false;
    row->is_old = true;
    if (row->fate == METHOD_LEAVE || horizon_is_new(&s->position.horizon, row->xid))
        row->fate = METHOD_SKIP;
    return true;
}

void method_put_try(const struct source *s, struct buf *sql)
{
    const struct sql_query q = method_query(s);

    sql_try(sql, &q);
}

void method_put_leaf(const struct source *s, const struct method_extent *extent, struct buf *sql)
{
    const struct sql_query q = method_query(s);

    sql_leaf(sql, &q, extent->leaf);
}

bool method_take_leaf(const struct source *s, struct method_step *step, struct method_row *row,
                      struct err *e)
{
    if (!method_take_xmin(s, row, false, e))
        return false;
    if (row->fate == METHOD_LEAVE)
        return true;
    row->is_old = !horizon_is_new(&s->position.horizon, row->xid);
    return row->is_old || xidset_add(&step->delivered, row->xid) || err_memory(e);
}

void method_put_xids(const struct source *s, const struct method_extent *extent, struct buf *sql)
{
    const struct sql_query q = method_query(s);

    (void)extent;
    sql_xmins(sql, &q, &s->position);
}

bool method_take_xid(const struct source *s, struct method_step *step, struct method_row *row,
                     struct err *e)
{
    if (!method_take_xmin(s, row, true, e))
        return false;
    if (row->fate == METHOD_LEAVE)
        return true;
    row->fate = METHOD_SKIP;
    return row->xid < s->position.horizon.floor || xidset_add(&step->there, row->xid) ||
           err_memory(e);
}
