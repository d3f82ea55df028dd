/* reread_step.c -- what a user wants to be read again: the wish, and its ranges between polls.
 * SPDX-License-Identifier: MIT */
#include "capture/reread_step.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Why rows cannot be read again; NULL: they can. */
static const char *why_not(const struct source *s)
{
    const struct method *m = method_of(s);

    if (m->reread.put == NULL)
        return "rows without an xmin are not read again; --reset=SOURCE begins anew";
    return m->why_no_reread != NULL ? m->why_no_reread(s) : NULL;
}

bool reread_step_ask(struct source *s, const char *where, struct err *e)
{
    struct reread *r = &s->position.reread;

    if (s->position.phase != POSITION_POLL)
        return err_set(e, ERR_REFUSED, "its rows are being read for the first time");
    if (why_not(s) != NULL)
        return err_set(e, ERR_REFUSED, "%s", why_not(s));
    if (reread_is_due(r))
        return err_set(e, ERR_REFUSED, "rows are being read again already%s%.500s",
                       *r->where != '\0' ? ", where " : "", r->where);
    s->has_tried_where = false;
    s->reread_wait = (struct source_reread){ .waits = true, .lsn = UINT64_MAX };
    r->where = strdup(where);
    return r->where != NULL || err_memory(e);
}

bool reread_step_is_due(const struct source *s)
{
    const struct position *p = &s->position;
    const struct method *m = method_of(s);

    return reread_is_due(&p->reread) && p->phase == POSITION_POLL && p->n_resume_points == 0 &&
           m->reread.put != NULL && (m->may_reread == NULL || m->may_reread(s));
}

bool reread_step_try(struct source *s, struct conn *conn, struct err *e)
{
    struct sql_query q = method_query(s);
    uint32_t type;
    struct buf sql;
    char *where;
    size_t n;
    bool ok;

    if (s->has_tried_where)
        return true;
    where = method_reread_where(s, &ok);
    q.where = where;
    buf_init(&sql, BUF_SQL_MAX);
    sql_try(&sql, &q);
    ok = (ok && buf_ok(&sql)) || err_memory(e);
    s->has_tried_where = ok = ok && conn_describe(conn, sql.data, &type, 1, &n, e);
    buf_fini(&sql);
    free(where);
    return ok;
}

/* True if ranges were read. */
static bool has_progress(const struct reread *r)
{
    uint64_t done, total;

    reread_progress(r, &done, &total);
    return done > 0;
}

bool reread_step_advance(struct source *s, const struct snapshot_range *range, struct err *e)
{
    const struct method *m = method_of(s);
    bool is_told = s->reread_wait.is_told;
    char text[80];

    s->reread_wait.is_told = true;
    if (!is_told && !has_progress(&s->position.reread) &&
        !source_add_reread(s, "is read again", e))
        return false;
    if (m->end_reread != NULL)
        m->end_reread(s);
    if (!snapshot_advance_again(&s->position, range))
        return true;
    snprintf(text, sizeof text, "was read again: %" PRIu64 " rows", s->position.reread.rows);
    reread_fini(&s->position.reread);
    return source_add_reread(s, text, e);
}

void reread_step_drop(struct source *s)
{
    reread_fini(&s->position.reread);
    position_forget_done(&s->position);
}
